//! Whose images may be used: signatures, the keys that are trusted with making them, and the host's policy.
//!
//! Two systems that share nothing but the arithmetic:
//!
//! * ACIs have a detached OpenPGP signature each, checked against the [`Keystore`]: keys by the prefix of an image's
//!   name, laid out as rkt has always done it.
//! * Images of registries, layouts and archives are governed by `policy.json`, the file that the tools around
//!   containers share ([`ImageTrust`]): scopes with requirements, signatures beside the registry (`lookaside`) or in it
//!   (`sigstore`), both about a payload that names digest and name of an image.
//!
//! Signatures, payloads and whatever serves them are hostile; policy and keys are the operator's. What is not understood
//! is refused.

mod keystore;
mod openpgp;

mod admission;
mod identity;
mod lookaside;
mod payload;
mod policy;
mod sigstore;

pub(crate) use admission::Subject;
pub use admission::{
    AdmissionError, ImageTrust, Origin, PolicyRefusal, SignatureKind, SignatureRefusal, Verification,
};
pub use keystore::{KEYSTORE_DIR, Keystore, KeystoreError, Prefix, Scope, StoredKey, TrustError};
pub use lookaside::{LookasideError, REGISTRIES_DIR};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use openpgp::verify_detached;
pub use openpgp::{Certificate, KeyError, MAX_SIGNATURE, OpenPgpError, Signer};
pub use policy::{POLICY_FILE, PolicyError};

/// What fuzzers call.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod outside {
    use std::path::Path;

    use super::payload::Payload;
    use super::policy::{Policy, Requirement};
    use super::sigstore::{Attachment, PublicKey};
    use crate::reference::ImageName;

    /// How many requirements the text has for an image, and whether one of them is none.
    pub(crate) fn requirements(text: &str, image: &ImageName) -> Option<(usize, bool)> {
        let policy = Policy::parse(Path::new("policy.json"), text).ok()?;
        let requirements = policy.governing(image).requirements;
        let accepts = requirements.iter().any(|requirement| matches!(requirement, Requirement::Accept));
        Some((requirements.len(), accepts))
    }

    /// Whether a payload is one, of any kind that is read.
    pub(crate) fn is_payload(bytes: &[u8]) -> bool {
        ["atomic container signature", "cosign container image signature"]
            .iter()
            .any(|kind| Payload::parse(bytes, kind).is_ok())
    }

    /// Whether a key made a signature of a payload.
    pub(crate) fn made(key: &[u8], payload: &[u8], signature: &[u8]) -> bool {
        let attachment = Attachment { payload: payload.to_vec(), signature: signature.to_vec() };
        PublicKey::parse(key).is_ok_and(|key| key.made(&attachment))
    }
}
