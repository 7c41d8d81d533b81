//! A command that runs in a node.

use std::sync::PoisonError;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::{Client, Events};
use crate::command::Record;
use crate::wire::{End, Frame};
use crate::{Output, Status};

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
    pub(crate) fn new(argv: Vec<String>, client: Client, events: Events, record: Record) -> Self {
        let (stdout, stderr) = (Vec::new(), Vec::new());
        let started = Instant::now();
        Self { argv, client, events, pid: 0, started, stdout, stderr, end: None, record }
    }

    /// Waits until the agent has started it.
    pub(crate) fn wait_for_start(&mut self, patience: Duration) -> Result<()> {
        while self.pid == 0 && self.end.is_none() {
            if !self.next(patience)? {
                bail!("the node does not answer: cannot start {:?}", self.argv);
            }
        }
        match &self.end {
            Some(End::Failed(why)) => bail!("{why}"),
            _ => Ok(()),
        }
    }

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
