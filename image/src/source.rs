//! Places that images come from, behind one trait, and what is the same for all of them.
//!
//! A [`Source`] hands out bytes and is trusted with nothing: whoever asks compares them with the digest and the size
//! that led to them. [`resolve`] walks from whatever a name points to, through indexes, to the manifest for one
//! platform; [`small_blob`] reads a configuration. Layers are read by [`crate::layer`].

use std::io::{self, Read};

use oci_spec::image::{Descriptor, ImageManifest};

use crate::archive::ArchiveError;
use crate::digest::{Digest, DigestError};
use crate::layout::LayoutError;
use crate::manifest::{self, Document, DocumentError, MAX_DOCUMENT};
use crate::platform::Platform;
use crate::registry::RegistryError;

/// Indexes within indexes are followed this far. Real ones have a depth of one or two.
const MAX_DEPTH: usize = 8;

/// A registry's repository, a layout directory, an archive.
pub trait Source: Sync {
    /// The manifest or index that the name points to.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    fn root(&self) -> Result<Raw, SourceError>;

    /// A manifest or index that an index points to. The bytes are not verified yet.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    fn document(&self, descriptor: &Descriptor) -> Result<Raw, SourceError>;

    /// A configuration or a layer. The bytes are not verified yet.
    ///
    /// # Errors
    /// If it is not there or cannot be opened.
    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError>;

    /// The manifest with this tag beside the image: how registries hold signatures. `None`: there is none, or such a
    /// source cannot have any.
    ///
    /// # Errors
    /// If it cannot be known, or not be read.
    fn attachment(&self, tag: &str) -> Result<Option<Raw>, SourceError> {
        let _ = tag;
        Ok(None)
    }
}

/// A document as it came.
#[derive(Debug)]
pub struct Raw {
    /// Its bytes, at most [`MAX_DOCUMENT`].
    pub bytes: Vec<u8>,
    /// What the transport called it.
    pub media_type: Option<String>,
}

/// The manifest for one platform.
#[derive(Debug)]
pub struct Resolved {
    /// The digests of the documents from what the name points to, down to the manifest. Each names the next.
    pub chain: Vec<Digest>,
    /// The sha256 of `bytes`, which is the image's identity, whatever the algorithm it was asked for by.
    pub digest: Digest,
    /// The manifest as it came: these bytes go into the store.
    pub bytes: Vec<u8>,
    /// The manifest.
    pub manifest: ImageManifest,
}

/// A source cannot deliver.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A registry cannot.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layout directory cannot.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An archive cannot.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A document is not what an image needs.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A descriptor has a digest that cannot be verified.
    #[error("cannot verify a part of the image")]
    Digest(#[from] DigestError),
    /// The bytes that came are not the bytes that were asked for.
    #[error("{what} {expected} is corrupt: what came has the digest {found}")]
    Mismatch {
        /// `manifest`, `configuration`.
        what: &'static str,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// More or fewer bytes came than the descriptor says.
    #[error("{what} {digest} has {found} bytes, {expected} were announced")]
    Size {
        /// `manifest`, `configuration`.
        what: &'static str,
        /// Which one.
        digest: Digest,
        /// Announced by the descriptor.
        expected: u64,
        /// Received; of endless content only the beginning.
        found: u64,
    },
    /// Reading failed underway.
    #[error("cannot read {what} {digest}")]
    Read {
        /// `configuration`.
        what: &'static str,
        /// Which one.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// No entry of an index is for the platform.
    #[error("the image has no build for {wanted}; it has {offered}")]
    Platform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        offered: String,
    },
    /// Index in index in index …
    #[error("the image's indexes are nested more than {MAX_DEPTH} deep")]
    Depth,
}

/// Walks from the name to the manifest for `platform`, verifying each step.
///
/// # Errors
/// [`SourceError`].
pub fn resolve(source: &dyn Source, platform: &Platform) -> Result<Resolved, SourceError> {
    let mut raw = source.root()?;
    let mut chain = Vec::new();
    for _ in 0..MAX_DEPTH {
        let digest = Digest::of(&raw.bytes);
        chain.push(digest);
        let index = match manifest::parse(&raw.bytes, raw.media_type.as_deref())? {
            Document::Manifest(manifest) => {
                manifest::check_types(&manifest)?;
                return Ok(Resolved { chain, digest, bytes: raw.bytes, manifest: *manifest });
            }
            Document::Index(index) => index,
        };
        let Some(descriptor) = platform.choose(index.manifests()) else {
            return Err(SourceError::Platform { wanted: platform.clone(), offered: list(index.manifests()) });
        };
        raw = source.document(descriptor)?;
        check("manifest", descriptor, &raw.bytes)?;
    }
    Err(SourceError::Depth)
}

/// Reads and verifies a configuration.
///
/// # Errors
/// [`SourceError`].
pub(crate) fn small_blob(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
    let what = "configuration";
    let digest = manifest::digest_of(descriptor)?;
    let expected = descriptor.size();
    if expected > MAX_DOCUMENT {
        return Err(SourceError::Size { what, digest, expected: MAX_DOCUMENT, found: expected });
    }
    let mut bytes = Vec::new();
    let _ = source
        .blob(descriptor)?
        .take(expected + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| SourceError::Read { what, digest, source })?;
    check(what, descriptor, &bytes)?;
    Ok(bytes)
}

fn check(what: &'static str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), SourceError> {
    let digest = manifest::digest_of(descriptor)?;
    if bytes.len() as u64 != descriptor.size() {
        let (expected, found) = (descriptor.size(), bytes.len() as u64);
        return Err(SourceError::Size { what, digest, expected, found });
    }
    match digest.algorithm().digest(bytes) {
        found if found == digest => Ok(()),
        found => Err(SourceError::Mismatch { what, expected: digest, found }),
    }
}

/// The platforms of an index, for a person to read. Attestations and the like, which have none, are left out.
fn list(offers: &[Descriptor]) -> String {
    let name = |offer: &Descriptor| {
        let platform = offer.platform().as_ref()?;
        let variant = platform.variant().as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        Some(format!("{}/{}{variant}", platform.os(), platform.architecture()))
    };
    let names: Vec<String> =
        offers.iter().filter_map(name).filter(|name| !name.starts_with("unknown")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
