//! Garbage collection: what nothing refers to, goes.
//!
//! Decides with the store to itself, which takes milliseconds: everything that goes gets out of the way by a rename.
//! The slow part, emptying trees, comes after, when the store is in use again; if it is interrupted, the next
//! collection goes on with it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::lock::{Exclusive, LayerLock};
use super::record::{ImageFile, ref_file};
use super::write::NEW;
use super::{Store, StoreError, list, remove_file};
use crate::digest::{Algorithm, Digest, ImageId};
use crate::remove::remove_path;

/// Which images may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidates {
    /// Only those whose names have all come to mean other images.
    Unnamed,
    /// All that are not in use, with their names.
    Unused,
}

/// What to collect, and when.
#[derive(Clone, Debug)]
pub struct GcPlan {
    /// Which images may go.
    pub candidates: Candidates,
    /// What was used within this time stays.
    pub grace: Duration,
    /// The present.
    pub now: SystemTime,
    /// How long to wait for others to let go of the store.
    pub patience: Duration,
}

/// What pods use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Images.
    pub images: BTreeSet<ImageId>,
    /// Trees of layers ([`super::Image::trees`]).
    pub trees: BTreeSet<Digest>,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Images removed.
    pub images: Vec<ImageId>,
    /// Trees removed.
    pub trees: Vec<Digest>,
    /// Bytes of the trees removed.
    pub bytes: u64,
}

impl Default for GcPlan {
    fn default() -> Self {
        Self {
            candidates: Candidates::Unnamed,
            grace: Duration::ZERO,
            now: SystemTime::now(),
            patience: Duration::from_secs(10),
        }
    }
}

/// What a collection keeps.
#[derive(Default)]
struct Kept {
    trees: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
}

impl Store {
    /// Removes images that may go, and trees, documents and leftovers that nothing needs any more.
    ///
    /// `in_use` reads what pods use. It is called when the store is locked, because no pod can then begin to use
    /// something unseen: one that is being prepared holds a [`super::Pin`] until its directory names its trees, and the
    /// collection waits for that.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::InUse`] if `in_use` fails, or trouble removing.
    pub fn gc(
        &self,
        plan: &GcPlan,
        in_use: impl FnOnce() -> std::io::Result<InUse>,
    ) -> Result<GcReport, StoreError> {
        let lock = self.dir.join("lock");
        let taken = Exclusive::take(&lock, plan.patience).map_err(StoreError::io("lock", &lock))?;
        let exclusive = taken.ok_or(StoreError::Busy)?;
        let in_use = in_use().map_err(StoreError::InUse)?;
        let mut report = GcReport::default();
        self.clear_tmp()?;
        let kept = self.choose_images(plan, in_use, &mut report)?;
        self.retire_trees(&kept, &mut report)?;
        self.clear_remote()?;
        self.remove_blobs(&kept)?;
        drop(exclusive);
        self.empty_dead()?;
        Ok(report)
    }

    /// The work of processes that died, and files that were being written: with the store to ourselves, nobody is.
    fn clear_tmp(&self) -> Result<(), StoreError> {
        self.sweep()?;
        for name in list(&self.tmp())? {
            let path = self.tmp().join(&name);
            if name.ends_with(NEW) {
                remove_file(&path)?;
            } else if name.ends_with(".lock")
                && let Some(lock) = LayerLock::abandoned(&path).map_err(StoreError::io("lock", &path))?
            {
                lock.release();
            }
        }
        Ok(())
    }

    fn choose_images(&self, plan: &GcPlan, in_use: InUse, report: &mut GcReport) -> Result<Kept, StoreError> {
        let names = self.names()?;
        let mut kept = Kept { trees: in_use.trees, ..Kept::default() };
        for id in self.image_ids()? {
            let Some((file, last_used)) = self.image_record(id)? else { continue };
            let names = names.get(&id).map(Vec::as_slice).unwrap_or_default();
            // A clock that was set back makes an image look used in the future: then it was used just now.
            let idle = plan.now.duration_since(SystemTime::from(last_used)).unwrap_or_default();
            let recent = idle < plan.grace;
            let named = plan.candidates == Candidates::Unnamed && !names.is_empty();
            if recent || named || in_use.images.contains(&id) {
                let ImageFile { config, trees, parts, .. } = file;
                kept.trees.extend(trees.into_iter().chain(parts));
                kept.blobs.extend([id.digest(), config]);
                continue;
            }
            for name in names {
                remove_file(&self.refs().join(ref_file(name)))?;
            }
            remove_file(&self.image_file(id))?;
            report.images.push(id);
        }
        Ok(kept)
    }

    /// Moves trees that nothing needs out of the way. One that a fetch holds is about to be needed.
    fn retire_trees(&self, kept: &Kept, report: &mut GcReport) -> Result<(), StoreError> {
        for hex in list(&self.trees())? {
            let Ok(tree) = Digest::from_hex(&hex) else { continue };
            if kept.trees.contains(&tree) {
                continue;
            }
            let path = self.tmp().join(format!("{hex}.lock"));
            let lock = LayerLock::abandoned(&path).map_err(StoreError::io("lock", &path))?;
            let Some(lock) = lock else { continue };
            report.bytes += self.layer_file(tree).map_or(0, |file| file.bytes);
            let (from, to) = (self.trees().join(&hex), self.dead(&hex));
            std::fs::rename(&from, to).map_err(StoreError::io("remove", &from))?;
            lock.release();
            report.trees.push(tree);
        }
        Ok(())
    }

    /// A name that is free: the same layer may have died before and not be empty yet.
    fn dead(&self, hex: &str) -> std::path::PathBuf {
        let name = |count: u32| self.tmp().join(format!("{hex}-{count}.dead"));
        (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
    }

    fn remove_blobs(&self, kept: &Kept) -> Result<(), StoreError> {
        for blobs in Algorithm::ALL.map(|algorithm| self.blobs(algorithm)) {
            for hex in list(&blobs)? {
                if !Digest::from_hex(&hex).is_ok_and(|digest| kept.blobs.contains(&digest)) {
                    remove_file(&blobs.join(hex))?;
                }
            }
        }
        Ok(())
    }

    fn empty_dead(&self) -> Result<(), StoreError> {
        for name in list(&self.tmp())? {
            if name.ends_with(".dead") {
                let path = self.tmp().join(name);
                remove_path(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}
