//! Garbage collection: what nothing refers to, goes.
//!
//! Decides with the store to itself, which takes milliseconds: everything that goes gets out of the way by a rename.
//! The slow part, emptying trees, comes after, when the store is in use again; if it is interrupted, the next
//! collection goes on with it.
//!
//! Trees that no image and no pod needs always go. Of images those that may go ([`Candidates`]) and were not used within
//! the grace period: all of them, or, under [`Pressure`], the least recently used first and only as long as the file
//! system is too full. Then the copies of layers that are kept for exports and repairs go before any image does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::lock::{Exclusive, LayerLock};
use super::pressure::{Pressure, Usage};
use super::record::{ImageFile, ref_file};
use super::write::{NEW, sync_dir};
use super::{Store, StoreError, list, remove_file};
use crate::digest::{Algorithm, Digest, ImageId};
use crate::remove::remove_path;

/// The ending of trees that are being emptied.
pub(super) const DEAD: &str = "dead";
/// The ending of trees that were replaced while a pod may have had them mounted.
pub(super) const HELD: &str = "held";

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
    /// Only as much as a full file system asks for.
    pub pressure: Option<Pressure>,
    /// Whether to tell only what would go.
    pub dry_run: bool,
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
    /// Images removed, the least recently used first.
    pub images: Vec<ImageId>,
    /// Trees removed.
    pub trees: Vec<Digest>,
    /// Layers of which the copy was removed, and the tree was not.
    pub blobs: Vec<Digest>,
    /// Bytes of all that.
    pub bytes: u64,
    /// Under pressure: how full the file system was before, and is now.
    pub usage: Option<(Usage, Usage)>,
}

impl Default for GcPlan {
    fn default() -> Self {
        Self {
            candidates: Candidates::Unnamed,
            grace: Duration::ZERO,
            pressure: None,
            dry_run: false,
            now: SystemTime::now(),
            patience: Duration::from_secs(10),
        }
    }
}

/// What is in the store and what of it is needed, at one moment.
#[derive(Default)]
struct Survey {
    /// Images that may go, the least recently used first.
    candidates: Vec<(ImageId, ImageFile, Vec<String>)>,
    /// How many need a tree: images, and pods.
    trees: BTreeMap<Digest, usize>,
    /// Documents of images that stay.
    blobs: BTreeSet<Digest>,
    /// When a tree was last used, as far as images tell.
    used: BTreeMap<Digest, SystemTime>,
}

impl Survey {
    fn keep(&mut self, file: &ImageFile, id: ImageId) {
        self.blobs.extend([id.digest(), file.config]);
    }
}

fn trees_of(file: &ImageFile) -> BTreeSet<Digest> {
    file.trees.iter().chain(&file.parts).copied().collect()
}

impl Store {
    /// Removes images that may go, and trees, documents and leftovers that nothing needs any more.
    ///
    /// `in_use` reads what pods use. It is called when the store is locked, because no pod can then begin to use
    /// something unseen: one that is being prepared holds a [`super::Pin`] until its directory names its trees, and the
    /// collection waits for that. Images in use count as used now.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::InUse`] if `in_use` fails, or trouble removing.
    pub fn gc(
        &self,
        plan: &GcPlan,
        in_use: impl Fn() -> std::io::Result<InUse>,
    ) -> Result<GcReport, StoreError> {
        let mut report = GcReport::default();
        let Some(pressure) = plan.pressure else {
            self.round(plan, u64::MAX, &in_use, &mut report)?;
            return Ok(report);
        };
        let before = self.usage()?;
        let mut now = before;
        report.usage = Some((before, now));
        if before.percent() < u64::from(pressure.high) {
            return Ok(report);
        }
        // What a tree takes on the disk is known only when it is gone: in rounds, until there is room or nothing left.
        loop {
            let gone = report.bytes;
            self.round(plan, now.above(pressure.low), &in_use, &mut report)?;
            now = self.usage()?;
            report.usage = Some((before, now));
            if plan.dry_run || now.above(pressure.low) == 0 || report.bytes == gone {
                return Ok(report);
            }
        }
    }

    /// Removes what nothing needs, and images and copies worth `goal` bytes more.
    fn round(
        &self,
        plan: &GcPlan,
        goal: u64,
        in_use: &dyn Fn() -> std::io::Result<InUse>,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let lock = self.dir.join("lock");
        let taken = Exclusive::take(&lock, plan.patience).map_err(StoreError::io("lock", &lock))?;
        let exclusive = taken.ok_or(StoreError::Busy)?;
        let in_use = in_use().map_err(StoreError::InUse)?;
        let goal = report.bytes.saturating_add(goal);
        if !plan.dry_run {
            in_use.images.iter().for_each(|id| self.touch(*id));
            self.clear_tmp(&in_use)?;
        }
        let mut survey = self.survey(plan, &in_use)?;
        self.retire_trees(plan, &survey.trees, report)?;
        if plan.pressure.is_some() {
            self.drop_blobs(plan, &survey, goal, report)?;
        }
        self.remove_images(plan, &mut survey, goal, report)?;
        self.retire_trees(plan, &survey.trees, report)?;
        if !plan.dry_run {
            self.clear_remote()?;
            self.remove_documents(&survey.blobs)?;
        }
        drop(exclusive);
        if plan.dry_run { Ok(()) } else { self.empty_dead() }
    }

    /// The work of processes that died, and files that were being written: with the store to ourselves, nobody is.
    fn clear_tmp(&self, in_use: &InUse) -> Result<(), StoreError> {
        self.sweep()?;
        for name in list(&self.tmp())? {
            let path = self.tmp().join(&name);
            if name.ends_with(NEW) {
                remove_file(&path)?;
            } else if name.ends_with(".lock") {
                if let Some(lock) = LayerLock::abandoned(&path).map_err(StoreError::io("lock", &path))? {
                    lock.release();
                }
            } else if let Some(hex) = name.strip_suffix(HELD).and_then(|name| name.split('-').next())
                && !Digest::from_hex(hex).is_ok_and(|tree| in_use.trees.contains(&tree))
            {
                std::fs::rename(&path, self.spare(hex, DEAD)).map_err(StoreError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn survey(&self, plan: &GcPlan, in_use: &InUse) -> Result<Survey, StoreError> {
        let mut names = self.names()?;
        let mut survey = Survey::default();
        let mut candidates = Vec::new();
        for tree in &in_use.trees {
            *survey.trees.entry(*tree).or_default() += 1;
            let _ = survey.used.insert(*tree, plan.now);
        }
        for id in self.image_ids()? {
            let Some((file, last_used)) = self.image_record(id)? else { continue };
            let (names, last_used) = (names.remove(&id).unwrap_or_default(), SystemTime::from(last_used));
            for tree in trees_of(&file) {
                *survey.trees.entry(tree).or_default() += 1;
                let used = survey.used.entry(tree).or_insert(last_used);
                *used = last_used.max(*used);
            }
            // A clock that was set back makes an image look used in the future: then it was used just now.
            let idle = plan.now.duration_since(last_used).unwrap_or_default();
            let named = plan.candidates == Candidates::Unnamed && !names.is_empty();
            if idle < plan.grace || named || in_use.images.contains(&id) {
                survey.keep(&file, id);
            } else {
                candidates.push((last_used, (id, file, names)));
            }
        }
        candidates.sort_by_key(|(last_used, (id, ..))| (*last_used, *id));
        survey.candidates = candidates.into_iter().map(|(_, candidate)| candidate).collect();
        Ok(survey)
    }

    /// Removes copies of layers, those first that were not used for longest.
    fn drop_blobs(
        &self,
        plan: &GcPlan,
        survey: &Survey,
        goal: u64,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let mut trees: Vec<(&Digest, &SystemTime)> = survey.used.iter().collect();
        trees.sort_by_key(|(tree, used)| (**used, **tree));
        for (tree, _) in trees {
            let path = self.kept_blob(*tree);
            let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if report.bytes >= goal {
                break;
            }
            if size > 0 {
                report.bytes += size;
                report.blobs.push(*tree);
                if !plan.dry_run {
                    remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    fn remove_images(
        &self,
        plan: &GcPlan,
        survey: &mut Survey,
        goal: u64,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let mut expected = report.bytes;
        for (id, file, names) in std::mem::take(&mut survey.candidates) {
            if expected >= goal {
                survey.keep(&file, id);
                continue;
            }
            for tree in trees_of(&file) {
                if let Some(count) = survey.trees.get_mut(&tree) {
                    *count -= 1;
                    if *count == 0 {
                        let _ = survey.trees.remove(&tree);
                        expected = expected.saturating_add(self.weight(tree, report));
                    }
                }
            }
            report.images.push(id);
            if plan.dry_run {
                continue;
            }
            for name in names {
                remove_file(&self.refs().join(ref_file(&name)))?;
            }
            remove_file(&self.image_file(id))?;
        }
        // A crash must not bring back an image whose trees are gone.
        if plan.dry_run { Ok(()) } else { self.sync_images() }
    }

    pub(super) fn sync_images(&self) -> Result<(), StoreError> {
        [self.refs(), self.images_dir()]
            .iter()
            .try_for_each(|dir| sync_dir(dir).map_err(StoreError::io("sync", dir)))
    }

    /// Bytes that are gained when this tree goes. A copy that the report has already is not counted again.
    fn weight(&self, tree: Digest, report: &GcReport) -> u64 {
        let blob = std::fs::metadata(self.kept_blob(tree)).map_or(0, |metadata| metadata.len());
        let blob = if report.blobs.contains(&tree) { 0 } else { blob };
        blob.saturating_add(self.layer_file(tree).map_or(0, |file| file.bytes))
    }

    /// Moves trees that nothing needs out of the way. One that a fetch holds is about to be needed.
    fn retire_trees(
        &self,
        plan: &GcPlan,
        needed: &BTreeMap<Digest, usize>,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        for hex in list(&self.trees())? {
            let Ok(tree) = Digest::from_hex(&hex) else { continue };
            if needed.contains_key(&tree) || report.trees.contains(&tree) && plan.dry_run {
                continue;
            }
            let path = self.tmp().join(format!("{hex}.lock"));
            let lock = LayerLock::abandoned(&path).map_err(StoreError::io("lock", &path))?;
            let Some(lock) = lock else { continue };
            report.bytes += self.weight(tree, report);
            if !plan.dry_run {
                let from = self.trees().join(&hex);
                std::fs::rename(&from, self.spare(&hex, DEAD)).map_err(StoreError::io("remove", &from))?;
            }
            lock.release();
            report.blobs.retain(|blob| *blob != tree);
            report.trees.push(tree);
        }
        Ok(())
    }

    /// A name in `tmp/` that is free: the same layer may have died before and not be empty yet.
    pub(super) fn spare(&self, hex: &str, ending: &str) -> std::path::PathBuf {
        let name = |count: u32| self.tmp().join(format!("{hex}-{count}.{ending}"));
        (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
    }

    fn remove_documents(&self, kept: &BTreeSet<Digest>) -> Result<(), StoreError> {
        for blobs in Algorithm::ALL.map(|algorithm| self.blobs(algorithm)) {
            for hex in list(&blobs)? {
                if !Digest::from_hex(&hex).is_ok_and(|digest| kept.contains(&digest)) {
                    remove_file(&blobs.join(hex))?;
                }
            }
        }
        Ok(())
    }

    fn empty_dead(&self) -> Result<(), StoreError> {
        for name in list(&self.tmp())? {
            if name.ends_with(DEAD) {
                let path = self.tmp().join(name);
                remove_path(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}
