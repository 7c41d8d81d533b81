//! Whether a layer's tree is what the layer makes.
//!
//! The stream that tree and recipe make must have the diff id: that covers every content and every header. While it
//! passes, its headers make an outline of the tree (everything but the contents), which is then compared with the tree
//! entry by entry: that covers what is on the disk besides contents, and names what is wrong.

use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock::LayerLock;
use super::tree::prepare;
use super::{Store, StoreError};
use crate::compare::compare;
use crate::digest::{Digest, Hasher};
use crate::recipe::{Difference, Rebuild};
use crate::remove::remove_path;
use crate::unpack::{Shape, outline};

/// What became of a check.
#[derive(Debug)]
pub enum LayerCheck {
    /// Everything is as it should be.
    Sound,
    /// It was rendered from others and cannot be compared with anything: those are what is verified.
    Rendered,
    /// Something is not.
    Broken(Vec<Damage>),
}

/// What is wrong with a layer in the store.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// There is no tree.
    #[error("its tree is missing")]
    Missing,
    /// Its record cannot be read.
    #[error("its record is damaged")]
    Record(#[source] Box<StoreError>),
    /// It was stored before there were recipes.
    #[error("it was stored by a version that did not keep what verifying needs")]
    NoRecipe,
    /// Its recipe is damaged.
    #[error("its recipe is damaged: {0}")]
    Recipe(String),
    /// Something in its tree is not as it should be.
    #[error("{0}")]
    Entry(Difference),
    /// Its archive is another one, although nothing in the tree looks wrong.
    #[error("its digest is {found}")]
    Digest {
        /// What it is.
        found: Digest,
    },
}

/// Directories of a check, gone with it. A killed one is removed as the work of a fetch is.
struct Scratch {
    work: std::path::PathBuf,
    lock: Option<LayerLock>,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Checks the tree of a layer.
    ///
    /// # Errors
    /// Trouble reading or writing. That the layer is broken is no error.
    pub fn check_layer(&self, diff_id: Digest) -> Result<LayerCheck, StoreError> {
        let broken = |damage| Ok(LayerCheck::Broken(vec![damage]));
        let Some(_hold) = self.hold_layer(diff_id)? else { return broken(Damage::Missing) };
        let shape = match self.layer_file(diff_id) {
            Ok(file) if file.shape == Shape::Rendered => return Ok(LayerCheck::Rendered),
            Ok(file) => file.shape,
            Err(error) => return broken(Damage::Record(Box::new(error))),
        };
        let rebuild = match self.rebuild(diff_id) {
            Ok(rebuild) => rebuild,
            Err(StoreError::NoRecipe(_)) => return broken(Damage::NoRecipe),
            Err(StoreError::Io { source, .. }) => return broken(Damage::Recipe(source.to_string())),
            Err(error) => return Err(error),
        };
        let scratch = self.scratch()?;
        let root = self.trees().join(diff_id.hex()).join("rootfs");
        let failed = StoreError::io("verify", &root);
        let tree: OwnedFd = std::fs::File::open(&root).map_err(StoreError::io("open", &root))?.into();
        let damages = check(rebuild, (diff_id, shape), tree.as_fd(), &scratch.work).map_err(failed)?;
        Ok(if damages.is_empty() { LayerCheck::Sound } else { LayerCheck::Broken(damages) })
    }

    fn scratch(&self) -> Result<Scratch, StoreError> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("verify-{}-{count}", std::process::id());
        let (work, lock) = (self.tmp().join(format!("{name}.work")), self.tmp().join(format!("{name}.lock")));
        let taken = LayerLock::abandoned(&lock).map_err(StoreError::io("lock", &lock))?;
        let taken = taken.ok_or(StoreError::Busy)?;
        let scratch = Scratch { work, lock: Some(taken) };
        prepare(&scratch.work).map_err(StoreError::io("prepare", &scratch.work))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it cannot be removed, the next fetch or collection does.
        let _ = remove_path(&self.work);
        if let Some(lock) = self.lock.take() {
            lock.release();
        }
    }
}

fn check(
    rebuild: Rebuild,
    (diff_id, shape): (Digest, Shape),
    tree: BorrowedFd<'_>,
    scratch: &Path,
) -> io::Result<Vec<Damage>> {
    let open = |name| std::fs::File::open(scratch.join(name));
    let (root, aside) = (open("rootfs")?, open("aside")?);
    let made = root.metadata().map(|metadata| (metadata.mtime(), metadata.mtime_nsec()))?;
    let hasher = Hasher::new(diff_id.algorithm());
    let stream = BufReader::with_capacity(256 << 10, Hashing { stream: rebuild, hasher });
    let (mut rest, outcome) = outline(stream, (root.try_clone()?.into(), aside.as_fd()), shape);
    if let Err(error) = outcome {
        let error: &dyn std::error::Error = &error;
        let causes = std::iter::successors(Some(error), |error| error.source());
        return Ok(vec![Damage::Recipe(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))]);
    }
    loop {
        match rest.fill_buf() {
            Ok([]) => break,
            Ok(bytes) => {
                let count = bytes.len();
                rest.consume(count);
            }
            Err(error) => return Ok(vec![Damage::Recipe(error.to_string())]),
        }
    }
    let Hashing { stream, hasher } = rest.into_inner();
    let found = hasher.finish();
    let mut damages: Vec<Damage> = stream.into_differences().into_iter().map(Damage::Entry).collect();
    for difference in compare(root.as_fd(), tree, made)? {
        // What was already seen in the stream.
        let seen = |damage: &Damage| matches!(damage, Damage::Entry(entry) if entry.path == difference.path && entry.wrong == difference.wrong);
        if !damages.iter().any(seen) {
            damages.push(Damage::Entry(difference));
        }
    }
    if found != diff_id && damages.is_empty() {
        damages.push(Damage::Digest { found });
    }
    Ok(damages)
}

/// Hashes what passes.
struct Hashing<R> {
    stream: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
