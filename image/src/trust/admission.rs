//! The decision whether an image may be used: the policy, asked with what there is to show for the image.
//!
//! It is asked three times, each time with all there is to know:
//!
//! 1. [`ImageTrust::check_name`], before anybody is asked for the image: what is rejected by name costs no request.
//! 2. [`ImageTrust::check`], when its manifest is known and before any layer is fetched: signatures are looked for and
//!    verified. What was verified is recorded with the image ([`Origin`]).
//! 3. [`ImageTrust::check_stored`], each time that the image is taken from the store: the policy of today against that
//!    record, without a network. So a scope that is rejected now is not run any more, nor is an image whose signature
//!    was by a key that the policy no longer names, or that has been revoked.
//!
//! A signature of any document on the way from the name to the manifest counts, so also one of an index: each document
//! names the next by a digest that was verified, and so whoever signed the index signed what it names.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::lookaside::{LookasideError, REGISTRIES_DIR, Signatures};
use super::openpgp::{self, Certificate, KeyError, OpenPgpError};
use super::payload::{ATOMIC, COSIGN, Payload};
use super::policy::{Governing, KeySource, POLICY_FILE, Policy, PolicyError, Requirement};
use super::sigstore::{self, PublicKey, PublicKeyError};
use crate::digest::Digest;
use crate::reference::ImageName;
use crate::registry::RegistryOptions;
use crate::source::{Source, SourceError};

/// The files that say which images may be used. They are read when they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageTrust {
    /// containers-policy.json(5). If there is none, every image may be used.
    pub policy_file: PathBuf,
    /// containers-registries.d(5): where the signatures of registries' images are.
    pub registries_dir: PathBuf,
}

/// A signature that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// `signedBy` or `sigstoreSigned`.
    #[serde(rename = "type")]
    pub kind: SignatureKind,
    /// OpenPGP: the fingerprint of the primary key. sigstore: the digest of the key in DER.
    pub key: String,
    /// The name of the image, as whoever signed it knows it.
    pub reference: String,
    /// The manifest or index that was signed.
    pub digest: Digest,
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureKind {
    /// OpenPGP.
    SignedBy,
    /// sigstore.
    SigstoreSigned,
}

/// A name that an image came by, and what was verified then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The name.
    pub name: String,
    /// What the policy demanded, and got; nothing if it demanded nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Verification>,
}

/// An image may not be used.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Nobody knows what is demanded.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy demands something that the image has not.
    #[error("image {name} is refused by {place} of {}", file.display())]
    Refused {
        /// The image.
        name: String,
        /// `transports.docker["registry.example/ns"]`.
        place: String,
        /// The policy.
        file: PathBuf,
        /// Why.
        source: PolicyRefusal,
    },
}

/// What an image lacks.
#[derive(Debug, thiserror::Error)]
pub enum PolicyRefusal {
    /// Nothing would be enough.
    #[error("it says \"reject\"")]
    Reject,
    /// The requirement cannot be understood.
    #[error("{0}")]
    Broken(String),
    /// A key of the policy cannot be used.
    #[error("cannot use {key}")]
    Key {
        /// The file, or that it is in the policy.
        key: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Signatures cannot be looked for.
    #[error("cannot look for its signatures")]
    Lookaside(#[source] Box<LookasideError>),
    /// The registry does not deliver its signatures.
    #[error("cannot fetch its signatures")]
    Attachments(#[source] Box<SourceError>),
    /// There are none.
    #[error("{kind} demands a signature, and there is none {place}")]
    Unsigned {
        /// Which requirement.
        kind: &'static str,
        /// `in https://…`.
        place: String,
    },
    /// None of its signatures is good enough.
    #[error("{kind}: none of its signatures counts; the first of {count}")]
    NoneCounts {
        /// Which requirement.
        kind: &'static str,
        /// How many there are.
        count: usize,
        /// What is wrong with the first.
        source: SignatureRefusal,
    },
    /// It is in the store, and was not verified as the policy demands now.
    #[error("the signature that {kind} demands was not verified when the image was fetched; fetch it again")]
    Unverified {
        /// Which requirement.
        kind: &'static str,
    },
}

/// What is wrong with a signature.
#[derive(Debug, thiserror::Error)]
pub enum SignatureRefusal {
    /// It does not count.
    #[error(transparent)]
    OpenPgp(#[from] OpenPgpError),
    /// It is by nobody whom the policy names, or what it is about has been changed.
    #[error("the signature was made by no key of the policy, or what it says was changed")]
    Key,
    /// What it says is not understood.
    #[error("the signature does not say what a signature of an image says")]
    Payload(#[source] serde_json::Error),
    /// It is about something else.
    #[error("the signature is of another image, {0}")]
    Digest(Digest),
    /// It is about the image by another name.
    #[error("the signature is of the name {0:?}, which the policy does not accept for this image")]
    Identity(String),
}

impl AdmissionError {
    pub(crate) fn is_unverified(&self) -> bool {
        matches!(self, Self::Refused { source: PolicyRefusal::Unverified { .. }, .. })
    }
}

impl Default for ImageTrust {
    fn default() -> Self {
        Self { policy_file: PathBuf::from(POLICY_FILE), registries_dir: PathBuf::from(REGISTRIES_DIR) }
    }
}

/// What there is to know of an image that is being fetched.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a ImageName,
    /// The digests of the documents from the name to the manifest.
    pub(crate) chain: &'a [Digest],
    pub(crate) source: &'a dyn Source,
    /// How to ask for signatures.
    pub(crate) registry: &'a RegistryOptions<'a>,
}

impl ImageTrust {
    /// Whether an image of this name could be accepted at all.
    pub(crate) fn check_name(&self, name: &ImageName) -> Result<(), AdmissionError> {
        let Some(policy) = Policy::load(&self.policy_file)? else { return Ok(()) };
        let governing = policy.governing(name);
        possible(&governing).map_err(|source| refused(&policy, &governing, name, source))
    }

    /// Whether the image may be used, and what was verified for that.
    pub(crate) fn check(&self, subject: Subject<'_>) -> Result<Vec<Verification>, AdmissionError> {
        let Some(policy) = Policy::load(&self.policy_file)? else { return Ok(Vec::new()) };
        let governing = policy.governing(subject.name);
        let verify = || {
            possible(&governing)?;
            let verified = governing.requirements.iter().map(|requirement| self.verify(requirement, subject));
            Ok(verified.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        verify().map_err(|source| refused(&policy, &governing, subject.name, source))
    }

    /// Whether an image of the store may be used under this name, or, if it is an id, under one of those it came by.
    pub(crate) fn check_stored(&self, name: &ImageName, origins: &[Origin]) -> Result<(), AdmissionError> {
        let Some(policy) = Policy::load(&self.policy_file)? else { return Ok(()) };
        let names: Vec<ImageName> = match name {
            ImageName::Id(_) => origins.iter().filter_map(|origin| origin.name.parse().ok()).collect(),
            other => vec![other.clone()],
        };
        if names.is_empty() {
            let governing = policy.fallback();
            return verified(&governing, name, origins)
                .map_err(|source| refused(&policy, &governing, name, source));
        }
        let mut outcome = Ok(());
        for candidate in names {
            let governing = policy.governing(&candidate);
            match verified(&governing, &candidate, origins) {
                Ok(()) => return Ok(()),
                Err(source) => outcome = Err(refused(&policy, &governing, name, source)),
            }
        }
        outcome
    }

    fn verify(
        &self,
        requirement: &Requirement,
        subject: Subject<'_>,
    ) -> Result<Option<Verification>, PolicyRefusal> {
        match requirement {
            Requirement::Accept => Ok(None),
            Requirement::Reject => Err(PolicyRefusal::Reject),
            Requirement::Broken(why) => Err(PolicyRefusal::Broken(why.clone())),
            Requirement::SignedBy { keys, identity } => {
                self.signed_by(&certificates(keys)?, identity, subject).map(Some)
            }
            Requirement::SigstoreSigned { keys, identity } => {
                sigstore_signed(&public_keys(keys)?, identity, subject).map(Some)
            }
        }
    }

    fn signed_by(
        &self,
        certificates: &[Certificate],
        identity: &Identity,
        subject: Subject<'_>,
    ) -> Result<Verification, PolicyRefusal> {
        let kind = "signedBy";
        let ImageName::Registry(reference) = subject.name else {
            let place = "in a layout or an archive".to_owned();
            return Err(PolicyRefusal::Unsigned { kind, place });
        };
        let lookaside = |error| PolicyRefusal::Lookaside(Box::new(error));
        let mut tally = Tally { kind, count: 0, first: None };
        let mut place = String::new();
        for digest in subject.chain {
            let signatures = Signatures::of(&self.registries_dir, reference, *digest, subject.registry);
            let signatures = signatures.map_err(lookaside)?;
            place = format!("in {}", signatures.place());
            for signature in signatures {
                let opened =
                    openpgp::open_signed(certificates, &signature.map_err(lookaside)?, Timestamp::now());
                let outcome = opened.map_err(SignatureRefusal::from).and_then(|(payload, signer)| {
                    let Payload { digest, reference } = judge(&payload, ATOMIC, identity, subject)?;
                    let kind = SignatureKind::SignedBy;
                    Ok(Verification { kind, key: signer.fingerprint, reference, digest })
                });
                if let Some(verification) = tally.count(outcome) {
                    return Ok(verification);
                }
            }
        }
        Err(tally.refusal(place))
    }
}

fn sigstore_signed(
    keys: &[PublicKey],
    identity: &Identity,
    subject: Subject<'_>,
) -> Result<Verification, PolicyRefusal> {
    let mut tally = Tally { kind: "sigstoreSigned", count: 0, first: None };
    for digest in subject.chain {
        let attachments = sigstore::attachments(subject.source, *digest);
        for attachment in attachments.map_err(|error| PolicyRefusal::Attachments(Box::new(error)))? {
            let key = keys.iter().find(|key| key.made(&attachment)).ok_or(SignatureRefusal::Key);
            let outcome = key.and_then(|key| {
                let Payload { digest, reference } = judge(&attachment.payload, COSIGN, identity, subject)?;
                let kind = SignatureKind::SigstoreSigned;
                Ok(Verification { kind, key: key.id().to_string(), reference, digest })
            });
            if let Some(verification) = tally.count(outcome) {
                return Ok(verification);
            }
        }
    }
    Err(tally.refusal("beside the image".to_owned()))
}

/// Signatures so far.
struct Tally {
    kind: &'static str,
    count: usize,
    first: Option<SignatureRefusal>,
}

impl Tally {
    fn count(&mut self, outcome: Result<Verification, SignatureRefusal>) -> Option<Verification> {
        self.count += 1;
        match outcome {
            Ok(verification) => Some(verification),
            Err(error) => {
                let _ = self.first.get_or_insert(error);
                None
            }
        }
    }

    fn refusal(self, place: String) -> PolicyRefusal {
        let Self { kind, count, first } = self;
        match first {
            Some(source) => PolicyRefusal::NoneCounts { kind, count, source },
            None => PolicyRefusal::Unsigned { kind, place },
        }
    }
}

/// Whether what is signed speaks of this image.
fn judge(
    payload: &[u8],
    kind: &str,
    identity: &Identity,
    subject: Subject<'_>,
) -> Result<Payload, SignatureRefusal> {
    let payload = Payload::parse(payload, kind).map_err(SignatureRefusal::Payload)?;
    if !subject.chain.contains(&payload.digest) {
        return Err(SignatureRefusal::Digest(payload.digest));
    }
    if !identity.accepts(subject.name, &payload.reference) {
        return Err(SignatureRefusal::Identity(payload.reference));
    }
    Ok(payload)
}

/// Whether anything could satisfy these requirements.
fn possible(governing: &Governing<'_>) -> Result<(), PolicyRefusal> {
    for requirement in governing.requirements {
        match requirement {
            Requirement::Reject => return Err(PolicyRefusal::Reject),
            Requirement::Broken(why) => return Err(PolicyRefusal::Broken(why.clone())),
            Requirement::Accept | Requirement::SignedBy { .. } | Requirement::SigstoreSigned { .. } => {}
        }
    }
    Ok(())
}

/// Whether what was verified once satisfies these requirements.
fn verified(governing: &Governing<'_>, name: &ImageName, origins: &[Origin]) -> Result<(), PolicyRefusal> {
    possible(governing)?;
    let there = |kind: SignatureKind, identity: &Identity, trusted: &[String]| {
        origins.iter().flat_map(|origin| &origin.signatures).any(|signature| {
            signature.kind == kind
                && trusted.contains(&signature.key)
                && identity.accepts(name, &signature.reference)
        })
    };
    for requirement in governing.requirements {
        let (kind, found) = match requirement {
            Requirement::SignedBy { keys, identity } => {
                // An expired key cannot vouch for anything new. What it vouched for stays.
                let trusted = certificates(keys)?.into_iter().filter(|key| !key.is_revoked());
                let trusted: Vec<_> = trusted.map(|key| key.fingerprint()).collect();
                ("signedBy", there(SignatureKind::SignedBy, identity, &trusted))
            }
            Requirement::SigstoreSigned { keys, identity } => {
                let trusted: Vec<_> = public_keys(keys)?.iter().map(|key| key.id().to_string()).collect();
                ("sigstoreSigned", there(SignatureKind::SigstoreSigned, identity, &trusted))
            }
            Requirement::Accept | Requirement::Reject | Requirement::Broken(_) => continue,
        };
        if !found {
            return Err(PolicyRefusal::Unverified { kind });
        }
    }
    Ok(())
}

fn refused(
    policy: &Policy,
    governing: &Governing<'_>,
    name: &ImageName,
    source: PolicyRefusal,
) -> AdmissionError {
    let (place, file) = (governing.place.clone(), policy.file().to_owned());
    AdmissionError::Refused { name: name.to_string(), place, file, source }
}

fn certificates(keys: &[KeySource]) -> Result<Vec<Certificate>, PolicyRefusal> {
    let parse = |bytes: &[u8]| Certificate::parse(bytes).map_err(|error: KeyError| error.into());
    Ok(load(keys, parse)?.into_iter().flatten().collect())
}

fn public_keys(keys: &[KeySource]) -> Result<Vec<PublicKey>, PolicyRefusal> {
    load(keys, |bytes| PublicKey::parse(bytes).map_err(|error: PublicKeyError| error.into()))
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn load<T>(
    keys: &[KeySource],
    parse: impl Fn(&[u8]) -> Result<T, AnyError>,
) -> Result<Vec<T>, PolicyRefusal> {
    let one = |key: &KeySource| {
        let parsed = match key {
            KeySource::File(path) => {
                std::fs::read(path).map_err(AnyError::from).and_then(|bytes| parse(&bytes))
            }
            KeySource::Data(bytes) => parse(bytes),
        };
        parsed.map_err(|source| PolicyRefusal::Key { key: key.to_string(), source })
    };
    keys.iter().map(one).collect()
}
