//! Whose images may be used: signatures, the keys that are trusted with making them, and the host's policy.
//!
//! Two systems that share nothing but the arithmetic:
//!
//! * ACIs have a detached OpenPGP signature each, checked against the [`Keystore`]: keys by the prefix of an image's
//!   name, laid out as rkt has always done it.

mod keystore;
mod openpgp;

pub use keystore::{KEYSTORE_DIR, Keystore, KeystoreError, Prefix, Scope, StoredKey, TrustError};
pub use openpgp::{Certificate, KeyError, MAX_SIGNATURE, OpenPgpError, Signer};
