//! `down`: releases what the end of the processes does not. Namespaces and mounts go with the last process or descriptor.
//!
//! What stays is the control groups of a direct pod with limits, and an app that has outlived its launcher: the signal
//! for the launcher's end is armed in the app's own process, where the app can disarm it (prctl(2), PR_SET_PDEATHSIG).

use std::os::fd::AsFd;

use pod::{AppName, PodDir};
use rustix::event::{PollFd, PollFlags, Timespec};
use stage1::failure::Failure;
use stage1::limits;
use stage1::running::Running;

use crate::app::groups;

/// A process that was killed is gone at once, unless the kernel is busy with it.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
const KILL: u8 = 9;

/// Kills what is left of the apps, then removes the control groups. Idempotent; tries everything and reports every
/// failure.
pub(crate) fn down(pod: &PodDir) -> Result<(), Failure> {
    let mut failures: Vec<String> = match pod.manifest() {
        Ok(manifest) => manifest.apps.iter().filter_map(|app| end(pod, &app.name).err()).collect(),
        Err(e) => vec![Failure::from(e).to_string()],
    };
    match groups(pod) {
        Ok(groups) => {
            let errors = limits::remove(groups.iter().map(AsRef::as_ref)).into_iter();
            failures.extend(errors.map(|error| Failure::from(error).to_string()));
        }
        Err(e) => failures.push(format!("look for the pod's control groups: {e}")),
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::other(failures.join("; "))) }
}

/// Kills an app that still runs, and waits for its end.
fn end(pod: &PodDir, app: &AppName) -> Result<(), String> {
    // One that has ended, or never began, is what we want.
    let Ok(running) = Running::find(pod, app) else { return Ok(()) };
    let failure = |e: rustix::io::Errno| format!("kill the app {app}, which is left over: {e}");
    match sys::signal::send(&running, KILL) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(e) => return Err(failure(e)),
    }
    let mut fds = [PollFd::from_borrowed_fd(running.as_fd(), PollFlags::IN)];
    match rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&PATIENCE))) {
        Ok(0) => Err(failure(rustix::io::Errno::TIMEDOUT)),
        Ok(_) => Ok(()),
        Err(e) => Err(failure(e)),
    }
}
