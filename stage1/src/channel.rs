//! Between `app` or `enter` and the child that becomes the program: who may go on, and what went wrong.
//!
//! A pair of connected sockets. The child tells that it is ready, waits for the word to go, and becomes the program; its
//! end closes itself on exec, so that the end of the connection after that word means success (or a death that whoever
//! waits for the child will see). A failure travels as status and sentence.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Pid;
use sys::clone::Parent;

use crate::failure::{Failure, StepError};

/// The connection or the child could not be made, or the connection broke.
#[derive(Debug, thiserror::Error)]
#[error("{act}")]
pub struct ChannelError {
    act: &'static str,
    source: std::io::Error,
}

impl StepError for ChannelError {}

/// The end of the process that made the child.
#[derive(Debug)]
pub struct ParentEnd(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub struct ChildEnd(OwnedFd);

/// What the child has to say.
#[derive(Debug)]
pub enum Event {
    /// It is ready to become the program.
    Ready,
    /// It could not.
    Failed(Failure),
    /// It has closed its end: it has become the program, or died.
    Closed,
}

const READY: u8 = b'R';
const FAILED: u8 = b'F';
const GO: u8 = b'G';

/// The longest sentence that travels, bytes.
const MAX: usize = 4096;

/// Makes the child, with its end of a new connection.
pub fn spawn(
    parent: Parent,
    child: impl FnOnce(ChildEnd) -> Failure,
) -> Result<(Pid, ParentEnd), ChannelError> {
    let error = |e: std::io::Error| ChannelError { act: "make a process", source: e };
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| error(e.into()))?;
    let mut ours = Some(ours);
    let in_child = &mut ours;
    let pid = sys::clone::clone_child(parent, move || {
        // The child's copy of our end would keep the connection open.
        drop(in_child.take());
        let end = ChildEnd(theirs);
        let sender = end.0.try_clone();
        let failure = child(end);
        if let Ok(sender) = sender {
            tell(sender.as_fd(), &failure);
        }
        failure.status()
    })
    .map_err(error)?;
    let ours = ours.ok_or_else(|| error(Errno::BADF.into()))?;
    Ok((pid, ParentEnd(ours)))
}

impl ChildEnd {
    /// Says that everything is done but the last step, and waits for the word to go. An error means that nobody is left
    /// to say it.
    pub fn ready(&self) -> Result<(), ChannelError> {
        let error = |e: Errno| ChannelError { act: "wait for the word to go", source: e.into() };
        let _ = rustix::net::send(&self.0, &[READY], SendFlags::NOSIGNAL).map_err(error)?;
        let mut word = [0];
        let n = rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut word, RecvFlags::empty()))
            .map_err(error)?
            .0;
        if (n, word) == (1, [GO]) { Ok(()) } else { Err(error(Errno::PIPE)) }
    }

    /// Takes the last step, which is becoming the program, with nothing open but the standard descriptors and this end.
    /// Tells what `last` returns, and ends the process.
    pub fn finish(&self, last: impl FnOnce() -> Failure) -> ! {
        sys::descriptor::alone_with(self.0.as_fd(), |closed| {
            let failure = match closed {
                Ok(()) => last(),
                Err(source) => ChannelError { act: "close what the program shall not have", source }.into(),
            };
            tell(self.0.as_fd(), &failure);
            failure.status()
        })
    }
}

impl ParentEnd {
    /// Waits for what the child says next.
    pub fn receive(&self) -> Result<Event, ChannelError> {
        let mut message = [0; MAX + 2];
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.0, &mut message, RecvFlags::empty()).map(|(n, _)| n)
        });
        let n = match received {
            Ok(n) => n,
            Err(Errno::CONNRESET) => 0,
            Err(e) => return Err(ChannelError { act: "listen to the app's process", source: e.into() }),
        };
        Ok(match message.get(..n) {
            Some([READY]) => Event::Ready,
            Some([FAILED, status, sentence @ ..]) => {
                Event::Failed(Failure::told(*status, String::from_utf8_lossy(sentence).into_owned()))
            }
            _ => Event::Closed,
        })
    }

    /// Waits for the child to say that it is ready, and nothing else.
    pub fn wait_until_ready(&self) -> Result<(), Failure> {
        match self.receive()? {
            Event::Ready => Ok(()),
            Event::Failed(failure) => Err(failure),
            Event::Closed => Err(Failure::other("a process of the stage1 was killed")),
        }
    }

    /// Lets the child go on.
    pub fn go(&self) -> Result<(), ChannelError> {
        match rustix::net::send(&self.0, &[GO], SendFlags::NOSIGNAL) {
            // It is gone already; the next event tells.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(e) => Err(ChannelError { act: "let the app's process go on", source: e.into() }),
        }
    }
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn tell(socket: BorrowedFd<'_>, failure: &Failure) {
    let sentence = failure.to_string();
    let mut message = vec![FAILED, failure.status()];
    message.extend(sentence.bytes().take(MAX));
    // Nobody listens: then nobody wants to know.
    let _ = rustix::net::send(socket, &message, SendFlags::NOSIGNAL);
}
