//! `up`: makes the sandbox. Safe to call again after it was killed anywhere: what was made before belongs to nobody but
//! the launcher, which lets go of it.

use std::os::fd::AsFd;
use std::time::Duration;

use pod::PodDir;
use pod::stage1::{ENV_HOLDER_PID, ENV_LOCK_FD, FDNAME_LOCK};
use stage1::failure::Failure;
use stage1::{commentary, sandbox};
use sys::notify::Notifier;

/// systemd handles notifications in its main loop; a busy one may take its time.
const BARRIER: Duration = Duration::from_secs(30);

/// Makes the namespaces, hands them over, and writes down where they are.
pub(crate) fn up(pod: &PodDir) -> Result<(), Failure> {
    let launch =
        pod.launch()?.ok_or_else(|| Failure::other("the pod has no launch.json: it was not launched"))?;
    let holder = number(ENV_HOLDER_PID)?.unwrap_or(1);
    let lock = number(ENV_LOCK_FD)?.map(inherited).transpose()?;
    let notifier = Notifier::from_env()?
        .ok_or_else(|| Failure::other("NOTIFY_SOCKET is not set: nobody would keep the pod's namespaces"))?;

    let made = sandbox::make(&launch, pod.users()?)?;
    if let Some(lock) = &lock {
        store(&notifier, FDNAME_LOCK, lock)?;
    }
    for (kind, fd) in &made {
        store(&notifier, kind.as_str(), fd)?;
    }
    notifier.barrier(BARRIER)?;

    commentary::say(format_args!("process {holder} holds {} namespaces", made.len()));
    pod.write_sandbox(&sandbox::held(&made, holder)?)?;
    Ok(notifier.send("READY=1\nSTATUS=The sandbox is ready.", &[])?)
}

fn store(notifier: &Notifier, name: &str, fd: impl AsFd) -> Result<(), Failure> {
    Ok(notifier.send(&format!("FDSTORE=1\nFDNAME={name}"), &[fd.as_fd()])?)
}

fn inherited(fd: u32) -> Result<std::os::fd::OwnedFd, Failure> {
    i32::try_from(fd)
        .map_err(|_| rustix::io::Errno::BADF)
        .and_then(sys::descriptor::inherited)
        .map_err(|e| Failure::other(format!("take descriptor {fd} of {ENV_LOCK_FD}: {e}")))
}

fn number(variable: &str) -> Result<Option<u32>, Failure> {
    let Some(value) = std::env::var_os(variable) else { return Ok(None) };
    let number = value.to_str().and_then(|v| v.parse().ok());
    number.map(Some).ok_or_else(|| Failure::other(format!("{variable}={value:?} is not a number")))
}
