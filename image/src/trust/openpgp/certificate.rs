//! Certificates ("public keys"): a primary key, names, subkeys, and the self-signatures that hold them together.
//!
//! Nothing of a certificate is believed but its primary key, which whoever trusts it has named. Names, expiry, purpose
//! and subkeys count as far as a self-signature by the primary key says so. Self-signatures may use SHA1, with detection
//! of collisions, because keys of ten years ago do: only their owner could profit from a second meaning of one.

use pgp::composed::{Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails, KeyVersion, PublicParams, Tag};

use jiff::Timestamp;

use super::{OpenPgpError, created, end, time};

/// The most bytes of keys that are read at once.
const MAX_KEYS: usize = 4 << 20;
/// What an RSA key of 2048 bits takes at least: modulus, exponent, and two bytes of length for each.
const RSA_2048: usize = 2 + 256 + 2 + 1;

/// A key with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct Certificate(SignedPublicKey);

/// Bytes that are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// They are something else, or a part is missing.
    #[error("this is not a whole OpenPGP public key")]
    Malformed(#[source] Box<pgp::errors::Error>),
    /// Binary, where text is expected.
    #[error("the key is not ASCII-armored; make it so with \"gpg --export --armor\"")]
    Binary,
    /// There is no key.
    #[error("there is no OpenPGP public key in it")]
    None,
    /// More than one, where one is expected.
    #[error("there are {0} keys in it; one is expected")]
    Several(usize),
    /// More than any key has.
    #[error("there are more than {MAX_KEYS} bytes")]
    TooLarge,
}

impl Certificate {
    /// Reads keys, as `gpg --export` writes them, with or without `--armor`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(bytes: &[u8]) -> Result<Vec<Self>, KeyError> {
        let malformed = |error| KeyError::Malformed(Box::new(error));
        match bytes.len() {
            0 => return Err(KeyError::None),
            1..=MAX_KEYS => {}
            _ => return Err(KeyError::TooLarge),
        }
        let (keys, _) = SignedPublicKey::from_reader_many_buf(bytes).map_err(malformed)?;
        let keys = keys.map(|key| key.map(Self)).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    /// Reads one key in ASCII armor.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse_armored(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(KeyError::Binary);
        }
        let mut keys = Self::parse(bytes)?;
        match (keys.pop(), keys.len()) {
            (Some(key), 0) => Ok(key),
            (Some(_), others) => Err(KeyError::Several(others + 1)),
            (None, _) => Err(KeyError::None),
        }
    }

    /// The fingerprint of the primary key, in lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.0.primary_key)
    }

    /// The fingerprints of the subkeys.
    #[must_use]
    pub fn subkeys(&self) -> Vec<String> {
        self.0.public_subkeys.iter().map(|subkey| fingerprint(&subkey.key)).collect()
    }

    /// What the owner goes by, with control characters replaced: it is for people to read on a terminal.
    #[must_use]
    pub fn user_ids(&self) -> Vec<String> {
        let clean = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>()
        };
        self.0.details.users.iter().map(|user| clean(user.id.id())).collect()
    }

    /// Whether the primary key has been revoked by itself.
    #[must_use]
    pub(crate) fn is_revoked(&self) -> bool {
        let primary = &self.0.primary_key;
        let revoked = |signature: &Signature| {
            signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
        };
        self.0.details.revocation_signatures.iter().any(revoked)
    }

    /// The key of this certificate that the signature says it was made by.
    pub(super) fn issuer<'a>(&'a self, signature: &Signature) -> Option<SigningKey<'a>> {
        if names(signature, &self.0.primary_key) {
            return Some(SigningKey { certificate: self, subkey: None });
        }
        let subkey = self.0.public_subkeys.iter().find(|subkey| names(signature, &subkey.key));
        subkey.map(|subkey| SigningKey { certificate: self, subkey: Some(subkey) })
    }

    /// The newest statement of the primary key about itself.
    fn self_signature(&self, now: Timestamp) -> Option<&Signature> {
        let primary = &self.0.primary_key;
        let direct = self.0.details.direct_signatures.iter();
        let direct = direct.filter(|signature| {
            signature.typ() == Some(SignatureType::Key) && signature.verify_key(primary).is_ok()
        });
        let of_names = self.0.details.users.iter().flat_map(|user| {
            let valid = |signature: &&Signature| {
                signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
            };
            let is_revocation =
                |signature: &&Signature| signature.typ() == Some(SignatureType::CertRevocation);
            let revoked =
                user.signatures.iter().filter(is_revocation).filter(valid).filter_map(created).max();
            let certified = user.signatures.iter().filter(move |signature| !is_revocation(signature));
            certified.filter(valid).filter(move |signature| created(signature) > revoked)
        });
        newest(direct.chain(of_names), now)
    }

    /// Whether the primary key speaks for its owner at all, and what it says about itself.
    fn check(&self, now: Timestamp) -> Result<&Signature, OpenPgpError> {
        let key = || self.fingerprint();
        if self.is_revoked() {
            return Err(OpenPgpError::Revoked { key: key() });
        }
        let statement = self.self_signature(now).ok_or_else(|| OpenPgpError::Unbound { key: key() })?;
        check_expiry(&self.0.primary_key, statement, now)?;
        Ok(statement)
    }
}

/// A key of a certificate that a signature was made by.
pub(super) struct SigningKey<'a> {
    certificate: &'a Certificate,
    subkey: Option<&'a SignedPublicSubKey>,
}

impl SigningKey<'_> {
    pub(super) fn certificate(&self) -> &Certificate {
        self.certificate
    }

    pub(super) fn created(&self) -> Timestamp {
        let at = match self.subkey {
            None => self.certificate.0.primary_key.created_at(),
            Some(subkey) => subkey.key.created_at(),
        };
        time(at).unwrap_or(Timestamp::MAX)
    }

    /// Whether the signature is one of these bytes.
    pub(super) fn verify(
        &self,
        signature: &Signature,
        content: impl std::io::Read,
    ) -> Result<(), pgp::errors::Error> {
        match self.subkey {
            None => signature.verify(&self.certificate.0.primary_key, content),
            Some(subkey) => signature.verify(&subkey.key, content),
        }
    }

    /// Whether the key may sign today.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), OpenPgpError> {
        let primary = self.certificate.check(now)?;
        match self.subkey {
            None => {
                check_strength(&self.certificate.0.primary_key)?;
                check_purpose(&self.certificate.0.primary_key, primary, true)
            }
            Some(subkey) => {
                check_strength(&subkey.key)?;
                self.check_subkey(subkey, now)
            }
        }
    }

    fn check_subkey(&self, subkey: &SignedPublicSubKey, now: Timestamp) -> Result<(), OpenPgpError> {
        let key = || fingerprint(&subkey.key);
        let primary = &self.certificate.0.primary_key;
        let mut valid = subkey
            .signatures
            .iter()
            .filter(|signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok());
        if valid.clone().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation)) {
            return Err(OpenPgpError::Revoked { key: key() });
        }
        let binding = newest(valid.by_ref(), now).ok_or_else(|| OpenPgpError::Unbound { key: key() })?;
        check_expiry(&subkey.key, binding, now)?;
        check_purpose(&subkey.key, binding, false)?;
        // Else anybody could claim somebody else's signatures by adopting the key that made them.
        let agrees = binding.embedded_signature().is_some_and(|back| {
            is_fair(back) && back.verify_primary_key_binding(&subkey.key, primary).is_ok()
        });
        if agrees { Ok(()) } else { Err(OpenPgpError::Unbound { key: key() }) }
    }
}

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, now: Timestamp) -> Option<&'a Signature> {
    let come = |signature: &&Signature| {
        created(signature).is_some_and(|at| at.as_second() <= now.as_second() + super::LEEWAY)
    };
    signatures.filter(|signature| is_fair(signature)).filter(come).max_by_key(|signature| created(signature))
}

/// Whether a self-signature may use this hash.
fn is_fair(signature: &Signature) -> bool {
    signature.hash_alg() == Some(HashAlgorithm::Sha1) || super::check_hash(signature).is_ok()
}

fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:x}", key.fingerprint())
}

fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

fn check_expiry(key: &impl KeyDetails, statement: &Signature, now: Timestamp) -> Result<(), OpenPgpError> {
    let span = statement.key_expiration_time().map_or(0, pgp::types::Duration::as_secs);
    let start = time(key.created_at()).unwrap_or(Timestamp::MAX);
    match end(start, span) {
        Some(at) if at <= now => Err(OpenPgpError::KeyExpired { key: fingerprint(key), at }),
        _ => Ok(()),
    }
}

/// `silence`: whether a key whose statement says nothing of purposes may sign.
fn check_purpose(key: &impl KeyDetails, statement: &Signature, silence: bool) -> Result<(), OpenPgpError> {
    let says = statement.config().is_some_and(|config| {
        config.hashed_subpackets().any(|part| matches!(part.data, SubpacketData::KeyFlags(_)))
    });
    let may = if says { statement.key_flags().sign() } else { silence };
    if may { Ok(()) } else { Err(OpenPgpError::NotForSigning { key: fingerprint(key) }) }
}

fn check_strength(key: &impl KeyDetails) -> Result<(), OpenPgpError> {
    let weak = |why: &str| Err(OpenPgpError::WeakKey { key: fingerprint(key), why: why.to_owned() });
    if !matches!(key.version(), KeyVersion::V4 | KeyVersion::V6) {
        return weak("it is of a version that is not 4 or 6");
    }
    match key.public_params() {
        PublicParams::RSA(rsa) if rsa.write_len() < RSA_2048 => weak("RSA of fewer than 2048 bits"),
        PublicParams::RSA(_)
        | PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => Ok(()),
        _ => weak("only RSA, ECDSA and EdDSA are supported"),
    }
}
