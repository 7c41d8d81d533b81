//! Choosing a stage1, and calling it. `docs/stage1.md`.
//!
//! A stage1 is an executable named `stage1-<name>`, beside `rkt` itself or in `/usr/lib/rkt/stage1/`.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pod::stage1::{ENV_DEBUG, ENV_INTERFACE_VERSION, INTERFACE_VERSION, Stage1, Verb};
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use sys::mount_attributes::{self, Change, Reach};

/// Where packages put stage1s.
const LIBRARY: &str = "/usr/lib/rkt/stage1";
/// The one that is used when none is named.
pub(crate) const DEFAULT: &str = "ns";

/// A stage1 cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stage1Error {
    #[error(
        "stage1 {name:?} is not installed: there is no executable stage1-{name} beside rkt or in {LIBRARY}"
    )]
    NotInstalled { name: String },
    #[error("{0:?} cannot be the name of a stage1")]
    Name(String),
    #[error("stage1 {path}: cannot use it", path = path.display())]
    Path { path: PathBuf, source: std::io::Error },
    #[error("stage1 {path}: it is not an executable file", path = path.display())]
    NotExecutable { path: PathBuf },
    #[error("stage1 {path}: cannot run it", path = path.display())]
    Spawn { path: PathBuf, source: std::io::Error },
    #[error(
        "the pod was prepared for version {0} of the stage1 interface; this rkt speaks {INTERFACE_VERSION}"
    )]
    Version(u32),
    #[error("stage1 {verb} failed ({status})", verb = verb.as_str())]
    Failed { verb: Verb, status: std::process::ExitStatus },
}

/// Finds a stage1 by name: `ns`, `fly`, `kvm`, rkt's own names for them, or anybody's.
pub(crate) fn by_name(name: &str) -> Result<Stage1, Stage1Error> {
    let short = match name.split(':').next().unwrap_or(name) {
        "coreos.com/rkt/stage1-coreos" | "coreos" => "ns",
        "coreos.com/rkt/stage1-fly" => "fly",
        "coreos.com/rkt/stage1-kvm" => "kvm",
        other => other,
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if short.is_empty() || short.starts_with('.') || !short.chars().all(fine) {
        return Err(Stage1Error::Name(name.to_owned()));
    }
    let file = format!("stage1-{short}");
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&file)));
    let mut places = beside.into_iter().chain([Path::new(LIBRARY).join(&file)]);
    let path = places.find(|path| is_executable(path));
    let path = path.ok_or_else(|| Stage1Error::NotInstalled { name: short.to_owned() })?;
    Ok(Stage1 { name: short.to_owned(), path, interface_version: INTERFACE_VERSION })
}

/// Takes an executable as stage1.
pub(crate) fn by_path(path: &Path) -> Result<Stage1, Stage1Error> {
    let absolute =
        path.canonicalize().map_err(|source| Stage1Error::Path { path: path.to_owned(), source })?;
    if !is_executable(&absolute) {
        return Err(Stage1Error::NotExecutable { path: absolute });
    }
    let file = absolute.file_name().unwrap_or_default().to_string_lossy();
    let name = file.strip_prefix("stage1-").unwrap_or(&file).to_owned();
    Ok(Stage1 { name, path: absolute, interface_version: INTERFACE_VERSION })
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// A call of a pod's stage1: `<stage1> VERB POD`, to be completed and started.
///
/// The environment is ours, so that `enter` and the journal work, without what was meant for us alone.
pub(crate) fn command(stage1: &Stage1, verb: Verb, pod: &Path, debug: bool) -> Result<Command, Stage1Error> {
    command_through(None, stage1, verb, pod, debug)
}

/// The same, through a read-only mount of the stage1's file.
pub(crate) fn command_through(
    mount: Option<&ReadOnly>,
    stage1: &Stage1,
    verb: Verb,
    pod: &Path,
    debug: bool,
) -> Result<Command, Stage1Error> {
    if stage1.interface_version != INTERFACE_VERSION {
        return Err(Stage1Error::Version(stage1.interface_version));
    }
    let mut command = mount.map_or_else(|| Command::new(&stage1.path), |mount| Command::new(mount.program()));
    let _ = command
        .arg0(&stage1.path)
        .arg(verb.as_str())
        .arg(pod)
        .env(ENV_INTERFACE_VERSION, INTERFACE_VERSION.to_string());
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        let _ = command.env_remove(name);
    }
    if debug {
        let _ = command.env(ENV_DEBUG, "1");
    }
    Ok(command)
}

/// A stage1's file behind a read-only mount of its own, which is in no mount namespace: executed through it, nothing in a
/// pod can write to the file (`docs/stage1.md` asks for that), and the stage1 need not see to it itself by one more exec.
#[derive(Debug)]
pub(crate) struct ReadOnly(OwnedFd);

impl ReadOnly {
    /// Makes the mount. `None`: it cannot be made, or the file is a script, whose interpreter could not open it again.
    pub(crate) fn mount(path: &Path) -> Option<Self> {
        let mut magic = [0_u8; 4];
        std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).ok()?;
        if &magic != b"\x7fELF" {
            return None;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let file = rustix::mount::open_tree(CWD, path, flags).ok()?;
        let read_only = Change { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Change::new(Reach::Mount) };
        mount_attributes::change(&file, &read_only).ok()?;
        Some(Self(file))
    }

    /// The path by which a child of ours executes the file.
    fn program(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// Runs a verb of a pod's stage1 to its end, without a launcher's socket.
pub(crate) fn run(
    stage1: &Stage1,
    verb: Verb,
    pod: &Path,
    debug: bool,
    args: &[&str],
) -> Result<(), Stage1Error> {
    let mut command = command(stage1, verb, pod, debug)?;
    let status = command
        .args(args)
        .env_remove(sys::notify::ENV_NOTIFY_SOCKET)
        .stdin(Stdio::null())
        .status()
        .map_err(|source| Stage1Error::Spawn { path: stage1.path.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Stage1Error::Failed { verb, status }) }
}
