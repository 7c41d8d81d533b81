//! A command to run in a node, and what became of it.
//!
//! [`Command`] is built from a [`Node`](crate::Node) or a [`Test`](crate::Test); [`Output`] is a finished
//! one, [`Child`] one that is still running.

use std::fmt;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::{Client, Events};
use crate::wire::{End, Frame, Start};

/// A command that forgets to end is killed after this long.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A command, before it runs.
#[derive(Clone)]
#[must_use = "a command does nothing until it is run or spawned"]
pub struct Command {
    client: Client,
    start: Start,
    stdin: Vec<u8>,
    timeout: Duration,
    record: Record,
}

/// Where finished commands are written down, in order, for the report of a failed test.
pub(crate) type Record = Arc<Mutex<Vec<Output>>>;

impl Command {
    pub(crate) fn new(client: Client, env: &[(String, String)], argv: &[&str]) -> Self {
        let argv = argv.iter().map(|&a| a.to_owned()).collect();
        let start = Start { argv, env: env.to_vec(), cwd: "/".to_owned(), terminal: None };
        Self { client, start, stdin: Vec::new(), timeout: TIMEOUT, record: Record::default() }
    }

    /// Writes the command's end down in `record`.
    pub(crate) fn recorded(mut self, record: &Record) -> Self {
        self.record = Arc::clone(record);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.start.argv.extend(args.iter().map(|&a| a.to_owned()));
        self
    }

    /// Sets one environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.start.env.retain(|(k, _)| k != key);
        self.start.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets the working directory; it is `/` otherwise.
    pub fn cwd(mut self, directory: &str) -> Self {
        directory.clone_into(&mut self.start.cwd);
        self
    }

    /// Gives these bytes to the command as its whole stdin; it is empty otherwise.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// Kills the command when it takes longer than this; two minutes otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Gives the command a terminal: its three streams in one, its own session.
    pub fn terminal(mut self, rows: u16, columns: u16) -> Self {
        self.start.terminal = Some((rows, columns));
        self
    }

    /// Runs the command to its end. A command that fails is an `Output`, not an error.
    ///
    /// # Errors
    ///
    /// When it cannot be started, takes longer than its timeout, or the node dies under it.
    pub fn run(self) -> Result<Output> {
        let (timeout, stdin) = (self.timeout, self.stdin.clone());
        let mut child = self.spawn()?;
        child.write(&stdin)?;
        child.close_stdin()?;
        child.wait(timeout)
    }

    /// Starts the command and leaves it running; its stdin stays open. The [`Child`] kills it when dropped.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or the node is dead.
    pub fn spawn(self) -> Result<Child> {
        let argv = self.start.argv;
        let start = Start { argv: argv.clone(), ..self.start };
        let events = self.client.start(start).with_context(|| format!("cannot start {argv:?}"))?;
        let mut child = Child {
            argv,
            client: self.client,
            events,
            pid: 0,
            started: Instant::now(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            end: None,
            record: self.record,
        };
        while child.pid == 0 && child.end.is_none() {
            if !child.next(self.timeout)? {
                bail!("the node does not answer: cannot start {:?}", child.argv);
            }
        }
        match &child.end {
            Some(End::Failed(why)) => bail!("{why}"),
            _ => Ok(child),
        }
    }
}

/// A command that runs in a node. Dropping it kills the command's whole process group.
pub struct Child {
    argv: Vec<String>,
    client: Client,
    events: Events,
    pid: i32,
    started: Instant,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Option<End>,
    record: Record,
}

impl Child {
    /// Its process id inside the node; also its process group.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Writes to its stdin.
    ///
    /// # Errors
    ///
    /// When the node is dead. A command that closed its stdin is not noticed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        bytes.chunks(crate::wire::CHUNK).try_for_each(|c| self.tell(&Frame::Stdin(c.to_vec())))
    }

    /// Ends its stdin.
    ///
    /// # Errors
    ///
    /// When the node is dead.
    pub fn close_stdin(&mut self) -> Result<()> {
        self.tell(&Frame::Stdin(Vec::new()))
    }

    /// Sends a signal, by number, to its process group.
    ///
    /// # Errors
    ///
    /// When the node is dead. A command that has ended is not an error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.tell(&Frame::Signal(signal))
    }

    /// What it wrote to stdout so far, after a look at what has arrived.
    pub fn stdout(&mut self) -> String {
        while self.end.is_none() && self.next(Duration::ZERO).unwrap_or(false) {}
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Waits until stdout or stderr contains `text`.
    ///
    /// # Errors
    ///
    /// When the command ends or `timeout` passes first; the error shows what was written.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
        while !has(&self.stdout) && !has(&self.stderr) {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.end.is_some() || left.is_zero() {
                bail!("{:?} did not write {text:?}; it wrote:\n{}", self.argv, self.output());
            }
            let _ = self.next(left);
        }
        Ok(())
    }

    /// Waits for its end; kills it when that takes longer than `timeout`.
    ///
    /// # Errors
    ///
    /// When it had to be killed, or the node dies.
    pub fn wait(mut self, timeout: Duration) -> Result<Output> {
        let deadline = Instant::now() + timeout;
        while self.end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{:?} did not end within {timeout:?}; it wrote:\n{}", self.argv, self.output());
            }
            let _ = self.next(left)?;
        }
        Ok(self.output())
    }

    /// Kills its process group with SIGKILL and waits for the end.
    ///
    /// # Errors
    ///
    /// When the node is dead.
    pub fn kill(self) -> Result<Output> {
        self.signal(9)?;
        self.wait(Duration::from_secs(30))
    }

    /// Sets the size of its terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.tell(&Frame::Resize(rows, columns))
    }

    /// Takes what arrived on stdout and stderr since the last call; `None` when it has ended.
    pub(crate) fn take(&mut self, patience: Duration) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let _ = self.next(patience)?;
        Ok(Some((std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr))))
    }

    fn tell(&self, frame: &Frame) -> Result<()> {
        self.client.send(self.events.id, frame).with_context(|| format!("cannot reach {:?}", self.argv))
    }

    /// Takes in one event. Whether there was one within `patience`.
    fn next(&mut self, patience: Duration) -> Result<bool> {
        match self.events.receiver.recv_timeout(patience) {
            Ok(Frame::Started(pid)) => self.pid = pid,
            Ok(Frame::Stdout(bytes)) => self.stdout.extend(bytes),
            Ok(Frame::Stderr(bytes)) => self.stderr.extend(bytes),
            Ok(Frame::Ended(end)) => self.end = Some(end),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => bail!("the node died while {:?} ran", self.argv),
        }
        Ok(true)
    }

    fn output(&self) -> Output {
        let status = match &self.end {
            Some(End::Exited(code)) => Status::Exited(*code),
            Some(End::Signaled(signal)) => Status::Signaled(*signal),
            Some(End::Failed(_)) | None => Status::Unknown,
        };
        Output {
            argv: self.argv.clone(),
            status,
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            bytes: self.stdout.clone(),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).push(self.output());
        if self.end.is_none() {
            let _ = self.signal(9);
        }
        self.client.forget(self.events.id);
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With this exit status.
    Exited(i32),
    /// Killed by this signal.
    Signaled(i32),
    /// It runs still, or its end is not known.
    Unknown,
}

/// A finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// What ran.
    pub argv: Vec<String>,
    /// How it ended.
    pub status: Status,
    /// Its stdout; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Its stderr, likewise.
    pub stderr: String,
    /// Its stdout as it was.
    pub bytes: Vec<u8>,
    /// How long it took, seen from outside the node.
    pub took: Duration,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == Status::Exited(0)
    }

    /// The exit status; `None` when a signal killed it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self.status {
            Status::Exited(code) => Some(code),
            Status::Signaled(_) | Status::Unknown => None,
        }
    }

    /// The output of a command that succeeded.
    ///
    /// # Errors
    ///
    /// When it did not; the error shows all of it.
    pub fn checked(self) -> Result<Self> {
        if self.success() { Ok(self) } else { bail!("a command failed: {self}") }
    }

    /// Asserts that it succeeded, and returns its stdout without the blanks around it.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.success(), "should have succeeded: {self}");
        self.stdout.trim()
    }

    /// Asserts that it ended with `code`, and returns its stderr without the blanks around it.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn fails_with(&self, code: i32) -> &str {
        assert!(self.status == Status::Exited(code), "should have ended with {code}: {self}");
        self.stderr.trim()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argv = self.argv.iter().map(|a| quoted(a)).collect::<Vec<_>>().join(" ");
        writeln!(f, "$ {argv}\n# {:?} after {:.3} s", self.status, self.took.as_secs_f64())?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            text.lines().try_for_each(|line| writeln!(f, "{name}| {line}"))?;
        }
        Ok(())
    }
}

/// An argument as a shell would have to see it, so that transcripts can be pasted.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_a_shell_needs_them() {
        for (argument, expected) in
            [("plain-1.0", "plain-1.0"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quoted(argument), expected);
        }
    }
}
