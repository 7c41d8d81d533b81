//! Locks: advisory, on files, gone with their holder (flock(2)).
//!
//! The store's `lock` is held shared by whoever relies on what is in the store (a [`Pin`]) and exclusively by garbage
//! collection while it decides what goes. A layer's lock, `tmp/<diff id>.lock`, is held exclusively while its tree is
//! made and shared while an image that needs it is not recorded yet.
//!
//! Nobody ever waits for a layer's lock exclusively: two fetches that hold what the other one waits for would wait for
//! ever. Waiting shared is safe, because it is only for someone who makes a tree and waits for nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// As long as one is held, nothing that the store has is collected. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pin(#[expect(dead_code, reason = "the lock ends when the file is closed")] Arc<File>);

impl Pin {
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        retry(|| flock(&file, FlockOperation::LockShared))?;
        Ok(Self(Arc::new(file)))
    }
}

/// The store, to oneself.
#[derive(Debug)]
pub(super) struct Exclusive(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl Exclusive {
    /// Nothing if the store is pinned for longer than `patience`.
    pub(super) fn take(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let file = open(path)?;
        let start = Instant::now();
        loop {
            match retry(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => return Ok(Some(Self(file))),
                Err(Errno::WOULDBLOCK) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(5))
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The lock of one layer.
#[derive(Debug)]
pub(super) struct LayerLock {
    path: PathBuf,
    file: File,
}

impl LayerLock {
    /// Held shared. `waiting` is called if someone is making the tree.
    pub(super) fn shared(path: &Path, waiting: impl Fn()) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            match retry(|| flock(&file, FlockOperation::NonBlockingLockShared)) {
                Err(Errno::WOULDBLOCK) => {
                    waiting();
                    retry(|| flock(&file, FlockOperation::LockShared))?;
                }
                other => other?,
            }
            if is_current(&file, path)? {
                return Ok(Self { path: path.to_owned(), file });
            }
        }
    }

    /// From shared to exclusive, if nobody else has it. The kernel lets go of the old lock first.
    pub(super) fn upgrade(self) -> io::Result<Option<Self>> {
        match retry(|| flock(&self.file, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            other => {
                other?;
                Ok(is_current(&self.file, &self.path)?.then_some(self))
            }
        }
    }

    /// From exclusive to shared. In the moment between, garbage collection may strike: look again afterwards.
    pub(super) fn downgrade(self) -> io::Result<Option<Self>> {
        retry(|| flock(&self.file, FlockOperation::LockShared))?;
        Ok(is_current(&self.file, &self.path)?.then_some(self))
    }

    /// Exclusively, if nobody has it: then whatever it guards is dead.
    pub(super) fn abandoned(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match retry(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            other => {
                other?;
                Ok(is_current(&file, path)?.then(|| Self { path: path.to_owned(), file }))
            }
        }
    }

    /// Lets go, and removes the file if nobody else needs it. Whoever waits for it notices and starts over.
    pub(super) fn release(self) {
        if let Ok(Some(last)) = self.upgrade() {
            // If it stays, garbage collection removes it.
            let _ = std::fs::remove_file(&last.path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // flock(2) asks for no permission but that to open: whoever can read the file can hold up everybody.
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Whether the file that is locked is still the one with that name.
fn is_current(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Signals are no reason to fail.
fn retry(mut lock: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match lock() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_keeps_collection_out_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (one, two) = (Pin::take(&path).unwrap(), Pin::take(&path).unwrap());
        assert!(Exclusive::take(&path, Duration::ZERO).unwrap().is_none());
        let clone = one.clone();
        drop((one, two));
        assert!(Exclusive::take(&path, Duration::ZERO).unwrap().is_none());
        drop(clone);
        assert!(Exclusive::take(&path, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn a_layers_lock_passes_between_its_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let maker = LayerLock::shared(&path, || panic!("nobody has it")).unwrap().upgrade().unwrap().unwrap();
        assert!(LayerLock::abandoned(&path).unwrap().is_none(), "the maker is alive");
        std::thread::scope(|scope| {
            let (waits, waited) = std::sync::mpsc::channel();
            let reader = scope.spawn(|| LayerLock::shared(&path, move || waits.send(()).unwrap()).unwrap());
            waited.recv().unwrap();
            let maker = maker.downgrade().unwrap().unwrap();
            let reader = reader.join().unwrap();
            assert!(LayerLock::abandoned(&path).unwrap().is_none(), "two users are alive");
            maker.release();
            assert!(path.exists(), "one user is left");
            reader.release();
            assert!(!path.exists(), "nobody is left");
        });
    }
}
