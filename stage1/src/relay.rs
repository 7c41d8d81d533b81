//! Output through pipes, for apps that open it by name.
//!
//! A stream of the journal is a socket, and a socket cannot be opened: `/dev/stdout` and `/dev/stderr` lead to
//! `/proc/self/fd/1` and `2`, and open(2) says ENXIO. Images that have links to them (nginx's, httpd's) or scripts that
//! write to them would fail. An app whose configuration asks for it ([`wanted`]) gets pipes instead, which can be opened,
//! and a process that copies from them to the journal: the only one of ours that stays, and only for such apps.
//!
//! * It ends when nobody has the pipes any more. It is deaf to the signals that ask a process to end, and it is in the root
//!   of the control groups: systemd kills what is left of a service at once when its main process is gone, and the
//!   last words of an app are the ones that matter. (Where that cannot be, in a container whose root group has
//!   controllers, it stays in the service's group.) The streams name the unit, which is what journald goes by for a
//!   process in the root group.
//! * Whatever happens to the journal, it goes on reading: an app must not block or be killed for that.
//! * The pipes become the app's user's, as any pipe does that is an app's output ([`crate::outputs::give_to`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::PipeFlags;
use rustix::stdio;
use sys::clone::Parent;
use sys::journal_stream::{self, Priority};

use crate::control_group;
use crate::failure::StepError;

/// Annotation of `config.json`: `pipe` asks for output that can be opened by name.
pub const ANNOTATION: &str = "rkt/output";
const PIPE: &str = "pipe";

/// As much as a pipe holds by default.
const BUFFER: usize = 64 << 10;

/// The relay could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start the relay of the app's output: {act}")]
pub struct RelayError {
    act: &'static str,
    source: std::io::Error,
}

impl StepError for RelayError {}

/// The app's ends of the pipes.
#[derive(Debug)]
pub struct Pipes {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Whether an app's output is to be opened by name.
pub fn wanted(config: &Spec) -> bool {
    config.annotations().as_ref().and_then(|a| a.get(ANNOTATION)).is_some_and(|value| value == PIPE)
}

/// Starts the relay to the journal. To be called in the host's namespaces.
pub fn start(identifier: &str, unit: &str) -> Result<Pipes, RelayError> {
    let failed = |act| move |e: Errno| RelayError { act, source: e.into() };
    let connect = |priority| {
        journal_stream::connect(identifier, unit, priority).map_err(failed("connect to the journal"))
    };
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"));
    let (out, err) = (connect(Priority::Info)?, connect(Priority::Error)?);
    let ((read_out, stdout), (read_err, stderr)) = (pipe()?, pipe()?);
    let pipes = Pipes { stdout, stderr };
    let child = sys::clone::clone_child(Parent::Caller, || relay(&read_out, &read_err, &out, &err));
    let child = child.map_err(|source| RelayError { act: "clone", source })?;
    // It stays where it is if it must; see above.
    let _ = control_group::move_to_root(child);
    Ok(pipes)
}

impl Pipes {
    /// Gives them to a user and a group.
    pub(crate) fn give_to(&self, uid: u32, gid: u32) -> rustix::io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::fchown(&self.stdout, uid, gid)?;
        rustix::fs::fchown(&self.stderr, uid, gid)
    }

    /// Makes them the calling process's stdout and stderr.
    pub fn install(&self) -> rustix::io::Result<()> {
        stdio::dup2_stdout(&self.stdout)?;
        stdio::dup2_stderr(&self.stderr)
    }
}

/// What the relay's process does: descriptors 0, 1 and 2 become the first pipe and the two streams.
fn relay(read_out: &OwnedFd, read_err: &OwnedFd, out: &OwnedFd, err: &OwnedFd) -> u8 {
    const ASKING: [i32; 4] = [1, 2, 3, 15];
    let ready = (|| {
        let _ = rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        stdio::dup2_stdin(read_out)?;
        stdio::dup2_stdout(out)?;
        stdio::dup2_stderr(err)
    })();
    let deaf = sys::signal::block(&sys::signal::Set::of(ASKING));
    if ready.is_err() || deaf.is_err() {
        return 1;
    }
    sys::descriptor::alone_with(read_err.as_fd(), |_| {
        copy([(stdio::stdin(), stdio::stdout()), (read_err.as_fd(), stdio::stderr())]);
        0
    })
}

/// Copies from the pipes to the streams until nobody can write to the pipes.
fn copy(pairs: [(BorrowedFd<'_>, BorrowedFd<'_>); 2]) {
    let mut open = pairs.to_vec();
    let mut buffer = vec![0; BUFFER];
    while !open.is_empty() {
        let mut polled: Vec<PollFd<'_>> =
            open.iter().map(|(pipe, _)| PollFd::from_borrowed_fd(*pipe, PollFlags::IN)).collect();
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let ready: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain(|(pipe, stream)| !ready.next().unwrap_or(false) || pass(*pipe, *stream, &mut buffer));
    }
}

/// Passes on what a pipe has. `false`: it has ended.
fn pass(pipe: BorrowedFd<'_>, stream: BorrowedFd<'_>, buffer: &mut [u8]) -> bool {
    let count = match rustix::io::read(pipe, &mut *buffer) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(Errno::INTR) => return true,
        Err(_) => return false,
    };
    let mut left = buffer.get(..count).unwrap_or_default();
    while !left.is_empty() {
        match rustix::net::send(stream, left, SendFlags::NOSIGNAL) {
            Ok(sent) => left = left.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // The journal is gone. What cannot be kept is dropped; the app goes on.
            Err(_) => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn stream() -> (UnixStream, UnixStream) {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        (a.into(), b.into())
    }

    #[test]
    fn everything_is_copied_and_the_end_is_seen() {
        let ((read_out, write_out), (read_err, write_err)) =
            (rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap());
        let ((out, mut journal_out), (err, mut journal_err)) = (stream(), stream());
        let writer = std::thread::spawn(move || {
            std::fs::File::from(write_err).write_all(b"complaint\n").unwrap();
            std::fs::File::from(write_out).write_all(&b"line\n".repeat(100_000)).unwrap();
        });
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = journal_out.read_to_end(&mut text).unwrap();
            text
        });
        copy([(read_out.as_fd(), out.as_fd()), (read_err.as_fd(), err.as_fd())]);
        writer.join().unwrap();
        drop((out, err));
        assert_eq!(reader.join().unwrap(), b"line\n".repeat(100_000));
        let mut text = String::new();
        let _ = journal_err.read_to_string(&mut text).unwrap();
        assert_eq!(text, "complaint\n");
    }

    #[test]
    fn a_journal_that_is_gone_does_not_stop_the_app() {
        let ((read_out, write_out), (read_err, write_err)) =
            (rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap());
        let ((out, journal), (err, _other)) = (stream(), stream());
        drop((journal, write_err));
        let writer = std::thread::spawn(move || {
            std::fs::File::from(write_out).write_all(&b"line\n".repeat(100_000)).unwrap();
        });
        copy([(read_out.as_fd(), out.as_fd()), (read_err.as_fd(), err.as_fd())]);
        writer.join().unwrap();
    }
}
