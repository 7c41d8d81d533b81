//! The launcher of units: what `rkt unit up|down|ended` does inside the services of `docs/units.md`.
//!
//! `up` and `down` become the stage1: the process that systemd watches is the one that does the work.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use pod::launch::Launcher;
use pod::stage1::{ENV_HOLDER_PID, ENV_LOCK_FD, Verb};
use pod::{LockedPod, PodDir};
use rustix::io::FdFlags;

use super::{LaunchError, Settings, enter_run};
use crate::stage1::{self, Stage1Error};

/// Moves a locked pod to `run` and becomes its stage1's `up`, which inherits the lock and hands it to PID 1.
/// Returns only when that fails.
pub(crate) fn up(
    mut pod: LockedPod,
    settings: &Settings,
    debug: bool,
) -> Result<std::convert::Infallible, LaunchError> {
    use std::os::fd::AsRawFd as _;
    enter_run(&mut pod, Launcher::Units, settings)?;
    let stage1 = pod.dir().stage1()?;
    let mut command = stage1::command(&stage1, Verb::Up, &pod.dir().path(), debug)?;
    let lock = pod.into_lock();
    rustix::io::fcntl_setfd(&lock, FdFlags::empty()).map_err(|e| LaunchError::PassLock(e.into()))?;
    let _ = command.env(ENV_LOCK_FD, lock.as_raw_fd().to_string()).env_remove(ENV_HOLDER_PID);
    let source = command.stdin(Stdio::null()).exec();
    Err(Stage1Error::Spawn { path: stage1.path, source }.into())
}

/// Becomes the stage1's `down`. Returns only when that fails.
pub(crate) fn down(pod: &PodDir, debug: bool) -> Result<std::convert::Infallible, LaunchError> {
    let stage1 = pod.stage1()?;
    let mut command = stage1::command(&stage1, Verb::Down, &pod.path(), debug)?;
    let source = command.stdin(Stdio::null()).exec();
    Err(Stage1Error::Spawn { path: stage1.path, source }.into())
}
