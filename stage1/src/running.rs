//! The process of an app's newest attempt, held by a descriptor so that it cannot turn into another one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod::{AppName, PodDir};
use rustix::process::{Pid, PidfdFlags};

use crate::failure::{Failure, StepError};

/// The app does not run.
#[derive(Debug, thiserror::Error)]
#[error("the app {0} is not running")]
pub struct NotRunning(AppName);

impl StepError for NotRunning {}

/// A running app's PID 1.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    pidfd: OwnedFd,
}

impl Running {
    /// Finds it. The record is checked against the process after the descriptor was opened: what it refers to then is
    /// what was meant.
    pub fn find(pod: &PodDir, app: &AppName) -> Result<Self, Failure> {
        let not_running = || NotRunning(app.clone());
        let newest =
            pod.app(app)?.newest()?.filter(|attempt| attempt.ended.is_none() && attempt.error.is_none());
        let process = newest.and_then(|attempt| attempt.started).ok_or_else(not_running)?.process;
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or_else(not_running)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_running())?;
        if !process.is_alive() {
            return Err(not_running().into());
        }
        Ok(Self { pid: process.pid, pidfd })
    }

    /// Its number, as the host counts.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
