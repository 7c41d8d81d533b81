//! Signals of a process that starts others: defaults for the child, and waiting for signals as data.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// The kernel's `_NSIG`.
const LAST: i32 = 64;

/// A set of signals, as sigsetops(3).
#[derive(Clone, Copy)]
pub struct Set(libc::sigset_t);

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Set")
    }
}

impl Set {
    /// The set of these signals; numbers that are no signals are left out.
    pub fn of(signals: impl IntoIterator<Item = i32>) -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset(3) writes to a set, which need not be initialised.
        let _ = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset(3) has initialised the whole set; it cannot fail.
        let mut set = unsafe { set.assume_init() };
        for signal in signals {
            // SAFETY: the set is initialised; a number that is no signal is refused with EINVAL, sigaddset(3).
            let _ = unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        Self(set)
    }
}

/// Blocks exactly these signals in the calling thread.
pub fn block(set: &Set) -> io::Result<()> {
    // SAFETY: sigprocmask(2) reads an initialised set; the old mask is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set.0, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives every signal its default action and unblocks all: how a program expects to be started. Ignored signals
/// would otherwise stay ignored through exec (Rust's runtime ignores SIGPIPE).
pub fn reset() -> io::Result<()> {
    for signal in 1..=LAST {
        // SAFETY: SIG_DFL is an action for every signal; the kernel refuses SIGKILL and SIGSTOP, and libc its own two,
        // with EINVAL, which is what the default is anyway. signal(2).
        let _ = unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    block(&Set::of([]))
}

/// A descriptor from which the blocked signals of `set` can be read, signalfd(2). Close-on-exec.
pub fn descriptor(set: &Set) -> io::Result<OwnedFd> {
    // SAFETY: signalfd(2) reads an initialised set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends signal number `signal`, real-time ones included, to the process behind a descriptor (pidfd_send_signal(2)).
///
/// # Errors
/// `ESRCH` when the process is gone, `EINVAL` for a number that is no signal.
pub fn send(process: impl AsFd, signal: u8) -> rustix::io::Result<()> {
    let fd = process.as_fd().as_raw_fd();
    // SAFETY: pidfd_send_signal(2) takes any number; without a siginfo the kernel fills in its own, and no flags are
    // needed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd,
            libc::c_int::from(signal),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Takes one pending signal's number from a descriptor of [`descriptor`]. `None`: none is pending.
pub fn read(descriptor: &OwnedFd) -> io::Result<Option<i32>> {
    let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(descriptor, &mut info) {
        // The number is the first field, signalfd(2).
        Ok(n) if n == info.len() => {
            Ok(info.first_chunk().and_then(|b| i32::try_from(u32::from_ne_bytes(*b)).ok()))
        }
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_becomes_data() {
        std::thread::spawn(|| {
            let set = Set::of([libc::SIGUSR1]);
            block(&set).unwrap();
            let fd = descriptor(&set).unwrap();
            assert_eq!(read(&fd).unwrap(), None);
            // SAFETY: raise(3) has no preconditions; it reaches this thread only, which blocks the signal.
            let result = unsafe { libc::raise(libc::SIGUSR1) };
            assert_eq!(result, 0);
            assert_eq!(read(&fd).unwrap(), Some(libc::SIGUSR1));
        })
        .join()
        .unwrap();
    }
}
