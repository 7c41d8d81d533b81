//! The receiving side of sd_notify(3).
//!
//! The socket has no name that anybody could come across: it is bound in a directory of the caller's choice, opened
//! as a path, and unlinked. [`Listener::address`] goes through `/proc/<pid>/fd`, which only processes with the same
//! privileges can follow, and which leads to the socket from every network namespace. An abstract address would be
//! reachable by anything that shares the host's network, and a file would stay behind when the listener is killed.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use rustix::{cmsg_space, time::Timespec};

use super::{MAX_FDS, MAX_TEXT, Message};

/// A socket that receives notifications.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Keeps the unlinked name's inode: what [`Listener::address`] leads to.
    inode: OwnedFd,
}

/// A listener could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The socket could not be made.
    #[error("make a socket for notifications")]
    Make(#[source] std::io::Error),
    /// Waiting or receiving failed.
    #[error("receive a notification")]
    Receive(#[source] std::io::Error),
}

impl Listener {
    /// Makes the socket by way of a name in `dir`, a directory that only its owner can write to. Nothing is left there.
    pub fn bind(dir: impl AsFd) -> Result<Self, ListenerError> {
        let dir = dir.as_fd();
        bind(dir).map_err(|e| ListenerError::Make(e.into()))
    }

    /// The value of `NOTIFY_SOCKET` for the processes that shall report here. They must see this process in `/proc`.
    pub fn address(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.inode.as_raw_fd())
    }

    /// The next message; waits up to `timeout`, forever without one. `None`: there was none in time.
    ///
    /// To wait for other things as well, poll the descriptor ([`AsFd`]) and call this with a timeout of zero.
    /// A datagram that is not a notification (not UTF-8, cut short) is dropped, and its descriptors with it.
    pub fn receive(&self, timeout: Option<Duration>) -> Result<Option<Message>, ListenerError> {
        if !self.is_readable(timeout).map_err(|e| ListenerError::Receive(e.into()))? {
            return Ok(None);
        }
        match receive(self.socket.as_fd()) {
            Ok(message) => Ok(message),
            Err(Errno::AGAIN) => Ok(None),
            Err(e) => Err(ListenerError::Receive(e.into())),
        }
    }

    fn is_readable(&self, timeout: Option<Duration>) -> rustix::io::Result<bool> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(n) => Ok(n > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind(dir: BorrowedFd<'_>) -> rustix::io::Result<Listener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    set_socket_passcred(&socket, true)?;
    // Through the descriptor: an address has room for 107 bytes, a data directory's path may be longer.
    let name = format!("notify.{}.{}", std::process::id(), socket.as_raw_fd());
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
    rustix::net::bind(&socket, &address)?;
    let inode =
        rustix::fs::openat(dir, &name, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
    rustix::fs::unlinkat(dir, &name, AtFlags::empty())?;
    Ok(Listener { socket, inode: inode? })
}

fn receive(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<Message>> {
    let mut text = [0_u8; MAX_TEXT];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let (mut sender, mut fds) = (None, Vec::new());
    for part in control.drain() {
        match part {
            RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
            RecvAncillaryMessage::ScmCredentials(ucred) => sender = Some(ucred),
            _ => {}
        }
    }
    let cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    let text = text.get(..received.bytes).and_then(|t| std::str::from_utf8(t).ok());
    let (Some(text), Some(ucred), false) = (text, sender, cut) else { return Ok(None) };
    let pid = ucred.pid.as_raw_nonzero().get().unsigned_abs();
    Ok(Some(Message::new(pid, ucred.uid.as_raw(), fds, text.to_owned())))
}
