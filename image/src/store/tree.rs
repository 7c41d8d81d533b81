//! Layer trees: made in `tmp/<diff id>.work/`, finished by one rename to `tree/<diff id>/`.
//!
//! The work directory belongs to whoever holds the layer's lock exclusively; one that is there already is the rest of
//! a process that died, and is removed. Before the rename the file system is synced once (syncfs(2)), which is cheaper
//! than a sync for each of ten thousand files: after a crash a tree is complete or not there.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::lock::LayerLock;
use super::record::{BlobRecord, LayerFile};
use super::write::sync_dir;
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::remove::remove_path;
use crate::unpack::{Shape, Unpacked};

/// A layer's place in the store, ours for now.
pub(crate) enum LayerSlot {
    /// The tree is there and stays as long as this is held.
    Present(LayerHold),
    /// The tree is to be made, by us.
    Missing(LayerWork),
}

/// Keeps a tree from being collected until the image that needs it is recorded.
#[derive(Debug)]
pub(crate) struct LayerHold(Option<LayerLock>);

impl Drop for LayerHold {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.release();
        }
    }
}

/// A tree being made. Dropped before it is finished, it leaves nothing.
pub(crate) struct LayerWork {
    work: PathBuf,
    tree: PathBuf,
    published: bool,
    hold: LayerHold,
}

/// The directories of a tree being made.
pub(crate) struct WorkDirs {
    /// To unpack into.
    pub(crate) root: OwnedFd,
    /// For what is in the way.
    pub(crate) aside: OwnedFd,
    /// For what goes beside the tree.
    pub(crate) dir: OwnedFd,
}

impl LayerWork {
    /// Where to unpack to.
    pub(crate) fn directories(&self) -> Result<WorkDirs, StoreError> {
        let open = |name| {
            let path = self.work.join(name);
            let failed = StoreError::io("open", &path);
            File::open(&path).map(OwnedFd::from).map_err(failed)
        };
        Ok(WorkDirs { root: open("rootfs")?, aside: open("aside")?, dir: open(".")? })
    }

    /// Publishes the tree. Nothing if garbage collection took it away at once: then start over.
    pub(crate) fn finish(
        mut self,
        unpacked: &Unpacked,
        blob: Option<BlobRecord>,
    ) -> Result<Option<LayerHold>, StoreError> {
        self.complete(unpacked, blob)?;
        std::fs::rename(&self.work, &self.tree).map_err(StoreError::io("publish", &self.work))?;
        self.published()
    }

    /// Publishes the tree in the place of one that is there, and returns where that one is now.
    pub(crate) fn replace(
        mut self,
        unpacked: &Unpacked,
        blob: Option<BlobRecord>,
    ) -> Result<(LayerHold, Option<PathBuf>), StoreError> {
        self.complete(unpacked, blob)?;
        let failed = |error: rustix::io::Errno| StoreError::io("publish", &self.work)(error.into());
        let old = match renameat_with(CWD, &self.work, CWD, &self.tree, RenameFlags::EXCHANGE) {
            Err(rustix::io::Errno::NOENT) => {
                std::fs::rename(&self.work, &self.tree).map_err(StoreError::io("publish", &self.work))?;
                None
            }
            other => {
                other.map_err(failed)?;
                Some(self.work.clone())
            }
        };
        let tree = self.tree.clone();
        let gone = || StoreError::io("keep", &tree)(io::ErrorKind::NotFound.into());
        Ok((self.published()?.ok_or_else(gone)?, old))
    }

    /// Everything that belongs beside the tree, on the disk.
    fn complete(&self, unpacked: &Unpacked, blob: Option<BlobRecord>) -> Result<(), StoreError> {
        let failed = |act| StoreError::io(act, &self.work);
        remove_path(&self.work.join("aside")).map_err(failed("clean up"))?;
        let record = LayerFile {
            bytes: unpacked.bytes,
            shape: unpacked.shape,
            inodes: unpacked.entries,
            opaque: unpacked.opaque_root,
            opens_outputs: unpacked.opens_outputs,
            blob,
        };
        let text = serde_json::to_vec(&record).map_err(|error| failed("describe")(error.into()))?;
        std::fs::write(self.work.join("layer.json"), text).map_err(failed("describe"))?;
        let dir = File::open(&self.work).map_err(failed("open"))?;
        rustix::fs::syncfs(&dir).map_err(|error| failed("sync")(error.into()))
    }

    /// The tree has its name.
    fn published(&mut self) -> Result<Option<LayerHold>, StoreError> {
        self.published = true;
        let parent = self.tree.parent().unwrap_or(&self.tree);
        sync_dir(parent).map_err(StoreError::io("sync", parent))?;
        let Some(lock) = self.hold.0.take() else { return Ok(None) };
        let lock = lock.downgrade().map_err(StoreError::io("keep", &self.tree))?;
        Ok(lock.filter(|_| self.tree.exists()).map(|lock| LayerHold(Some(lock))))
    }
}

impl Drop for LayerWork {
    fn drop(&mut self) {
        // Once published, the name may be somebody else's work.
        if !self.published {
            // If it cannot be removed, the next one who wants the layer tries again, and tells.
            let _ = remove_path(&self.work);
        }
    }
}

impl Store {
    /// The layer's tree, or the right to make it. Waits, after a call of `waiting`, for someone who is making it.
    pub(crate) fn layer(&self, diff_id: Digest, waiting: impl Fn()) -> Result<LayerSlot, StoreError> {
        let hex = diff_id.hex();
        let path = self.tmp().join(format!("{hex}.lock"));
        let tree = self.trees().join(&hex);
        let failed = || StoreError::io("lock", &path);
        for turn in 0_u64.. {
            let lock = LayerLock::shared(&path, &waiting).map_err(failed())?;
            if tree.exists() {
                return Ok(LayerSlot::Present(LayerHold(Some(lock))));
            }
            if let Some(lock) = lock.upgrade().map_err(failed())? {
                if tree.exists() {
                    lock.release();
                    continue;
                }
                let work = self.tmp().join(format!("{hex}.work"));
                prepare(&work).map_err(StoreError::io("prepare", &work))?;
                return Ok(LayerSlot::Missing(LayerWork {
                    work,
                    tree,
                    published: false,
                    hold: LayerHold(Some(lock)),
                }));
            }
            // Somebody else was faster. Two who fail at the same time try again at different times.
            let pause = 1 + u64::from(std::process::id() % 7) + turn.min(20);
            std::thread::sleep(std::time::Duration::from_millis(pause));
        }
        Err(failed()(io::ErrorKind::WouldBlock.into()))
    }

    /// The right to make a layer's tree again, whether it is there or not.
    pub(crate) fn remake_layer(&self, diff_id: Digest, patience: Duration) -> Result<LayerWork, StoreError> {
        let hex = diff_id.hex();
        let path = self.tmp().join(format!("{hex}.lock"));
        let tree = self.trees().join(&hex);
        let start = Instant::now();
        while start.elapsed() <= patience {
            let lock = LayerLock::abandoned(&path).map_err(StoreError::io("lock", &path))?;
            if let Some(lock) = lock {
                let work = self.tmp().join(format!("{hex}.work"));
                let hold = LayerHold(Some(lock));
                prepare(&work).map_err(StoreError::io("prepare", &work))?;
                return Ok(LayerWork { work, tree, published: false, hold });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(StoreError::Busy)
    }

    /// Keeps a tree that is there from being collected. Nothing if it is not there.
    pub(super) fn hold_layer(&self, diff_id: Digest) -> Result<Option<LayerHold>, StoreError> {
        let hex = diff_id.hex();
        let path = self.tmp().join(format!("{hex}.lock"));
        let lock = LayerLock::shared(&path, || {}).map_err(StoreError::io("lock", &path))?;
        let hold = LayerHold(Some(lock));
        Ok(self.trees().join(&hex).exists().then_some(hold))
    }

    /// The root of a layer's tree.
    pub(crate) fn root_of(&self, tree: Digest) -> PathBuf {
        self.trees().join(tree.hex()).join("rootfs")
    }

    /// Whether a tree was unpacked as this image needs it: an archive has one digest, whatever its names mean.
    pub(crate) fn check_shape(&self, tree: Digest, shape: Shape) -> Result<(), StoreError> {
        if self.layer_file(tree)?.shape == shape {
            return Ok(());
        }
        Err(StoreError::Shape { path: self.trees().join(tree.hex()) })
    }

    /// The shape of a tree's archive: a layer's, unless it says otherwise.
    pub(crate) fn shape(&self, diff_id: Digest) -> Shape {
        self.layer_file(diff_id).map_or(Shape::Layer, |file| file.shape)
    }

    /// What is known of a tree.
    pub(super) fn layer_file(&self, diff_id: Digest) -> Result<LayerFile, StoreError> {
        let path = self.trees().join(diff_id.hex()).join("layer.json");
        super::read_json(&path)
    }
}

/// Makes the work directory afresh. Owner and mode are set: neither the data directory's group nor the umask may show
/// in an image.
pub(super) fn prepare(work: &Path) -> io::Result<()> {
    remove_path(work)?;
    let make = |path: &Path, mode| {
        DirBuilder::new().mode(mode).create(path)?;
        std::os::unix::fs::chown(
            path,
            Some(rustix::process::geteuid().as_raw()),
            Some(rustix::process::getegid().as_raw()),
        )?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    };
    make(work, 0o755)?;
    make(&work.join("aside"), 0o700)?;
    make(&work.join("rootfs"), 0o755)
}
