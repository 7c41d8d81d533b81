//! The sending side of sd_notify(3).
//!
//! The socket is connected when it is made, so that a process may go on to enter other namespaces and still report.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use rustix::{cmsg_space, io::Errno, pipe::PipeFlags, time::Timespec};

use super::{ENV_NOTIFY_SOCKET, MAX_FDS};

/// A connection to whoever started this process.
#[derive(Debug)]
pub struct Notifier {
    socket: OwnedFd,
}

/// A notification could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// `NOTIFY_SOCKET` is no address of a socket, or nobody is there.
    #[error("connect to NOTIFY_SOCKET {address:?}")]
    Connect {
        /// The variable's value.
        address: std::ffi::OsString,
        /// Why.
        source: std::io::Error,
    },
    /// The message was not accepted.
    #[error("send a notification")]
    Send(#[source] std::io::Error),
    /// The receiver did not come to the barrier.
    #[error("wait for the launcher to have read all notifications")]
    Barrier(#[source] std::io::Error),
}

impl Notifier {
    /// Connects to the socket that the environment names. `None`: it names none.
    pub fn from_env() -> Result<Option<Self>, NotifyError> {
        match std::env::var_os(ENV_NOTIFY_SOCKET) {
            Some(address) if !address.is_empty() => Self::connect(&address).map(Some),
            _ => Ok(None),
        }
    }

    /// Connects to a path or, with a leading `@`, to an abstract address.
    pub fn connect(address: &std::ffi::OsStr) -> Result<Self, NotifyError> {
        connect(address.as_bytes())
            .map(|socket| Self { socket })
            .map_err(|e| NotifyError::Connect { address: address.to_owned(), source: e.into() })
    }

    /// Sends one message: `KEY=value` lines, with descriptors.
    pub fn send(&self, text: &str, fds: &[BorrowedFd<'_>]) -> Result<(), NotifyError> {
        self.send_raw(text, fds).map_err(|e| NotifyError::Send(e.into()))
    }

    /// Waits until the receiver has read everything that was sent before.
    pub fn barrier(&self, timeout: Duration) -> Result<(), NotifyError> {
        self.wait_for_barrier(timeout).map_err(|e| NotifyError::Barrier(e.into()))
    }

    fn send_raw(&self, text: &str, fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::TOOMANYREFS);
        }
        let iov = [IoSlice::new(text.as_bytes())];
        rustix::net::sendmsg(&self.socket, &iov, &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    fn wait_for_barrier(&self, timeout: Duration) -> rustix::io::Result<()> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        self.send_raw("BARRIER=1", &[write.as_fd()])?;
        drop(write);
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // The receiver closes its copy of the write end: the pipe hangs up. Nothing is ever written to it.
        let mut fds = [PollFd::new(&read, PollFlags::empty())];
        match rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&timeout)))? {
            0 => Err(Errno::TIMEDOUT),
            _ => Ok(()),
        }
    }
}

fn connect(address: &[u8]) -> rustix::io::Result<OwnedFd> {
    let address = match address {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        [b'/', ..] => SocketAddrUnix::new(address)?,
        _ => return Err(Errno::AFNOSUPPORT),
    };
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}
