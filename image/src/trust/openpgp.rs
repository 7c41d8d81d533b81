//! OpenPGP signatures (RFC 4880, RFC 9580) against a set of certificates: who made them, and whether that counts.
//!
//! The arithmetic and the packets are the `pgp` crate's; what a valid signature is worth is decided here. A signature
//! counts if
//!
//! * it is over a document, made with a hash that nobody can find collisions for, and by a key of a certificate of ours;
//! * that key is bound to its owner by a self-signature, may sign, has not expired, and was never revoked;
//! * its own time has come and has not passed, and it has no critical part that is not understood.
//!
//! A revoked key counts for nothing, whatever the reason and the dates: who stole it can date signatures back. All of
//! it is checked before the document is read, so that a signature by nobody known costs no reading.

mod certificate;
mod packets;

use std::io::{self, Read};

use jiff::Timestamp;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, Subpacket, SubpacketData};

use certificate::SigningKey;
pub use certificate::{Certificate, KeyError};

/// The longest signature, in bytes, detached or with the payload that it is about.
pub const MAX_SIGNATURE: u64 = 128 << 10;
/// The most signatures in one file.
const MAX_SIGNATURES: usize = 16;
/// How far, in seconds, the clock of whoever signed may be ahead of ours.
const LEEWAY: i64 = 300;

/// Who made a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The fingerprint of the certificate's primary key, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// What the certificate's owner goes by.
    pub user_ids: Vec<String>,
    /// When the signature says it was made.
    pub made: Timestamp,
}

/// A signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    /// No key of ours made it.
    #[error("openpgp: signature made by unknown entity (key {issuer})")]
    UnknownEntity {
        /// The key's id or fingerprint, as the signature has it.
        issuer: String,
    },
    /// There is none.
    #[error("openpgp: there is no signature in it")]
    NoSignature,
    /// What there is, is something else, or broken off.
    #[error("openpgp: this is not a whole signature")]
    Malformed(#[source] Box<pgp::errors::Error>),
    /// Something else than a signature, where one belongs.
    #[error("openpgp: {0} where a signature is expected")]
    Unexpected(String),
    /// Longer than any signature.
    #[error("openpgp: the signature has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// More signatures than anybody makes.
    #[error("openpgp: there are more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// It is about a key, or something else that is no document.
    #[error("openpgp: the signature is not about a document")]
    Kind,
    /// Its hash is weak.
    #[error("openpgp: the signature uses {0}, which can be forged; sign again with SHA256")]
    WeakHash(String),
    /// The key is weak.
    #[error("openpgp: key {key} is too weak: {why}")]
    WeakKey {
        /// The key's fingerprint.
        key: String,
        /// `RSA of fewer than 2048 bits`.
        why: String,
    },
    /// The key's time has passed.
    #[error("openpgp: key {key} expired at {at}")]
    KeyExpired {
        /// The key's fingerprint.
        key: String,
        /// When.
        at: Timestamp,
    },
    /// The key's owner has taken it back.
    #[error("openpgp: key {key} has been revoked")]
    Revoked {
        /// The key's fingerprint.
        key: String,
    },
    /// No valid self-signature says that the key belongs to the certificate.
    #[error("openpgp: key {key} has no valid self-signature")]
    Unbound {
        /// The key's fingerprint.
        key: String,
    },
    /// The key is for encryption, or for certifying other keys.
    #[error("openpgp: key {key} is not for signing")]
    NotForSigning {
        /// The key's fingerprint.
        key: String,
    },
    /// It does not say when it was made.
    #[error("openpgp: the signature does not say when it was made")]
    Undated,
    /// It was made later than now, or before its key was.
    #[error("openpgp: the signature says that it was made at {at}, {why}")]
    Misdated {
        /// When.
        at: Timestamp,
        /// `which has not come yet; is the clock of this host right?`
        why: &'static str,
    },
    /// Its own time has passed.
    #[error("openpgp: the signature expired at {at}")]
    SignatureExpired {
        /// When.
        at: Timestamp,
    },
    /// It says something that must be understood, and is not.
    #[error("openpgp: the signature has a critical part that is not understood")]
    Critical,
    /// It is not a signature of these bytes.
    #[error("openpgp: the signature does not fit the content: one of them has been changed")]
    Bad(#[source] Box<pgp::errors::Error>),
    /// What is signed cannot be read.
    #[error("cannot read what is signed")]
    Read(#[source] io::Error),
}

/// Checks a detached signature, armored or binary, of everything that `content` delivers.
///
/// One of several signatures suffices, the first that could count at all; then that one must be right.
pub(crate) fn verify_detached(
    certificates: &[Certificate],
    mut content: impl Read,
    signature: &[u8],
    now: Timestamp,
) -> Result<Signer, OpenPgpError> {
    let signatures = packets::detached(signature)?;
    let (signature, key) = choose(certificates, &signatures, now)?;
    finish(signature, &key, &mut content)
}

/// Opens a signed message (`gpg --sign`), and returns what it says and who signed it.
pub(crate) fn open_signed(
    certificates: &[Certificate],
    message: &[u8],
    now: Timestamp,
) -> Result<(Vec<u8>, Signer), OpenPgpError> {
    let (payload, signature) = packets::signed(message)?;
    let signatures = [signature];
    let (signature, key) = choose(certificates, &signatures, now)?;
    let signer = finish(signature, &key, &mut payload.as_slice())?;
    Ok((payload, signer))
}

fn finish(
    signature: &Signature,
    key: &SigningKey<'_>,
    content: &mut dyn Read,
) -> Result<Signer, OpenPgpError> {
    let mut content = Watched { inner: content, failure: None };
    let outcome = key.verify(signature, &mut content);
    // Without this, a disk that fails would look like a forgery.
    if let Some(failure) = content.failure {
        return Err(OpenPgpError::Read(failure));
    }
    outcome.map_err(|error| OpenPgpError::Bad(Box::new(error)))?;
    let made = created(signature).ok_or(OpenPgpError::Undated)?;
    Ok(Signer { fingerprint: key.certificate().fingerprint(), user_ids: key.certificate().user_ids(), made })
}

/// The first signature that could count, and its key. If there is none, why the first by a key of ours does not.
fn choose<'a, 'c>(
    certificates: &'c [Certificate],
    signatures: &'a [Signature],
    now: Timestamp,
) -> Result<(&'a Signature, SigningKey<'c>), OpenPgpError> {
    let mut why = None;
    for signature in signatures {
        match candidate(certificates, signature, now) {
            Ok(key) => return Ok((signature, key)),
            Err(error) => match why {
                None | Some(OpenPgpError::UnknownEntity { .. }) => why = Some(error),
                Some(_) => {}
            },
        }
    }
    Err(why.unwrap_or(OpenPgpError::NoSignature))
}

/// The key that made the signature if it says the truth. Everything is checked but that.
fn candidate<'c>(
    certificates: &'c [Certificate],
    signature: &Signature,
    now: Timestamp,
) -> Result<SigningKey<'c>, OpenPgpError> {
    let key = certificates.iter().find_map(|certificate| certificate.issuer(signature));
    let key = key.ok_or_else(|| OpenPgpError::UnknownEntity { issuer: issuer(signature) })?;
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err(OpenPgpError::Kind);
    }
    check_hash(signature)?;
    if signature.config().is_none_or(|config| config.hashed_subpackets().any(is_not_understood)) {
        return Err(OpenPgpError::Critical);
    }
    check_times(signature, &key, now)?;
    key.check(now)?;
    Ok(key)
}

fn issuer(signature: &Signature) -> String {
    match (signature.issuer_fingerprint().first(), signature.issuer_key_id().first()) {
        (Some(fingerprint), _) => format!("{fingerprint:x}"),
        (None, Some(id)) => hex(id.as_ref()),
        (None, None) => "without a name".to_owned(),
    }
}

fn check_hash(signature: &Signature) -> Result<(), OpenPgpError> {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha224, Sha256, Sha384, Sha512};
    match signature.hash_alg() {
        Some(Sha224 | Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512) => Ok(()),
        Some(other) => Err(OpenPgpError::WeakHash(other.to_string())),
        None => Err(OpenPgpError::WeakHash("an unknown hash".to_owned())),
    }
}

/// Of the parts that a signature can mark as critical, some restrict what it means in ways we cannot follow.
fn is_not_understood(part: &Subpacket) -> bool {
    use SubpacketData::{Experimental, Notation, Other, RegularExpression, SignatureTarget};
    let strange = matches!(
        part.data,
        Experimental(..) | Notation(_) | Other(..) | RegularExpression(_) | SignatureTarget(..)
    );
    part.is_critical && strange
}

fn check_times(signature: &Signature, key: &SigningKey<'_>, now: Timestamp) -> Result<(), OpenPgpError> {
    let at = created(signature).ok_or(OpenPgpError::Undated)?;
    if at.as_second() > now.as_second().saturating_add(LEEWAY) {
        let why = "which has not come yet; is the clock of this host right?";
        return Err(OpenPgpError::Misdated { at, why });
    }
    if at < key.created() {
        return Err(OpenPgpError::Misdated { at, why: "before its key was" });
    }
    let span = signature.signature_expiration_time().map_or(0, pgp::types::Duration::as_secs);
    match end(at, span) {
        Some(at) if at <= now => Err(OpenPgpError::SignatureExpired { at }),
        _ => Ok(()),
    }
}

fn created(signature: &Signature) -> Option<Timestamp> {
    signature.created().and_then(time)
}

fn time(at: pgp::types::Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(i64::from(at.as_secs())).ok()
}

/// When something that lasts `span` seconds ends; it lasts for ever if that is 0.
fn end(start: Timestamp, span: u32) -> Option<Timestamp> {
    (span > 0).then(|| Timestamp::from_second(start.as_second() + i64::from(span)).ok()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Remembers why reading failed.
struct Watched<'a> {
    inner: &'a mut dyn Read,
    failure: Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failure = Some(io::Error::new(error.kind(), error.to_string()));
            }
        })
    }
}
