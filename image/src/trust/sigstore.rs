//! sigstore signatures with public keys, verified offline: what `cosign sign --key` and
//! `skopeo copy --sign-by-sigstore-private-key` store in the registry, beside the image.
//!
//! The signatures of `sha256:<hex>` are an image of their own with the tag `sha256-<hex>.sig`: each layer is a payload,
//! with the signature of it in an annotation. Neither the transparency log nor certificates play a part: the key is
//! named by the policy.
//!
//! ECDSA (P-256, P-384), Ed25519 and RSA of 2048 bits and more, over SHA-256 (and SHA-384 with P-384). Keys are PEM
//! (`BEGIN PUBLIC KEY`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_spec::image::{Descriptor, ImageManifest};
use ring::signature::{self as algorithms, UnparsedPublicKey, VerificationAlgorithm};
use spki::der::pem::PemLabel as _;
use spki::der::{Decode as _, Document};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::lookaside::MAX_SIGNATURES;
use crate::digest::Digest;
use crate::source::{Source, SourceError, small_blob};

/// The media type of payloads.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that has the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The longest payload.
const MAX_PAYLOAD: u64 = 64 << 10;
/// The longest signature, in base64: RSA of 16384 bits.
const MAX_BASE64: usize = 4096;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// A public key.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    algorithms: Vec<&'static dyn VerificationAlgorithm>,
    bytes: Vec<u8>,
    id: Digest,
}

/// Bytes that are no key that we can use.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublicKeyError {
    #[error("this is not a public key in PEM (\"BEGIN PUBLIC KEY\")")]
    Pem(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("keys of this kind are not supported: they must be ECDSA P-256 or P-384, Ed25519, or RSA")]
    Algorithm,
}

/// A payload and its signature; nothing of it is verified.
pub(super) struct Attachment {
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl PublicKey {
    pub(super) fn parse(pem: &[u8]) -> Result<Self, PublicKeyError> {
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| PublicKeyError::Pem(error);
        let text = std::str::from_utf8(pem).map_err(|error| broken(error.into()))?;
        let (label, document) =
            Document::from_pem(text.trim()).map_err(|error| broken(error.to_string().into()))?;
        if label != SubjectPublicKeyInfoRef::PEM_LABEL {
            return Err(broken(format!("it is a {label}").into()));
        }
        let key = SubjectPublicKeyInfoRef::from_der(document.as_bytes())
            .map_err(|error| broken(error.to_string().into()))?;
        let curve = || key.algorithm.parameters_oid().ok();
        let algorithms: Vec<&'static dyn VerificationAlgorithm> = match key.algorithm.oid {
            RSA => vec![&algorithms::RSA_PKCS1_2048_8192_SHA256],
            ED25519 => vec![&algorithms::ED25519],
            EC if curve() == Some(P256) => vec![&algorithms::ECDSA_P256_SHA256_ASN1],
            // cosign used SHA-256 with every key, and changed its mind for this curve.
            EC if curve() == Some(P384) => {
                vec![&algorithms::ECDSA_P384_SHA256_ASN1, &algorithms::ECDSA_P384_SHA384_ASN1]
            }
            _ => return Err(PublicKeyError::Algorithm),
        };
        let bytes = key.subject_public_key.as_bytes().ok_or(PublicKeyError::Algorithm)?.to_vec();
        Ok(Self { algorithms, bytes, id: Digest::of(document.as_bytes()) })
    }

    /// The digest of the key in DER.
    pub(super) fn id(&self) -> Digest {
        self.id
    }

    pub(super) fn made(&self, attachment: &Attachment) -> bool {
        let Attachment { payload, signature } = attachment;
        let fits = |algorithm: &&'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(*algorithm, &self.bytes).verify(payload, signature).is_ok()
        };
        self.algorithms.iter().any(fits)
    }
}

/// The signatures that the registry has for a manifest or index. None if it has none.
pub(super) fn attachments(source: &dyn Source, digest: Digest) -> Result<Vec<Attachment>, SourceError> {
    let tag = format!("{}-{}.sig", digest.algorithm().name(), digest.hex());
    let Some(raw) = source.attachment(&tag)? else { return Ok(Vec::new()) };
    // What is no manifest, or has no signatures in it, proves nothing.
    let Ok(manifest) = serde_json::from_slice::<ImageManifest>(&raw.bytes) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for layer in manifest.layers().iter().filter(|layer| is_payload(layer)).take(MAX_SIGNATURES) {
        let Some(signature) = signature_of(layer) else { continue };
        let payload = small_blob(source, layer)?;
        found.push(Attachment { payload, signature });
    }
    Ok(found)
}

fn is_payload(layer: &Descriptor) -> bool {
    layer.media_type().to_string() == PAYLOAD && layer.size() <= MAX_PAYLOAD
}

fn signature_of(layer: &Descriptor) -> Option<Vec<u8>> {
    let text = layer.annotations().as_ref()?.get(SIGNATURE)?;
    if text.len() > MAX_BASE64 { None } else { STANDARD.decode(text).ok() }
}
