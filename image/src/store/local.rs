//! Names that people give to images of the store, and what is known of an image beyond what a list needs.
//!
//! A name that was given by hand is *local*: it is ours, and what a registry has under it is something else. A fetch
//! that is content with the store never replaces it; one that is to ask the registry anyway does.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;

use super::record::{RefFile, ref_file};
use super::{Image, Store, StoreError, optional, read_json, remove_file};
use crate::digest::{Digest, ImageId};
use crate::manifest::{self, digest_of};
use crate::reference::ImageName;

/// A layer of an image in the formats of OCI and Docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// The digest of its tar stream, which names its tree.
    pub diff_id: Digest,
    /// The digest that the manifest has for it.
    pub digest: Digest,
    /// How the manifest calls its format.
    pub media_type: String,
    /// Bytes as transported.
    pub size: u64,
    /// Bytes of the files in its tree; nothing if there is no tree, because a layer above hides all of it.
    pub unpacked: Option<u64>,
    /// Other images have it, too.
    pub shared: bool,
}

impl Store {
    /// Makes `name` stand for an image of the store, until it is told otherwise.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or trouble writing.
    pub fn tag(&self, image: ImageId, name: &ImageName) -> Result<(), StoreError> {
        let _pin = self.pin()?;
        if !self.image_file(image).exists() {
            return Err(StoreError::NotFound(image.to_string()));
        }
        let name = name.to_string();
        let path = self.refs().join(ref_file(&name));
        self.write_json(
            &path,
            &RefFile { name, image, imported: Timestamp::now(), latest: false, local: true },
        )
    }

    /// Forgets a name, and leaves the image that it stood for. Nothing if there is no such name.
    ///
    /// # Errors
    /// Trouble removing.
    pub fn untag(&self, name: &ImageName) -> Result<Option<ImageId>, StoreError> {
        let _pin = self.pin()?;
        let path = self.refs().join(ref_file(&name.to_string()));
        let Some(file) = optional(read_json::<RefFile>(&path))? else { return Ok(None) };
        remove_file(&path)?;
        Ok(Some(file.image))
    }

    /// Whether the name was given by hand.
    pub(crate) fn is_local(&self, name: &ImageName) -> Result<bool, StoreError> {
        let path = self.refs().join(ref_file(&name.to_string()));
        Ok(optional(read_json::<RefFile>(&path))?.is_some_and(|file| file.local))
    }

    /// The trees of the image alone, bottom first: all of them, or of an ACI the one that is not of its dependencies.
    #[must_use]
    pub fn own_layers(&self, image: &Image) -> Vec<PathBuf> {
        match image.aci() {
            Some(_) => vec![self.trees().join(image.id.digest().hex()).join("rootfs")],
            None => image.layers.clone(),
        }
    }

    /// A manifest or configuration of the store, exactly as it came.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::NotFound`], or trouble reading.
    pub fn document(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        self.blob(digest)?.ok_or_else(|| StoreError::NotFound(digest.to_string()))
    }

    /// The layers of an image, bottom first. Nothing for an ACI.
    ///
    /// # Errors
    /// Trouble reading.
    pub fn layers(&self, image: &Image) -> Result<Vec<LayerInfo>, StoreError> {
        let Some((manifest, config)) = image.oci() else { return Ok(Vec::new()) };
        let mut elsewhere = BTreeSet::new();
        for id in self.image_ids()?.into_iter().filter(|id| *id != image.id) {
            elsewhere.extend(self.image_record(id)?.into_iter().flat_map(|(file, _)| file.trees));
        }
        // Both were checked when the image was recorded; what cannot be read now is left out.
        let diff_ids = manifest::diff_ids(config).unwrap_or_default();
        let info = |(diff_id, layer): (Digest, &oci_spec::image::Descriptor)| {
            Some(LayerInfo {
                diff_id,
                digest: digest_of(layer).ok()?,
                media_type: layer.media_type().to_string(),
                size: layer.size(),
                unpacked: self.layer_file(diff_id).ok().map(|file| file.bytes),
                shared: elsewhere.contains(&diff_id),
            })
        };
        Ok(diff_ids.into_iter().zip(manifest.layers()).filter_map(info).collect())
    }
}
