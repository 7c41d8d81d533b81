//! Recording images, removing them, noting that they are used.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;

use super::gc::{DEAD, HELD};
use super::lock::{LayerLock, Pin};
use super::record::{ImageFile, RefFile, ref_file};
use super::{Store, StoreError, list, optional, read_json, remove_file, write};
use crate::content::Format;
use crate::digest::{Digest, ImageId};
use crate::manifest::digest_of;
use crate::platform::Platform;
use crate::remove::remove_path;
use crate::source::Resolved;
use crate::trust::Origin;

impl Store {
    /// Notes that the image was used now. Whoever may only read the store cannot, which does not matter.
    pub fn touch(&self, id: ImageId) {
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = File::options().write(true).open(self.image_file(id)).and_then(|file| file.set_times(now));
    }

    /// Removes an image and its names, which are returned. Its trees go when they are collected: only then is it known
    /// that no pod and no other image needs them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or trouble removing.
    pub fn remove(&self, id: ImageId) -> Result<Vec<String>, StoreError> {
        let _pin = self.pin()?;
        let path = self.image_file(id);
        if !path.exists() {
            return Err(StoreError::NotFound(id.to_string()));
        }
        let names = self.names()?.remove(&id).unwrap_or_default();
        for name in &names {
            remove_file(&self.refs().join(ref_file(name)))?;
        }
        remove_file(&path)?;
        self.sync_images()?;
        Ok(names)
    }

    /// Takes a name away from whatever image it stands for. The image stays.
    ///
    /// # Errors
    /// Trouble removing.
    pub fn unname(&self, name: &str) -> Result<(), StoreError> {
        let _pin = self.pin()?;
        remove_file(&self.refs().join(ref_file(name)))
    }

    /// Records an image whose layers are held. Content first, then the image, then its name: each is only written when
    /// what it speaks of is there. The image stays as long as the pin is held.
    pub(crate) fn record(
        &self,
        name: &str,
        resolved: &Resolved,
        config: &[u8],
        (diff_ids, platform): (&[Digest], &Platform),
    ) -> Result<(ImageId, Pin), StoreError> {
        let pin = self.pin()?;
        let id = ImageId::new(resolved.digest);
        // Under the name that the manifest has for it: exports need it by that.
        let config_digest = digest_of(resolved.manifest.config()).unwrap_or_else(|_| Digest::of(config));
        self.write_blob(resolved.digest, &resolved.bytes)?;
        self.write_blob(config_digest, config)?;
        let mut size = (resolved.bytes.len() + config.len()) as u64;
        // What lies below a layer that hides everything is not stacked, but the image has it: exports need it.
        let (mut trees, mut parts) = (Vec::new(), Vec::new());
        for diff_id in diff_ids {
            let layer = self.layer_file(*diff_id)?;
            if layer.opaque {
                parts.append(&mut trees);
            }
            trees.push(*diff_id);
        }
        parts.retain(|part| !trees.contains(part));
        // Twice in an image is once on disk.
        let mut opens_outputs = false;
        for tree in trees.iter().chain(&parts).collect::<BTreeSet<_>>() {
            let layer = self.layer_file(*tree)?;
            size += layer.bytes;
            opens_outputs |= layer.opens_outputs;
        }
        let (platform, imported) = (platform.clone(), Timestamp::now());
        let file = ImageFile {
            id,
            format: Format::Oci,
            config: config_digest,
            trees,
            parts,
            platform,
            imported,
            size,
            opens_outputs,
            origins: Vec::new(),
        };
        self.write_json(&self.image_file(id), &file)?;
        self.name(name, id)?;
        Ok((id, pin))
    }

    /// The names that an image came by, and which signatures were verified then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or trouble reading.
    pub fn origins(&self, id: ImageId) -> Result<Vec<Origin>, StoreError> {
        let record = self.image_record(id)?.ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        Ok(record.0.origins)
    }

    /// Records a name that an image came by. Signatures that were verified are not forgotten because nobody asked for
    /// any today. If two processes do this at once, one record is lost, and with it no more than the need to verify
    /// that signature again.
    pub(crate) fn note_origin(&self, id: ImageId, origin: Origin) -> Result<(), StoreError> {
        let _pin = self.pin()?;
        let (mut file, _) = self.image_record(id)?.ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        match file.origins.iter_mut().find(|known| known.name == origin.name) {
            Some(known) if *known == origin || origin.signatures.is_empty() => return Ok(()),
            Some(known) => *known = origin,
            None => file.origins.push(origin),
        }
        self.write_json(&self.image_file(id), &file)
    }

    /// Makes `name` stand for an image that is there.
    pub(crate) fn name(&self, name: &str, image: ImageId) -> Result<(), StoreError> {
        let path = self.refs().join(ref_file(name));
        let file =
            RefFile { name: name.to_owned(), image, imported: Timestamp::now(), latest: false, local: false };
        match optional(read_json::<RefFile>(&path)) {
            Ok(Some(there)) if there.image == image => Ok(()),
            _ => self.write_json(&path, &file),
        }
    }

    /// Gets rid of a tree that was replaced. If a pod may have it mounted, a collection does so later.
    pub(crate) fn retire(&self, old: &Path, diff_id: Digest, mounted: bool) -> Result<(), StoreError> {
        let retired = self.spare(&diff_id.hex(), if mounted { HELD } else { DEAD });
        std::fs::rename(old, &retired).map_err(StoreError::io("remove", old))?;
        if mounted {
            return Ok(());
        }
        remove_path(&retired).map_err(StoreError::io("remove", &retired))
    }

    pub(super) fn write_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if matches!(self.blob(digest), Ok(Some(_))) {
            return Ok(());
        }
        let path = self.blob_file(digest);
        write::replace(&self.tmp(), &path, bytes).map_err(StoreError::io("write", &path))
    }

    pub(crate) fn write_json(&self, path: &Path, value: &impl serde::Serialize) -> Result<(), StoreError> {
        let text = serde_json::to_vec(value)
            .map_err(|source| StoreError::Parse { path: path.to_owned(), source })?;
        write::replace(&self.tmp(), path, &text).map_err(StoreError::io("write", path))
    }

    /// Removes the work of processes that died. Cheap if there is none.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        for name in list(&self.tmp())? {
            let Some(hex) = name.strip_suffix(".work") else { continue };
            let path = self.tmp().join(format!("{hex}.lock"));
            if let Some(lock) = LayerLock::abandoned(&path).map_err(StoreError::io("lock", &path))? {
                let work = self.tmp().join(&name);
                remove_path(&work).map_err(StoreError::io("remove", &work))?;
                lock.release();
            }
        }
        Ok(())
    }
}
