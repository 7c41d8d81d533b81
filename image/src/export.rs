//! Images out of the store: as an OCI layout, in a directory or a tar file, as Docker's archive, as an ACI's file.
//!
//! A layer is written as its manifest has it where the store can make those bytes: then the image keeps its manifest,
//! byte by byte, and so its id. Where it cannot, because the compressed layer was not kept, the image's layers are
//! written uncompressed, from the trees: configuration and diff ids stay what they are, the manifest is a new one. What
//! is written is verified on the way; nothing has its final name before all of it is there.

mod aci;
mod docker;
mod oci;
mod tar_file;

use std::io::{self, Read};

use oci_spec::image::{Descriptor, ImageManifest, MediaType};

use crate::digest::{Digest, DigestError, Hasher, ImageId};
use crate::manifest::{self, DocumentError};
use crate::output::OutputError;
use crate::store::{Image, Store, StoreError};

pub use aci::export_aci;
pub use docker::export_docker_archive;
pub use oci::{export_oci, export_oci_archive};

/// What an export did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The digest of the manifest that was written; nothing where the format has none.
    pub manifest: Option<Digest>,
    /// Whether it is the image's own. It is not where layers had to be written in another form than they came in.
    pub own_manifest: bool,
}

/// An image cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An ACI has no layers.
    #[error("image {id} is an ACI: it can be exported as an .aci file only")]
    Aci {
        /// The image.
        id: ImageId,
    },
    /// Something else than an ACI has layers.
    #[error("image {id} is not an ACI: export it as oci:DIR, oci-archive:FILE or docker-archive:FILE")]
    NotAci {
        /// The image.
        id: ImageId,
    },
    /// The store does not have what it should have.
    #[error("cannot read image {id}")]
    Store {
        /// The image.
        id: ImageId,
        /// Why not.
        source: StoreError,
    },
    /// The image's documents do not say what is needed.
    #[error("cannot use image {id}")]
    Document {
        /// The image.
        id: ImageId,
        /// Why not.
        source: DocumentError,
    },
    /// A layer cannot be read from the store.
    #[error("cannot read layer {layer}")]
    Layer {
        /// Its diff id.
        layer: Digest,
        /// Why not.
        source: io::Error,
    },
    /// A document cannot be made.
    #[error("cannot describe the image")]
    Json(#[source] serde_json::Error),
    /// The output cannot be made.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Writing failed.
    #[error("cannot write {name:?}")]
    Write {
        /// What.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// There is something in the layout that stands in the way.
    #[error("{name:?} stands for another image there (try --overwrite)")]
    Tagged {
        /// The name.
        name: String,
    },
    /// The directory is not a layout.
    #[error("cannot add to the layout")]
    Layout(#[from] crate::layout::LayoutError),
}

/// The documents of an image, and its layers.
struct Parts<'a> {
    store: &'a Store,
    id: ImageId,
    manifest: ImageManifest,
    manifest_bytes: Vec<u8>,
    config: Vec<u8>,
    config_digest: Digest,
    /// Diff ids with what the manifest says.
    layers: Vec<(Digest, Descriptor)>,
}

impl<'a> Parts<'a> {
    fn of(store: &'a Store, image: &Image) -> Result<Self, ExportError> {
        let id = image.id;
        let failed = |source| ExportError::Store { id, source };
        let document = |source| ExportError::Document { id, source };
        let (manifest, config) = image.oci().ok_or(ExportError::Aci { id })?;
        let digest = manifest::digest_of(manifest.config()).map_err(|error| document(error.into()))?;
        let diff_ids = manifest::diff_ids(config).map_err(document)?;
        Ok(Self {
            store,
            id,
            manifest_bytes: store.manifest(id).map_err(failed)?,
            config: store.document(digest).map_err(failed)?,
            config_digest: digest,
            layers: diff_ids.into_iter().zip(manifest.layers().iter().cloned()).collect(),
            manifest: manifest.clone(),
        })
    }

    /// Whether every layer can be written as the manifest has it.
    fn is_whole(&self) -> Result<bool, ExportError> {
        for (diff_id, layer) in &self.layers {
            if self.own(*diff_id, layer)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn digest(&self, layer: &Descriptor) -> Result<Digest, ExportError> {
        let failed = |error: DigestError| ExportError::Document { id: self.id, source: error.into() };
        manifest::digest_of(layer).map_err(failed)
    }

    /// A layer as the manifest has it: kept, or the tar stream itself. Nothing if the store cannot make that.
    fn own(&self, diff_id: Digest, layer: &Descriptor) -> Result<Option<Box<dyn Read>>, ExportError> {
        let digest = self.digest(layer)?;
        if digest == diff_id {
            return Ok(Some(Box::new(self.tar(diff_id)?)));
        }
        let kept = self.store.layer_blob(diff_id);
        let kept = kept.map_err(|source| ExportError::Store { id: self.id, source })?;
        // The same tree may have come in another form with another image.
        let kept = kept.filter(|blob| blob.digest == digest);
        Ok(kept.map(|blob| -> Box<dyn Read> { Box::new(Verified::new(blob, digest)) }))
    }

    /// A layer's tar stream. Whoever reads it to its end knows that it is the right one.
    fn tar(&self, diff_id: Digest) -> Result<impl Read + use<>, ExportError> {
        self.store.layer_tar(diff_id).map_err(|source| ExportError::Store { id: self.id, source })
    }
}

/// A stream that must have a digest: if it has not, its end is an error.
struct Verified<R> {
    from: R,
    hasher: Option<Hasher>,
    expected: Digest,
}

impl<R: Read> Verified<R> {
    fn new(from: R, expected: Digest) -> Self {
        Self { from, hasher: Some(Hasher::new(expected.algorithm())), expected }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            let bytes = buffer.get(..count).unwrap_or_default();
            self.hasher.iter_mut().for_each(|hasher| hasher.update(bytes));
        } else if self.hasher.take().is_some_and(|hasher| hasher.finish() != self.expected) {
            let sentence =
                format!("the stored layer {} is damaged; `rkt image verify` repairs it", self.expected);
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        Ok(count)
    }
}

/// A descriptor of something that was written.
fn describe(media_type: MediaType, digest: Digest, size: u64) -> Result<Descriptor, ExportError> {
    // The types of the specification cannot be made of our digests but through their text.
    let value = serde_json::json!({
        "mediaType": media_type.to_string(), "digest": digest.to_string(), "size": size,
    });
    serde_json::from_value(value).map_err(ExportError::Json)
}
