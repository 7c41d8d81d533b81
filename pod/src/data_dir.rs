//! The data directory: where pods are created, listed and found.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::users::IdRange;
use crate::{FileError, LockedPod, Phase, PodDir, PodError, PodId, file, lock};

/// `/var/lib/rkt`, or what `--dir` says: opened once, everything else is beneath its descriptor.
#[derive(Debug, Clone)]
pub struct DataDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    pods: OwnedFd,
}

/// No pod, or more than one, goes by this (shortened) UUID.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The text has no characters.
    #[error("UUID cannot be empty")]
    Empty,
    /// No pod's UUID begins like that.
    #[error("no matches found for {0:?}")]
    None(String),
    /// Several pods' UUIDs begin like that.
    #[error("ambiguous uuid, {0} matches")]
    Ambiguous(usize),
    /// The directories could not be read.
    #[error("look for pods")]
    Pod(#[from] PodError),
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl DataDir {
    /// Opens the directory and makes what is missing of it: `pods/` 0700, and its phases, 0750.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let pods = path.join("pods");
        // Images are for the directory's group to look at. Pods are not: whoever can open a pod's directory can hold its
        // lock, read its secrets, and reach setuid programs in it.
        let make = |path: &Path, mode| std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        make(path, 0o750)
            .and_then(|()| make(&pods, 0o700))
            .map_err(|e| FileError::io("make", &pods.display().to_string(), e))?;
        let this = Self::open_existing(path)?;
        for phase in Phase::ALL {
            file::make_dir(&this.inner.pods, phase.dir_name(), Mode::from_raw_mode(0o750))?;
        }
        Ok(this)
    }

    /// Opens a directory that is there, and makes nothing: for readers.
    pub fn open_existing(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let path = path.canonicalize().map_err(|e| FileError::io("open", &name, e))?;
        let pods = rustix::fs::open(path.join("pods"), DIR_FLAGS, Mode::empty())
            .map_err(|e| FileError::io("open", &format!("{name}/pods"), e))?;
        Ok(Self { inner: Arc::new(Inner { path, pods }) })
    }

    /// Its absolute path, without links.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Makes a new pod, locked, in [`Phase::Embryo`].
    pub fn create(&self, id: PodId) -> Result<LockedPod, PodError> {
        let embryo = self.open_phase(Phase::Embryo).map_err(|e| PodError::io("create", id, e))?;
        rustix::fs::mkdirat(&embryo, id.to_string(), Mode::from_raw_mode(0o750))
            .map_err(|e| PodError::io("create", id, e))?;
        let dir = self.pod_in(Phase::Embryo, id)?.ok_or_else(|| PodError::io("create", id, Errno::NOENT))?;
        // Collected between mkdir and lock: as unlikely as it is harmless, but it must not pass for success.
        LockedPod::try_lock(dir)?.ok_or_else(|| PodError::io("lock", id, Errno::BUSY))
    }

    /// Every pod, in the order of their UUIDs. A pod that moves meanwhile is found once, in its later phase.
    pub fn pods(&self) -> Result<Vec<PodDir>, PodError> {
        let mut found = std::collections::BTreeMap::new();
        for phase in Phase::ALL {
            for id in self.ids(phase).map_err(|source| PodError::List { phase, source })? {
                if let Some(pod) = self.pod_in(phase, id)? {
                    let _ = found.insert(id, pod);
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// Opens the pod `id`, wherever it is. `None`: there is none.
    pub fn pod(&self, id: PodId) -> Result<Option<PodDir>, PodError> {
        // Twice: a pod that moves forward while we look through the phases may slip past once, not twice.
        for phase in Phase::ALL.into_iter().chain(Phase::ALL) {
            if let Some(pod) = self.pod_in(phase, id)? {
                return Ok(Some(pod));
            }
        }
        Ok(None)
    }

    /// Finds the pod whose UUID begins with `prefix`, as rkt: among those that are prepared, being prepared, running
    /// or exited.
    pub fn find(&self, prefix: &str) -> Result<PodDir, FindError> {
        if prefix.is_empty() {
            return Err(FindError::Empty);
        }
        let prefix = prefix.to_ascii_lowercase();
        let mut matches = std::collections::BTreeSet::new();
        for phase in [Phase::Prepare, Phase::Prepared, Phase::Run, Phase::ExitedGarbage] {
            let ids = self.ids(phase).map_err(|source| PodError::List { phase, source })?;
            matches.extend(ids.into_iter().filter(|id| id.to_string().starts_with(&prefix)));
        }
        match (matches.pop_first(), matches.len()) {
            (None, _) => Err(FindError::None(prefix)),
            (Some(id), 0) => self.pod(id)?.ok_or(FindError::None(prefix)),
            (Some(_), more) => Err(FindError::Ambiguous(more + 1)),
        }
    }

    /// Reserves for a pod that is being made the first of the `candidates` that no other pod has: `users.json` in its
    /// directory, for as long as that is there. `None`: all are taken.
    pub fn reserve_ids(
        &self,
        pod: &LockedPod,
        candidates: impl IntoIterator<Item = IdRange>,
    ) -> Result<Option<IdRange>, PodError> {
        let id = pod.dir().id();
        // One at a time; who looks and who writes is the same. Gone with the process.
        let _lock = self.lock_users().map_err(|e| PodError::io("reserve ids for", id, e))?;
        let mut taken = Vec::new();
        for other in self.pods()? {
            taken.extend(other.users()?);
        }
        let free = candidates.into_iter().find(|range| !taken.iter().any(|other| other.overlaps(range)));
        if let Some(range) = &free {
            pod.dir().write_users(range)?;
        }
        Ok(free)
    }

    fn lock_users(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.inner.pods, "users.lock", flags, Mode::from_raw_mode(0o600))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
        Ok(file)
    }

    /// Opens the directory of a phase.
    pub(crate) fn open_phase(&self, phase: Phase) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.inner.pods, phase.dir_name(), DIR_FLAGS, Mode::empty())
    }

    pub(crate) fn pods_fd(&self) -> impl AsFd + '_ {
        &self.inner.pods
    }

    fn ids(&self, phase: Phase) -> io::Result<Vec<PodId>> {
        let mut ids = Vec::new();
        let dir = match self.open_phase(phase) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(ids),
            Err(e) => return Err(e.into()),
        };
        for entry in rustix::fs::Dir::read_from(&dir)? {
            ids.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<PodId>().ok()));
        }
        Ok(ids)
    }

    /// Opens the pod `id` if it is in this phase.
    pub(crate) fn pod_in(&self, phase: Phase, id: PodId) -> Result<Option<PodDir>, PodError> {
        let path = format!("{}/{id}", phase.dir_name());
        match rustix::fs::openat(&self.inner.pods, path, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(PodDir::new(self.clone(), id, phase, fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(PodError::io("open", id, e)),
        }
    }

    /// Whether somebody holds the lock of the directory behind `fd`.
    pub(crate) fn is_locked(fd: impl AsFd) -> rustix::io::Result<bool> {
        lock::is_held(fd)
    }
}
