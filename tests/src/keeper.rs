//! The keeper of one node: a small process between the harness and the node, which outlives the harness
//! by just long enough to remove everything.
//!
//! ```text
//! harness ──pipe──▶ node-init keep DIR ──▶ QEMU
//!                                     └──▶ node-init enter DIR ▶ unshare ▶ node-init root DIR ▶ systemd
//! ```
//!
//! The end of the pipe, for whatever reason, is the order to clean up. Should the keeper itself be killed,
//! the kernel kills the node (`PR_SET_PDEATHSIG`, and the end of a PID namespace's init ends all in it);
//! its directory and control groups are found by [`sweep`] at the next boot, because a node's directory
//! belongs to whoever holds a shared lock on it.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open, set_child_subreaper, setsid, wait};
use serde::{Deserialize, Serialize};

use crate::node::Network;
use crate::root::Layout;
use crate::{control_group, root};

/// Names of node directories, in the directory for temporary files, start so.
pub(crate) const PREFIX: &str = "rktnetes-node-";

/// What a node is made from; `DIR/spec.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The command that the keeper runs and guards.
    pub(crate) argv: Vec<String>,
    /// For a node in namespaces: its file system.
    pub(crate) layout: Option<Layout>,
}

/// Runs one of the steps that `node-init` is for.
///
/// # Errors
///
/// When the step is unknown, or fails.
pub fn step(arguments: &[String]) -> Result<ExitCode> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["keep", directory] => keep(Path::new(directory)),
        ["enter", directory] => enter(Path::new(directory)),
        ["root", directory] => root::become_init(Path::new(directory), &spec(directory)?),
        ["machine", agent @ ..] => root::become_machine_init(agent),
        _ => anyhow::bail!("usage: node-init keep|enter|root DIR, or machine AGENT..."),
    }
}

/// The directory of a node on the machine outside.
#[derive(Debug, Clone)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    /// Makes the directory `PREFIX` + `name` with its lock, which the caller holds until the keeper does.
    pub(crate) fn create(name: &str) -> Result<(Self, File)> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{name}"));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let directory = Self(path);
        fs::create_dir(directory.0.join("agent")).context("cannot make the agent's directory")?;
        let unnamed = directory.0.join("lock.new");
        let lock = File::create(&unnamed).context("cannot make the node's lock")?;
        lock.lock_shared().context("cannot lock the node's directory")?;
        fs::rename(&unnamed, directory.lock()).context("cannot name the node's lock")?;
        Ok((directory, lock))
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// What the node's console showed.
    pub(crate) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// What the keeper and the steps before systemd complained of.
    pub(crate) fn keeper_log(&self) -> PathBuf {
        self.0.join("keeper.log")
    }

    /// Where the harness waits for the agent; the directory around it is visible inside.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("agent/socket")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The list of the node's control groups.
    pub(crate) fn groups(&self) -> PathBuf {
        self.0.join("groups")
    }
}

fn spec(directory: &str) -> Result<Spec> {
    let path = Directory(directory.into()).spec();
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("cannot understand {}", path.display()))
}

/// Guards a node until it ends or our stdin does, and removes what is left of it.
fn keep(path: &Path) -> Result<ExitCode> {
    let directory = Directory(path.to_owned());
    let lock = File::open(directory.lock()).context("cannot open the node's lock")?;
    lock.lock_shared().context("cannot lock the node's directory")?;
    // A terminal's interrupt is for the harness, whose end we then see. Orphans of the node are ours to reap.
    let _ = setsid();
    set_child_subreaper(Some(getpid())).context("cannot become a subreaper")?;
    let spec = spec(&path.to_string_lossy())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if spec.layout.is_some() {
        let _ = control_group::create(&name, &directory.groups())?;
    }
    let guarded = guard(&spec, &directory);
    let released = control_group::remove(&control_group::read(&directory.groups()));
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    guarded.and(released).map(|()| ExitCode::SUCCESS)
}

/// Runs the node's command until it ends or stdin does; then every process of it is gone.
fn guard(spec: &Spec, directory: &Directory) -> Result<()> {
    let console = File::options().append(true).open(directory.console());
    let console = console.context("cannot open the console's log")?;
    let mut command = Command::new("setpriv");
    let _ = command.args(["--pdeathsig", "KILL", "--"]).args(&spec.argv);
    let _ = command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    let mut child = command.spawn().context("cannot run setpriv(1)")?;
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("cannot watch the node")?;
    let lifeline = io::stdin();
    let mut watched = [PollFd::new(&lifeline, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
    while matches!(poll(&mut watched, None), Ok(0) | Err(rustix::io::Errno::INTR)) {}
    let _ = child.kill();
    // The kernel answers for the init of a PID namespace only when all in it are gone.
    while wait(WaitOptions::empty()).is_ok() {}
    Ok(())
}

/// Enters the node's control groups and makes its namespaces around the next step.
fn enter(path: &Path) -> Result<ExitCode> {
    control_group::enter(&control_group::read(&Directory(path.to_owned()).groups()))?;
    let own = std::env::current_exe().context("cannot find node-init")?;
    let layout = spec(&path.to_string_lossy())?.layout;
    let own_network = layout.is_none_or(|l| l.network == Network::Own);
    let mut command = Command::new("unshare");
    let _ = command
        .args(["--mount", "--pid", "--ipc", "--uts", "--cgroup", "--propagation", "private"])
        .args(own_network.then_some("--net"))
        .args(["--fork", "--kill-child=KILL", "--"])
        .arg(own)
        .arg("root")
        .arg(path);
    Err(command.exec()).context("cannot run unshare(1)")
}

/// Removes what killed keepers left: a directory of a node whose lock nobody holds has no owner.
pub(crate) fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = sweep_one(&Directory(entry.path()));
        }
    }
}

fn sweep_one(directory: &Directory) -> Result<()> {
    // Born locked: see `Directory::create`. Without a lock it is being made, or its maker died just then.
    match File::open(directory.lock()) {
        Ok(lock) => lock.try_lock()?,
        Err(_) if fs::metadata(&directory.0)?.modified()?.elapsed()? < Duration::from_secs(60) => {
            return Ok(());
        }
        Err(_) => {}
    }
    control_group::remove(&control_group::read(&directory.groups()))?;
    Ok(fs::remove_dir_all(&directory.0)?)
}
