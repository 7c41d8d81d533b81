//! OpenPGP: certificates and detached signatures.

use jiff::Timestamp;

use crate::trust::Certificate;
use crate::trust::verify_detached;

/// What the signatures of the corpus are of.
const DOCUMENT: &[u8] = b"hello\n";
/// What separates the certificates from the signature in an input: no packet begins so, nor does armor.
const BETWEEN: &[u8] = b"\0----\0";

/// Reads certificates, and a signature behind them.
pub fn signatures(bytes: &[u8]) {
    let at = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN);
    let (keys, signature) = bytes.split_at(at.unwrap_or(bytes.len()));
    let signature = signature.get(BETWEEN.len()..).unwrap_or_default();
    let certificates = Certificate::parse(keys).unwrap_or_default();
    let _ = Certificate::parse_armored(keys);
    for certificate in &certificates {
        let names = certificate.user_ids().concat();
        assert!(!names.contains(char::is_control), "{names:?} speaks to a terminal");
        assert!(certificate.fingerprint().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    let now = Timestamp::from_second(1_800_000_000).unwrap_or_default();
    if verify_detached(&certificates, DOCUMENT, signature, now).is_ok() {
        let other = verify_detached(&certificates, &b"something else"[..], signature, now);
        assert!(other.is_err(), "a signature of everything");
        assert!(verify_detached(&[], DOCUMENT, signature, now).is_err(), "a signature by nobody");
    }
}
