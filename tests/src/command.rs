//! A command to run in a node, built from a [`Node`](crate::Node) or a [`Test`](crate::Test).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::Client;
use crate::wire::Start;
use crate::{Child, Output};

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
        let mut child = Child::new(argv, self.client, events, self.record);
        child.wait_for_start(self.timeout)?;
        Ok(child)
    }
}
