//! A terminal for the command, in the app's own devpts, and the caller's terminal in raw mode meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::pty::OpenptFlags;
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios};
use stage1::failure::{Failure, StepError};
use stage1::target;

/// The terminal could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum TerminalError {
    /// The app's /dev/pts/ptmx is missing or something else.
    #[error("open a terminal in the app's /dev/pts")]
    Open(#[source] std::io::Error),
    /// What is there is no devpts.
    #[error("open a terminal in the app's /dev/pts: it is not a devpts")]
    Impostor,
    /// The command could not be given it.
    #[error("give the command its terminal")]
    Attach(#[source] std::io::Error),
}

impl StepError for TerminalError {}

/// Both ends of a pseudo-terminal, pty(7).
#[derive(Debug)]
pub(super) struct Pty {
    pub(super) master: OwnedFd,
    slave: OwnedFd,
}

impl Pty {
    /// Opens one in the app's tree, where the calling process is. The multiplexer must be on a devpts: the app can have
    /// put anything in its place. The other end is asked for by descriptor, not by name.
    pub(super) fn open() -> Result<Self, TerminalError> {
        const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
        let open = |e: Errno| TerminalError::Open(e.into());
        let root =
            rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(open)?;
        let place =
            target::open_without_links(&root, "/dev/pts", OFlags::PATH | OFlags::DIRECTORY).map_err(open)?;
        if u64::try_from(rustix::fs::fstatfs(&place).map_err(open)?.f_type) != Ok(DEVPTS_SUPER_MAGIC) {
            return Err(TerminalError::Impostor);
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let master = rustix::fs::openat(&place, "ptmx", flags, Mode::empty()).map_err(open)?;
        rustix::pty::unlockpt(&master).map_err(open)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(open)?;
        let pty = Self { master, slave };
        let _ = pty.copy_size();
        Ok(pty)
    }

    /// Makes it the calling process's terminal, owned by its user.
    pub(super) fn attach(&self, uid: u32) -> Result<(), TerminalError> {
        attach(self.slave.as_fd(), uid).map_err(|e| TerminalError::Attach(e.into()))
    }

    /// Gives it the size of the caller's terminal, if that is one.
    pub(super) fn copy_size(&self) -> bool {
        let size = rustix::termios::tcgetwinsize(stdio::stdin());
        size.is_ok_and(|size| rustix::termios::tcsetwinsize(&self.master, size).is_ok())
    }
}

fn attach(slave: BorrowedFd<'_>, uid: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(slave, Some(Uid::from_raw(uid)), None::<Gid>)?;
    rustix::process::ioctl_tiocsctty(slave)?;
    stdio::dup2_stdin(slave)?;
    stdio::dup2_stdout(slave)?;
    stdio::dup2_stderr(slave)
}

/// The caller's terminal in raw mode, for as long as this lives.
#[derive(Debug)]
pub(super) struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Without a terminal on stdin there is nothing to do.
    pub(super) fn stdin() -> Result<Self, Failure> {
        let Ok(before) = rustix::termios::tcgetattr(stdio::stdin()) else { return Ok(Self { before: None }) };
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)
            .map_err(|e| Failure::other(format!("put the terminal in raw mode: {e}")))?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(stdio::stdin(), OptionalActions::Drain, before);
        }
    }
}
