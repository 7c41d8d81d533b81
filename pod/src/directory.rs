//! One pod's directory, opened: what it says about the pod.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::attempt::AppDir;
use crate::bundle::Bundle;
use crate::file;
use crate::launch::Launch;
use crate::manifest::PodManifest;
use crate::sandbox::Sandbox;
use crate::stage1::Stage1;
use crate::users::{self, IdRange};
use crate::{AppName, DataDir, FileError, Phase, PodId, State};

/// A pod's directory. The descriptor goes on meaning this pod when the directory is moved.
#[derive(Debug)]
pub struct PodDir {
    data: DataDir,
    id: PodId,
    phase: Phase,
    fd: OwnedFd,
}

/// A pod's directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The system refused.
    #[error("{act} pod {id}")]
    Io {
        /// What was being done.
        act: &'static str,
        /// The pod.
        id: PodId,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the pod could not be read or written.
    #[error("pod {id}")]
    File {
        /// The pod.
        id: PodId,
        /// Which file, and why.
        source: FileError,
    },
    /// A directory of pods could not be read.
    #[error("list the pods in {phase}")]
    List {
        /// The directory.
        phase: Phase,
        /// Why.
        source: std::io::Error,
    },
}

/// A path does not lead to a pod.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path does not end in `pods/<phase>/<uuid>`, or nothing is there.
    #[error("{path} is not a pod's directory", path = .0.display())]
    NotAPod(PathBuf),
    /// The data directory could not be opened.
    #[error("open the data directory")]
    Data(#[from] FileError),
    /// The pod's directory could not be opened.
    #[error(transparent)]
    Pod(#[from] PodError),
}

impl PodError {
    pub(crate) fn io(act: &'static str, id: PodId, source: impl Into<std::io::Error>) -> Self {
        Self::Io { act, id, source: source.into() }
    }
}

const PRIVATE: Mode = Mode::from_raw_mode(0o640);
const DIR: Mode = Mode::from_raw_mode(0o755);

impl PodDir {
    pub(crate) fn new(data: DataDir, id: PodId, phase: Phase, fd: OwnedFd) -> Self {
        Self { data, id, phase, fd }
    }

    /// Opens the pod whose directory is at `path`, which ends in `pods/<phase>/<uuid>`: how a stage1 gets its pod.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let wrong = || OpenError::NotAPod(path.to_owned());
        let mut components = path.components().rev().map(|c| c.as_os_str().to_str());
        let id: PodId = components.next().flatten().and_then(|c| c.parse().ok()).ok_or_else(wrong)?;
        let phase = components.next().flatten().ok_or_else(wrong)?;
        let phase = Phase::ALL.into_iter().find(|p| p.dir_name() == phase).ok_or_else(wrong)?;
        let data = path.ancestors().nth(3).filter(|_| path.is_absolute()).ok_or_else(wrong)?;
        DataDir::open_existing(data)?.pod_in(phase, id)?.ok_or_else(wrong)
    }

    /// The pod's UUID.
    pub fn id(&self) -> PodId {
        self.id
    }

    /// The phase in which the directory was opened or to which it was last moved by us.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The data directory that the pod is in.
    pub fn data_dir(&self) -> &DataDir {
        &self.data
    }

    /// Its absolute path in [`Self::phase`].
    pub fn path(&self) -> PathBuf {
        self.data.path().join("pods").join(self.phase.dir_name()).join(self.id.to_string())
    }

    /// The descriptor of the directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn moved(&mut self, to: Phase) {
        self.phase = to;
    }

    pub(crate) fn error(&self, act: &'static str, e: Errno) -> PodError {
        PodError::io(act, self.id, e)
    }

    fn file<T>(&self, result: Result<T, FileError>) -> Result<T, PodError> {
        result.map_err(|source| PodError::File { id: self.id, source })
    }

    fn files<T>(&self, act: impl FnOnce() -> Result<T, FileError>) -> Result<T, PodError> {
        self.file(act())
    }

    /// Whether the path still leads to this directory.
    pub(crate) fn is_in_place(&self) -> Result<bool, PodError> {
        let here = rustix::fs::fstat(&self.fd).map_err(|e| self.error("look at", e))?;
        let path = format!("{}/{}", self.phase.dir_name(), self.id);
        match rustix::fs::statat(self.data.pods_fd(), path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.error("look at", e)),
        }
    }

    /// What the pod is doing now. Never waits.
    pub fn state(&self) -> Result<State, PodError> {
        let locked = DataDir::is_locked(&self.fd).map_err(|e| self.error("look at the lock of", e))?;
        Ok(self.phase.state(locked))
    }

    /// When the pod was created; `None` before that has been written down.
    pub fn created(&self) -> Result<Option<SystemTime>, PodError> {
        self.modified("pod-created")
    }

    /// When the pod was started; `None` if it never was.
    pub fn started(&self) -> Result<Option<SystemTime>, PodError> {
        self.modified("launch.json")
    }

    /// When the pod was moved to where it is: for a pod in `exited-garbage`, the start of its grace period.
    pub fn moved_at(&self) -> Result<SystemTime, PodError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| self.error("look at", e))?;
        Ok(time(stat.st_ctime, stat.st_ctime_nsec))
    }

    fn modified(&self, name: &str) -> Result<Option<SystemTime>, PodError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(time(stat.st_mtime, stat.st_mtime_nsec))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.error("look at", e)),
        }
    }

    /// The pod manifest.
    pub fn manifest(&self) -> Result<PodManifest, PodError> {
        self.file(file::read_json(&self.fd, "pod"))
    }

    /// Which stage1 isolates it.
    pub fn stage1(&self) -> Result<Stage1, PodError> {
        self.file(file::read_json(&self.fd, "stage1.json"))
    }

    /// How it was launched; `None` if it never was.
    pub fn launch(&self) -> Result<Option<Launch>, PodError> {
        self.file(file::read_json_if_there(&self.fd, "launch.json"))
    }

    /// Its sandbox; `None` until that is ready.
    pub fn sandbox(&self) -> Result<Option<Sandbox>, PodError> {
        self.file(file::read_json_if_there(&self.fd, "sandbox.json"))
    }

    /// Which ids of the host are its users and groups; `None`: it has no user namespace.
    pub fn users(&self) -> Result<Option<IdRange>, PodError> {
        self.file(file::read_json_if_there(&self.fd, users::FILE))
    }

    /// One app's directory. [`FileError::is_not_found`] tells that the pod has no such app.
    pub fn app(&self, name: &AppName) -> Result<AppDir, PodError> {
        self.file(AppDir::open(&self.fd, name))
    }

    /// Opens the storage of the `empty` volume `name`, making it with this mode when it is not there.
    pub fn make_volume(&self, name: &AppName, mode: u32) -> Result<OwnedFd, PodError> {
        self.files(|| {
            file::make_dir(&self.fd, "volumes", DIR)?;
            let volumes = file::open_dir(&self.fd, "volumes")?;
            file::make_dir(&volumes, name.as_str(), DIR)?;
            let volume = file::open_dir(&volumes, name.as_str())?;
            // mkdir's mode is cut by the umask.
            rustix::fs::fchmod(&volume, Mode::from_raw_mode(mode & 0o7777))
                .map_err(|e| FileError::io("set the mode of", &format!("volumes/{name}"), e))?;
            Ok(volume)
        })
    }

    /// Writes the manifest, marks the creation, and names the stage1. Only `prepare` calls this.
    pub fn write_manifest(&self, manifest: &PodManifest, stage1: &Stage1) -> Result<(), PodError> {
        self.files(|| {
            file::write_json(&self.fd, "pod", manifest, PRIVATE)?;
            file::write_json(&self.fd, "stage1.json", stage1, PRIVATE)?;
            file::write(&self.fd, "pod-created", b"", PRIVATE)
        })
    }

    /// Reserves ids for the pod. Only [`DataDir::reserve_ids`] calls this.
    pub(crate) fn write_users(&self, range: &IdRange) -> Result<(), PodError> {
        self.file(file::write_json(&self.fd, users::FILE, range, PRIVATE))
    }

    /// Adds an app: its configuration, its image, the directory for its root. Only `prepare` calls this.
    pub fn write_app(&self, name: &AppName, bundle: &Bundle) -> Result<(), PodError> {
        self.files(|| {
            file::make_dir(&self.fd, "apps", DIR)?;
            let apps = file::open_dir(&self.fd, "apps")?;
            file::make_dir(&apps, name.as_str(), DIR)?;
            let app = file::open_dir(&apps, name.as_str())?;
            file::make_dir(&app, "rootfs", DIR)?;
            file::make_dir(&app, "attempts", DIR)?;
            file::write_json(&app, "config.json", &bundle.config, PRIVATE)?;
            file::write_json(&app, "image.json", &bundle.image, PRIVATE)
        })
    }

    /// Makes what `prepare` wrote survive a loss of power. A pod that is run at once has no need of it: it does not
    /// survive one either.
    pub fn sync(&self) -> Result<(), PodError> {
        let apps = self.manifest()?.apps;
        let users = self.users()?.map(|_| users::FILE);
        self.files(|| {
            let top = ["pod", "stage1.json", "pod-created"].into_iter().chain(users).map(String::from);
            let of_app =
                |name: &AppName| ["config.json", "image.json", ""].map(|f| format!("apps/{name}/{f}"));
            let files = top.chain(apps.iter().flat_map(|app| of_app(&app.name)));
            files.chain([".".to_owned()]).try_for_each(|name| file::sync(&self.fd, &name))
        })
    }

    /// Writes a file of `etc/`, 0644: `hosts`, `hostname`, `resolv.conf`. Only a launcher calls this.
    pub fn write_etc(&self, name: &str, content: &str) -> Result<(), PodError> {
        self.files(|| {
            file::make_dir(&self.fd, "etc", DIR)?;
            let etc = file::open_dir(&self.fd, "etc")?;
            file::write(&etc, name, content.as_bytes(), Mode::from_raw_mode(0o644))
        })
    }

    /// Says how the pod is launched, now. Only a launcher calls this, while it holds the lock.
    pub fn write_launch(&self, launch: &Launch) -> Result<(), PodError> {
        self.file(file::write_json(&self.fd, "launch.json", launch, PRIVATE))
    }

    /// Says that the sandbox is ready. Only stage1 `up` calls this.
    pub fn write_sandbox(&self, sandbox: &Sandbox) -> Result<(), PodError> {
        self.file(file::write_json(&self.fd, "sandbox.json", sandbox, PRIVATE))
    }
}

fn time(seconds: impl TryInto<i64>, nanoseconds: impl TryInto<u32>) -> SystemTime {
    let (seconds, nanoseconds) = (seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
    let whole = std::time::Duration::from_secs(seconds.unsigned_abs());
    let base = SystemTime::UNIX_EPOCH;
    let base = if seconds < 0 { base.checked_sub(whole) } else { base.checked_add(whole) };
    base.unwrap_or(SystemTime::UNIX_EPOCH) + std::time::Duration::from_nanos(nanoseconds.into())
}
