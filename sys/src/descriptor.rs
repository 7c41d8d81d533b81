//! Descriptors that are inherited, and those that must not be.

use std::os::fd::{OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

/// Marks every descriptor from 3 up close-on-exec, whoever opened it: the program that is executed next gets 0, 1 and 2
/// (close_range(2); runc's CVE-2024-21626 is what happens otherwise).
pub fn close_on_exec_from_3() -> rustix::io::Result<()> {
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC closes nothing: it sets a flag that no owner of a descriptor can
    // be hurt by.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// A descriptor of our own for the open file description behind number `fd`, which this process inherited; close-on-exec.
/// A lock that belongs to the description is shared, as with dup(2).
pub fn inherited(fd: RawFd) -> rustix::io::Result<OwnedFd> {
    let me = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    rustix::process::pidfd_getfd(&me, fd, PidfdGetfdFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn an_inherited_descriptor_is_the_same_file() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let ours = inherited(file.as_raw_fd()).unwrap();
        let (a, b) = (rustix::fs::fstat(&file).unwrap(), rustix::fs::fstat(&ours).unwrap());
        assert_eq!((a.st_dev, a.st_ino), (b.st_dev, b.st_ino));
        assert_eq!(inherited(1_000_000).unwrap_err(), Errno::BADF);
    }
}
