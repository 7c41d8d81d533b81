//! Descriptors that are inherited, and those that must not be.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

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

/// Closes every descriptor from 3 up but `keep`, whoever opened it, runs `last`, and ends the process with the status
/// that it returns, without running anybody's destructors. `last` is told whether closing worked, and must use no
/// descriptor but 0, 1, 2 and `keep`: it is for executing a program.
///
/// Close-on-exec is not enough for that. execve(2) looks the program up while everything is still open, so that
/// `/proc/self/fd/3/../..` leads out of any root (runc's CVE-2024-21626, its third form); so can the interpreter that
/// a script or a binary names.
pub fn alone_with(keep: BorrowedFd<'_>, last: impl FnOnce(io::Result<()>) -> u8) -> ! {
    let keep = u32::try_from(keep.as_raw_fd()).unwrap_or(0);
    let below = if keep > 3 { close_range(3, keep - 1) } else { Ok(()) };
    let closed = below.and_then(|()| close_range(keep.max(2).saturating_add(1), u32::MAX));
    crate::clone::exit_now(last(closed))
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: close_range(2) closes descriptors under their owners. The only caller does not return: no owner uses or
    // closes its descriptor afterwards, and none of them backs memory.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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
