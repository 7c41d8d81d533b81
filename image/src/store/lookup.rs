//! Finding images, and listing them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Timestamp;

use super::record::{ImageFile, ImageRecord, RefFile, ref_file};
use super::{Image, Store, StoreError, list, optional, read_json};
use crate::aci::AciWord;
use crate::content::{Content, Format};
use crate::digest::{Digest, ImageId};
use crate::manifest;
use crate::reference::{IdPrefix, ImageName};

impl Store {
    /// The id of the image with this name, or whose id begins so. Nothing if there is none.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`], or trouble reading.
    pub fn find(&self, name: &ImageName) -> Result<Option<ImageId>, StoreError> {
        let id = match name {
            ImageName::Id(prefix) => match prefix.complete() {
                Some(id) => Some(id),
                None => return self.find_prefix(prefix),
            },
            ImageName::Aci(AciWord::Named(name)) => self.find_aci(name)?,
            named => {
                let path = self.refs().join(ref_file(&named.to_string()));
                optional(read_json::<RefFile>(&path))?.map(|file| file.image)
            }
        };
        Ok(id.filter(|id| self.image_file(*id).exists()))
    }

    fn find_prefix(&self, prefix: &IdPrefix) -> Result<Option<ImageId>, StoreError> {
        let fits = |id: &ImageId| prefix.fits(*id);
        let mut candidates: Vec<ImageId> = self.image_ids()?.into_iter().filter(fits).collect();
        candidates.sort();
        match candidates.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(*only)),
            _ => Err(StoreError::Ambiguous { prefix: prefix.to_string(), candidates }),
        }
    }

    pub(super) fn image_ids(&self) -> Result<Vec<ImageId>, StoreError> {
        let id = |name: &str| Digest::from_hex(name.strip_suffix(".json")?).ok().map(ImageId::new);
        Ok(list(&self.images_dir())?.iter().filter_map(|name| id(name)).collect())
    }

    /// The image with this id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::Incomplete`]; [`StoreError::Corrupt`] if a document is damaged.
    pub fn image(&self, id: ImageId) -> Result<Image, StoreError> {
        let pin = self.pin()?;
        let file: ImageFile =
            optional(read_json(&self.image_file(id)))?.ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        let missing = |path| StoreError::Incomplete { id, path };
        let blob = |digest: Digest| self.blob(digest)?.ok_or_else(|| missing(self.blob_file(digest)));
        let parse = |digest: Digest| move |source| StoreError::Parse { path: self.blob_file(digest), source };
        let content = match file.format {
            Format::Oci => {
                let manifest = manifest::from_go(&blob(id.digest())?).map_err(parse(id.digest()))?;
                let config = manifest::from_go(&blob(file.config)?).map_err(parse(file.config))?;
                Content::Oci { manifest: Box::new(manifest), config: Box::new(config) }
            }
            Format::Aci => {
                let manifest = serde_json::from_slice(&blob(file.config)?).map_err(parse(file.config))?;
                Content::Aci(Box::new(manifest))
            }
        };
        let layers: Vec<PathBuf> =
            file.trees.iter().map(|tree| self.trees().join(tree.hex()).join("rootfs")).collect();
        if let Some(path) = layers.iter().find(|path| !path.exists()) {
            return Err(missing(path.clone()));
        }
        let ImageFile { trees, platform, size, opens_outputs, .. } = file;
        Ok(Image { id, name: None, content, layers, trees, platform, size, opens_outputs, pin })
    }

    /// The bytes of an image's manifest, exactly as they came.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or trouble reading.
    pub fn manifest(&self, id: ImageId) -> Result<Vec<u8>, StoreError> {
        let not_found = || StoreError::NotFound(id.to_string());
        let (file, _) = self.image_record(id)?.ok_or_else(not_found)?;
        let digest = match file.format {
            Format::Oci => id.digest(),
            Format::Aci => file.config,
        };
        self.blob(digest)?.ok_or_else(not_found)
    }

    /// Reads and verifies a document.
    pub(super) fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blob_file(digest);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StoreError::io("read", &path))?,
        };
        match digest.algorithm().digest(&bytes) {
            found if found == digest => Ok(Some(bytes)),
            found => Err(StoreError::Corrupt { path, found }),
        }
    }

    /// The names of an image, sorted.
    ///
    /// # Errors
    /// Trouble reading.
    pub fn names_of(&self, id: ImageId) -> Result<Vec<String>, StoreError> {
        Ok(self.names()?.remove(&id).unwrap_or_default())
    }

    /// All trees that belong to an image, those that are not stacked included.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or trouble reading.
    pub fn trees_of(&self, id: ImageId) -> Result<BTreeSet<Digest>, StoreError> {
        let (file, _) = self.image_record(id)?.ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        Ok(file.trees.into_iter().chain(file.parts).collect())
    }

    /// All images. Reads a small file for each image and each name, and no tree.
    ///
    /// # Errors
    /// Trouble reading.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let mut names = self.names()?;
        let mut images = Vec::new();
        for id in self.image_ids()? {
            // One that is removed at this moment is not in the list.
            let Some((file, last_used)) = self.image_record(id)? else { continue };
            let names = names.remove(&id).unwrap_or_default();
            images.push(ImageRecord { id, names, import_time: file.imported, last_used, size: file.size });
        }
        Ok(images)
    }

    pub(super) fn image_record(&self, id: ImageId) -> Result<Option<(ImageFile, Timestamp)>, StoreError> {
        let path = self.image_file(id);
        let Some(file) = optional(read_json::<ImageFile>(&path))? else { return Ok(None) };
        let modified = std::fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let last_used = Timestamp::try_from(modified).unwrap_or(file.imported);
        Ok(Some((file, last_used)))
    }

    pub(super) fn names(&self) -> Result<BTreeMap<ImageId, Vec<String>>, StoreError> {
        let mut names: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
        for file in list(&self.refs())? {
            if let Some(file) = optional(read_json::<RefFile>(&self.refs().join(file)))? {
                names.entry(file.image).or_default().push(file.name);
            }
        }
        names.values_mut().for_each(|names| names.sort());
        Ok(names)
    }
}
