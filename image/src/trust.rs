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
