//! The agent: runs commands inside a node for the harness outside, several at once.
//!
//! It speaks [`wire`](crate::wire) over one stream: a Unix socket that both sides of a namespace node can
//! see, or a virtio port of a virtual machine. Every command is a process group of its own. When the
//! stream ends, the harness is gone: the agent kills what it started and returns.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wire::{CHUNK, End, Frame, Start};

/// How long output is still collected after a command ended: a daemon it left behind may hold the pipes.
const LINGER: Duration = Duration::from_millis(500);

/// A command in flight, as the thread that reads requests sees it.
struct Running {
    group: Pid,
    stdin: Sender<Vec<u8>>,
    terminal: Option<OwnedFd>,
}

type Shared<T> = Arc<Mutex<T>>;
type Writer = Shared<Box<dyn Write + Send>>;

/// Serves the harness until its stream ends.
///
/// # Errors
///
/// When the stream fails or is out of step.
pub fn serve(mut requests: impl Read, answers: impl Write + Send + 'static) -> io::Result<()> {
    let answers: Writer = Arc::new(Mutex::new(Box::new(answers)));
    let running: Shared<HashMap<u32, Running>> = Shared::default();
    while let Some((id, frame)) = Frame::read(&mut requests)? {
        match frame {
            Frame::Start(start) => begin(id, start, &answers, &running),
            other => tell(id, other, &running),
        }
    }
    for command in lock(&running).values() {
        let _ = kill_process_group(command.group, Signal::KILL);
    }
    Ok(())
}

/// Starts a command and the threads that carry its bytes, or answers why it cannot be.
fn begin(id: u32, start: Start, answers: &Writer, running: &Shared<HashMap<u32, Running>>) {
    let spawned = if start.terminal.is_some() { spawn_on_terminal(&start) } else { spawn(&start) };
    let mut spawned = match spawned {
        Ok(spawned) => spawned,
        Err(e) => {
            let program = start.argv.first().map_or("", String::as_str);
            return send(answers, id, &Frame::Ended(End::Failed(format!("cannot run {program:?}: {e}"))));
        }
    };
    let (stdin, bytes) = channel();
    let group = Pid::from_child(&spawned.child);
    let pid = group.as_raw_nonzero().get();
    let command = Running { group, stdin, terminal: spawned.terminal };
    drop(lock(running).insert(id, command));
    send(answers, id, &Frame::Started(pid));
    drop(thread::spawn(move || feed(spawned.stdin, &bytes)));
    let (done, pumped) = channel();
    pump(id, spawned.stdout, Frame::Stdout, answers, &done);
    pump(id, spawned.stderr, Frame::Stderr, answers, &done);
    drop(done);
    let (answers, running) = (Arc::clone(answers), Arc::clone(running));
    drop(thread::spawn(move || {
        let end = spawned.child.wait().map_or_else(|e| End::Failed(e.to_string()), ended);
        let patience = Instant::now() + 10 * LINGER;
        while Instant::now() < patience && pumped.recv_timeout(LINGER).is_ok() {}
        drop(lock(&running).remove(&id));
        send(&answers, id, &Frame::Ended(end));
    }));
}

/// Passes a request on to the command it is for; commands that have ended need nothing.
fn tell(id: u32, frame: Frame, running: &Shared<HashMap<u32, Running>>) {
    let running = lock(running);
    let Some(command) = running.get(&id) else { return };
    match frame {
        Frame::Stdin(bytes) => drop(command.stdin.send(bytes)),
        Frame::Signal(number) => {
            if let Some(signal) = Signal::from_named_raw(number) {
                let _ = kill_process_group(command.group, signal);
            }
        }
        Frame::Resize(rows, columns) => {
            if let Some(terminal) = &command.terminal {
                let _ = tcsetwinsize(terminal, size(rows, columns));
            }
        }
        _ => {}
    }
}

/// A started process and the ends of its streams that are ours.
struct Spawned {
    child: std::process::Child,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    terminal: Option<OwnedFd>,
}

fn spawn(start: &Start) -> io::Result<Spawned> {
    let mut command = command(start, &start.argv)?;
    let _ = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().map(|s| File::from(OwnedFd::from(s)));
    let stdout = child.stdout.take().map(|s| File::from(OwnedFd::from(s)));
    let stderr = child.stderr.take().map(|s| File::from(OwnedFd::from(s)));
    Ok(Spawned { child, stdin, stdout, stderr, terminal: None })
}

/// The command leads a session whose controlling terminal is a new one; setsid(1) does that part.
fn spawn_on_terminal(start: &Start) -> io::Result<Spawned> {
    let (rows, columns) = start.terminal.unwrap_or((24, 80));
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    tcsetwinsize(&terminal, size(rows, columns))?;
    let line = ioctl_tiocgptpeer(&terminal, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let mut argv = vec!["setsid".to_owned(), "--ctty".to_owned()];
    argv.extend(start.argv.iter().cloned());
    let mut command = command(start, &argv)?;
    let _ = command.stdin(line.try_clone()?).stdout(line.try_clone()?).stderr(line);
    let child = command.spawn()?;
    let stdin = Some(File::from(terminal.try_clone()?));
    let stdout = Some(File::from(terminal.try_clone()?));
    Ok(Spawned { child, stdin, stdout, stderr: None, terminal: Some(terminal) })
}

fn command(start: &Start, argv: &[String]) -> io::Result<Command> {
    let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no command"))?;
    let mut command = Command::new(program);
    let _ = command.args(arguments).env_clear().current_dir(&start.cwd);
    let _ = command.envs(start.env.iter().map(|(k, v)| (k, v)));
    Ok(command)
}

/// Writes what arrives to a command's stdin; an empty message or the end of the command closes it.
fn feed(stdin: Option<File>, bytes: &Receiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    while let Ok(chunk) = bytes.recv() {
        if chunk.is_empty() || stdin.write_all(&chunk).is_err() {
            return;
        }
    }
}

/// Carries one output stream, in a thread of its own that reports each chunk to `progress`.
fn pump(id: u32, from: Option<File>, frame: fn(Vec<u8>) -> Frame, answers: &Writer, progress: &Sender<()>) {
    let Some(mut from) = from else { return };
    let (answers, progress) = (Arc::clone(answers), progress.clone());
    drop(thread::spawn(move || {
        let mut chunk = vec![0u8; CHUNK];
        // A terminal whose last user is gone reads as EIO; that too is the end.
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            send(&answers, id, &frame(chunk.get(..n).unwrap_or_default().to_vec()));
            let _ = progress.send(());
        }
    }));
}

fn ended(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Signaled(signal),
        (None, None) => End::Failed(format!("unintelligible status {status:?}")),
    }
}

/// Sends a frame. A harness that is gone is noticed by the reader of requests, so errors end here.
fn send(answers: &Writer, id: u32, frame: &Frame) {
    let _ = frame.write(id, &mut *lock(answers));
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Every critical section here is a single call, so a poisoned lock still guards consistent data.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn commands_run_side_by_side_and_die_with_the_harness() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let agent = thread::spawn(move || serve(theirs.try_clone().unwrap(), theirs));
        let mut to = ours.try_clone().unwrap();
        let start = |argv: &[&str]| {
            Frame::Start(Start {
                argv: argv.iter().map(|&a| a.to_owned()).collect(),
                env: vec![("PATH".into(), "/usr/bin:/bin".into())],
                cwd: "/".into(),
                terminal: None,
            })
        };
        start(&["sleep", "1000"]).write(1, &mut to).unwrap();
        start(&["cat"]).write(2, &mut to).unwrap();
        Frame::Stdin(b"hello".to_vec()).write(2, &mut to).unwrap();
        Frame::Stdin(Vec::new()).write(2, &mut to).unwrap();
        start(&["/does/not/exist"]).write(3, &mut to).unwrap();
        let (mut from, mut sleeper, mut echoed, mut ended) = (ours, None, Vec::new(), HashMap::new());
        while ended.len() < 2 || sleeper.is_none() {
            match Frame::read(&mut from).unwrap().unwrap() {
                (1, Frame::Started(pid)) => sleeper = Some(pid),
                (2, Frame::Stdout(bytes)) => echoed.extend(bytes),
                (id, Frame::Ended(end)) => drop(ended.insert(id, end)),
                _ => {}
            }
        }
        assert_eq!(echoed, b"hello");
        assert_eq!(ended.get(&2), Some(&End::Exited(0)));
        assert!(matches!(ended.get(&3), Some(End::Failed(why)) if why.contains("/does/not/exist")));
        from.shutdown(std::net::Shutdown::Both).unwrap();
        agent.join().unwrap().unwrap();
        let sleeper = Pid::from_raw(sleeper.unwrap()).unwrap();
        let gone = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(10));
            rustix::process::test_kill_process(sleeper).is_err()
        });
        assert!(gone, "the command outlived the harness");
    }
}
