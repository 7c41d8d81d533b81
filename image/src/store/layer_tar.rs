//! A layer's tar stream, byte for byte as it was when it was fetched.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use super::tree::LayerHold;
use super::{Store, StoreError};
use crate::digest::{Digest, Hasher};
use crate::recipe::{RECIPE, Rebuild};

/// Reads a layer's tar stream. Keeps the layer from being collected while it is open.
///
/// The digest is compared at the end: bytes that came before an error must not be relied on.
pub struct LayerTar {
    rebuild: Rebuild,
    hasher: Option<Hasher>,
    diff_id: Digest,
    _hold: LayerHold,
}

/// A tree does not make its layer's tar stream any more. Comes within an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum LayerTarError {
    /// Something of the tree is not as it was.
    #[error("the stored tree of layer {layer} is damaged: {difference}; `rkt image verify` repairs it")]
    Damaged {
        /// The layer.
        layer: Digest,
        /// What was found first.
        difference: String,
    },
    /// All files are as they should be, and yet it is another stream.
    #[error(
        "the stored tree of layer {layer} is damaged: it makes an archive with the digest {found}; `rkt image verify` repairs it"
    )]
    Digest {
        /// The layer.
        layer: Digest,
        /// What came.
        found: Digest,
    },
}

impl Store {
    /// The tar stream of a layer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::NoRecipe`] for layers that were stored before there were recipes.
    pub fn layer_tar(&self, diff_id: Digest) -> Result<LayerTar, StoreError> {
        let hold = self.hold_layer(diff_id)?.ok_or_else(|| StoreError::NotFound(diff_id.to_string()))?;
        let rebuild = self.rebuild(diff_id)?;
        let hasher = Some(Hasher::new(diff_id.algorithm()));
        Ok(LayerTar { rebuild, hasher, diff_id, _hold: hold })
    }

    pub(super) fn rebuild(&self, diff_id: Digest) -> Result<Rebuild, StoreError> {
        let tree = self.trees().join(diff_id.hex());
        let (recipe, root) = (tree.join(RECIPE), tree.join("rootfs"));
        let recipe_file = match File::open(&recipe) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoRecipe(diff_id));
            }
            other => other.map_err(StoreError::io("open", &recipe))?,
        };
        let root = File::open(&root).map(OwnedFd::from).map_err(StoreError::io("open", &root))?;
        Rebuild::new(recipe_file, root).map_err(StoreError::io("read", &recipe))
    }
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.rebuild.read(buffer)?;
        let layer = self.diff_id;
        if let Some(first) = self.rebuild.differences().first() {
            return Err(invalid(LayerTarError::Damaged { layer, difference: first.to_string() }));
        }
        if count > 0 {
            let bytes = buffer.get(..count).unwrap_or_default();
            self.hasher.iter_mut().for_each(|hasher| hasher.update(bytes));
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != layer {
                return Err(invalid(LayerTarError::Digest { layer, found }));
            }
        }
        Ok(count)
    }
}

fn invalid(error: LayerTarError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
