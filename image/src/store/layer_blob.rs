//! A layer as it was transported: kept beside its tree.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use oci_spec::image::{Descriptor, MediaType};

use super::tree::LayerHold;
use super::{BlobRecord, Store, StoreError};
use crate::digest::Digest;
use crate::layer::BLOB;

/// Reads a kept layer. Keeps the layer from being collected while it is open. The bytes are those of a disk: compare
/// them with the digest.
#[derive(Debug)]
pub struct LayerBlob {
    /// The digest that the manifest has for it.
    pub digest: Digest,
    /// What the manifest calls its format.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    file: File,
    _hold: LayerHold,
}

impl Store {
    /// The layer with this diff id as it was transported. Nothing if it was not kept; a layer that came uncompressed never
    /// is: [`Store::layer_tar`] makes it.
    ///
    /// # Errors
    /// Trouble reading.
    pub fn layer_blob(&self, diff_id: Digest) -> Result<Option<LayerBlob>, StoreError> {
        let Some(hold) = self.hold_layer(diff_id)? else { return Ok(None) };
        let Some(record) = super::optional(self.layer_file(diff_id))?.and_then(|file| file.blob) else {
            return Ok(None);
        };
        let path = self.kept_blob(diff_id);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StoreError::io("open", &path))?,
        };
        let BlobRecord { digest, media_type, size } = record;
        Ok(Some(LayerBlob { digest, media_type, size, file, _hold: hold }))
    }

    /// The file of a kept layer and what to expect of it, whatever the state of the rest. For who makes the layer again.
    pub(crate) fn kept_layer(
        &self,
        diff_id: Digest,
        manifest: Option<&Descriptor>,
    ) -> Option<(PathBuf, Descriptor)> {
        let record = self.layer_file(diff_id).ok().and_then(|file| file.blob);
        let described = record.and_then(|BlobRecord { digest, media_type, size }| {
            let digest: oci_spec::image::Digest = digest.to_string().parse().ok()?;
            Some(Descriptor::new(MediaType::from(media_type.as_str()), size, digest))
        });
        let path = self.kept_blob(diff_id);
        Some((path.clone(), described.or_else(|| manifest.cloned())?)).filter(|_| path.is_file())
    }

    pub(super) fn kept_blob(&self, diff_id: Digest) -> PathBuf {
        self.trees().join(diff_id.hex()).join(BLOB)
    }
}

impl Read for LayerBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}
