//! ACIs in the store: recording them, and finding them by name.
//!
//! An ACI goes by several names: the word it was asked for by, `aci:NAME:VERSION`, and `aci:NAME`. The last one means
//! the image that was asked for without a version, if there is one: its server said that it is the latest. Otherwise it
//! means the one that was brought in last.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::record::{ImageFile, RefFile, ref_file};
use super::{Store, StoreError, optional, read_json};
use crate::aci::{AciName, file_name, has_identity, is_useful};
use crate::content::Format;
use crate::digest::{Digest, ImageId};
use crate::platform::Platform;

/// An ACI whose trees are held.
pub(crate) struct AciRecord<'a> {
    pub(crate) id: ImageId,
    /// The manifest as it is written.
    pub(crate) manifest: &'a [u8],
    /// What is stacked, bottom first.
    pub(crate) trees: &'a [Digest],
    /// What it was rendered from, bottom first; nothing if it was not.
    pub(crate) parts: &'a [Digest],
    pub(crate) platform: Platform,
}

/// What an ACI is called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AciNames {
    /// Names that mean this image from now on.
    pub(crate) own: Vec<String>,
    /// `aci:NAME`.
    pub(crate) bare: String,
    /// It was asked for by that.
    pub(crate) latest: bool,
}

/// Whether it was written within a day. Nobody who waits that long for more bytes gets them.
fn is_young(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 86_400))
}

impl Store {
    /// Records an ACI whose trees are held, and its names.
    pub(crate) fn record_aci(&self, record: &AciRecord<'_>, names: &AciNames) -> Result<(), StoreError> {
        let _pin = self.pin()?;
        let manifest = Digest::of(record.manifest);
        self.write_blob(manifest, record.manifest)?;
        let (mut size, mut opens_outputs) = (record.manifest.len() as u64, false);
        for tree in record.trees.iter().collect::<BTreeSet<_>>() {
            let layer = self.layer_file(*tree)?;
            size += layer.bytes;
            opens_outputs |= layer.opens_outputs;
        }
        let file = ImageFile {
            id: record.id,
            format: Format::Aci,
            config: manifest,
            trees: record.trees.to_vec(),
            parts: record.parts.to_vec(),
            platform: record.platform.clone(),
            imported: Timestamp::now(),
            size,
            opens_outputs,
            origins: Vec::new(),
        };
        self.write_json(&self.image_file(record.id), &file)?;
        self.name_aci(names, record.id)
    }

    /// Makes names stand for an ACI that is there.
    pub(crate) fn name_aci(&self, names: &AciNames, id: ImageId) -> Result<(), StoreError> {
        for name in &names.own {
            self.name(name, id)?;
        }
        let path = self.refs().join(ref_file(&names.bare));
        let there = optional(read_json::<RefFile>(&path)).ok().flatten();
        let keep = there.as_ref().is_some_and(|there| there.latest && self.image_file(there.image).exists());
        let same = there.is_some_and(|there| there.image == id && there.latest == names.latest);
        if same || keep && !names.latest {
            return Ok(());
        }
        let (name, imported) = (names.bare.clone(), Timestamp::now());
        self.write_json(&path, &RefFile { name, image: id, imported, latest: names.latest, local: false })
    }

    /// The ACI of this name that has these labels.
    ///
    /// # Errors
    /// Trouble reading.
    pub(crate) fn find_aci(&self, name: &AciName) -> Result<Option<ImageId>, StoreError> {
        let versioned = name.version().map(|version| format!("aci:{}:{version}", name.name()));
        let bare = format!("aci:{}", name.name());
        for text in [Some(format!("aci:{name}")), versioned, Some(bare)].into_iter().flatten() {
            let file = optional(read_json::<RefFile>(&self.refs().join(ref_file(&text))))?;
            let Some(id) = file.map(|file| file.image) else { continue };
            match self.image(id) {
                Ok(image) if image.aci().is_some_and(|manifest| has_identity(manifest, name)) => {
                    return Ok(Some(id));
                }
                // Whoever wants it is told what is wrong with it.
                Err(StoreError::Incomplete { .. }) => return Ok(Some(id)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The file for what is known of an address, or comes from there.
    pub(crate) fn remote(&self, url: &str, extension: &str) -> PathBuf {
        self.dir.join("remote").join(file_name(url, extension))
    }

    /// Removes what is known of addresses whose images are gone, and downloads that nobody went on with for a day.
    pub(super) fn clear_remote(&self) -> Result<(), StoreError> {
        let dir = self.dir.join("remote");
        for name in super::list(&dir)? {
            let path = dir.join(&name);
            let part = path.with_extension("part");
            let there = |id| self.image_file(id).exists();
            let keep = match path.extension().and_then(|extension| extension.to_str()) {
                Some("part") => is_young(&path),
                Some("json") => std::fs::read(&path).is_ok_and(|record| is_useful(&record, there, &part)),
                _ => false,
            };
            if !keep {
                super::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// What an image was rendered from, bottom first; nothing if it was not.
    pub(crate) fn parts(&self, id: ImageId) -> Result<Vec<Digest>, StoreError> {
        Ok(self.image_record(id)?.map(|(file, _)| file.parts).unwrap_or_default())
    }
}
