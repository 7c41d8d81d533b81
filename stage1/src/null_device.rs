//! The host's null device, where an app gets at it.
//!
//! Its mode, owner and times are the host's: root in an app could take it from everybody else on the machine, through a
//! mask that it covers a file with, or through a standard descriptor that the launcher opened. So an app has it only
//! through read-only mounts: the device reads and writes as ever, and its inode stays as it is.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::stdio;
use sys::mount_attributes::{self, Change, Reach};

use crate::failure::StepError;

/// The null device could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NullDeviceError {
    /// The host's /dev/null is not what it should be.
    #[error("the host's /dev/null is not the null device")]
    Impostor,
    /// A step failed.
    #[error("{act} the host's /dev/null")]
    Io {
        /// Which.
        act: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl StepError for NullDeviceError {}

/// A detached read-only mount of the device. Every use takes one of its own: it can be attached once.
pub(crate) fn mount() -> Result<OwnedFd, NullDeviceError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, "/dev/null", flags).map_err(error("open"))?;
    // By its numbers, not by its name (runc's CVE-2025-31133).
    if !is_null(&mount).map_err(error("look at"))? {
        return Err(NullDeviceError::Impostor);
    }
    restrict(&mount).map_err(error("restrict"))?;
    Ok(mount)
}

/// Makes the mount of a device one through which nothing but the device can be reached.
pub(crate) fn restrict(mount: impl AsFd) -> rustix::io::Result<()> {
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount_attributes::change(mount, &Change { set, ..Change::new(Reach::Mount) })
}

/// Replaces those of the calling process's standard descriptors that are the null device. To be called in the host's tree.
pub fn replace_standard() -> Result<(), NullDeviceError> {
    let is_null = |fd| is_null(fd).unwrap_or(false);
    let replaced = [is_null(stdio::stdin()), is_null(stdio::stdout()), is_null(stdio::stderr())];
    if replaced == [false; 3] {
        return Ok(());
    }
    let mount = mount()?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = rustix::fs::open(format!("/proc/self/fd/{}", mount.as_raw_fd()), flags, Mode::empty())
        .map_err(error("open"))?;
    let [stdin, stdout, stderr] = replaced;
    let replace = |wanted, act: fn(OwnedFd) -> rustix::io::Result<()>| match (wanted, null.try_clone()) {
        (true, Ok(null)) => act(null),
        (true, Err(e)) => Err(rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO)),
        (false, _) => Ok(()),
    };
    replace(stdin, stdio::dup2_stdin)
        .and_then(|()| replace(stdout, stdio::dup2_stdout))
        .and_then(|()| replace(stderr, stdio::dup2_stderr))
        .map_err(error("put in place"))
}

fn is_null(fd: impl AsFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(is_device && stat.st_rdev == rustix::fs::makedev(1, 3))
}

fn error(act: &'static str) -> impl Fn(rustix::io::Errno) -> NullDeviceError {
    move |e| NullDeviceError::Io { act, source: e.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_works_and_its_inode_cannot_be_changed() {
        let mount = mount().unwrap();
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let file = rustix::fs::open(&path, OFlags::RDWR, Mode::empty()).unwrap();
        assert_eq!(rustix::io::write(&file, b"x"), Ok(1));
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&file).unwrap().st_mode);
        assert_eq!(rustix::fs::fchmod(&file, mode), Err(rustix::io::Errno::ROFS));
        assert_eq!(rustix::fs::chmod(&path, mode), Err(rustix::io::Errno::ROFS));
    }
}
