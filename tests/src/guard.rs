//! One test inside a node: its directories, and what is kept of it when it fails.
//!
//! A test that panics leaves, under `<target>/test-failures/<test>/`:
//!
//! | file | is |
//! |---|---|
//! | `commands.log` | every command of the test with all its output, in order |
//! | `journal.log` | the node's journal since the test began |
//! | `units.log` | all units of pods, and the status of every failed unit |
//!
//! and prints the end of each. Tests share nodes, so the journal may show the neighbours too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::command::Record;
use crate::{Command, Node, Output, artifact};

/// How many lines of each kept file are printed.
const TAIL: usize = 40;

/// A test in progress. Its methods panic where a [`Node`]'s return errors: for a test that is a failure.
pub struct Test<'n> {
    node: &'n Node,
    name: String,
    since: u64,
    record: Record,
}

impl<'n> Test<'n> {
    /// # Panics
    ///
    /// When the node does not let the test have its directories.
    pub(crate) fn begin(node: &'n Node, name: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let test = Self { node, name: name.to_owned(), since, record: Record::default() };
        let _ = test.run(&["rm", "-rf", "--one-file-system", "--", test.scratch().as_str()]);
        let _ = test.run(&["mkdir", "-p", "--", &test.data()]).ok();
        test
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &'n Node {
        self.node
    }

    /// A directory in the node for this test alone, empty at first, on tmpfs.
    #[must_use]
    pub fn scratch(&self) -> String {
        format!("/tmp/test-{}", self.name)
    }

    /// The data directory (`--dir`) for this test alone, empty at first, on tmpfs.
    #[must_use]
    pub fn data(&self) -> String {
        format!("{}/data", self.scratch())
    }

    /// A command that goes into the test's record.
    pub fn command(&self, argv: &[&str]) -> Command {
        self.node.command(argv).recorded(&self.record)
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> Output {
        must(self.command(argv).run())
    }

    /// Runs a shell script to its end; it stops at the first command that fails.
    ///
    /// # Panics
    ///
    /// As [`Test::run`].
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        self.run(&["bash", "-euo", "pipefail", "-c", script])
    }

    /// Runs `rkt --dir=<the test's data directory>` with these arguments.
    ///
    /// # Panics
    ///
    /// As [`Test::run`].
    #[track_caller]
    pub fn rkt(&self, arguments: &[&str]) -> Output {
        must(self.rkt_command(arguments).run())
    }

    /// The same, to be given stdin, environment or a timeout, or to be spawned.
    pub fn rkt_command(&self, arguments: &[&str]) -> Command {
        self.command(&["rkt", &format!("--dir={}", self.data())]).args(arguments)
    }

    /// Writes a file in the node, and the directories above it.
    ///
    /// # Panics
    ///
    /// When the node refuses.
    #[track_caller]
    pub fn write_file(&self, path: &str, bytes: impl AsRef<[u8]>) {
        must(self.node.write_file(path, bytes));
    }

    /// Reads a file in the node.
    ///
    /// # Panics
    ///
    /// When the node cannot.
    #[track_caller]
    pub fn read_file(&self, path: &str) -> Vec<u8> {
        must(self.node.read_file(path))
    }

    /// Writes down what there is to know about a failure, and returns where.
    fn keep(&self) -> Result<PathBuf> {
        let directory = artifact::target()?.join("test-failures").join(&self.name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let commands = std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner));
        let commands: String = commands.iter().map(|o| format!("{o}\n")).collect();
        let journal = format!("journalctl --no-pager -o short-precise --since=@{}", self.since);
        let units = "systemctl list-units --no-pager --all 'rkt-*' 'kubepods*'
            for u in $(systemctl list-units --failed --plain --no-legend | cut -d' ' -f1); do
                systemctl status --no-pager --full --lines=30 \"$u\" || true
            done";
        for (name, text) in
            [("commands.log", commands), ("journal.log", self.ask(&journal)), ("units.log", self.ask(units))]
        {
            let path = directory.join(name);
            fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
            print_tail(name, &text);
        }
        Ok(directory)
    }

    fn ask(&self, script: &str) -> String {
        self.node
            .sh(script)
            .map_or_else(|e| format!("the node does not say: {e:#}\n"), |o| o.stdout + &o.stderr)
    }
}

impl Drop for Test<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Best effort: what a test leaves mounted or running keeps its files until the node ends.
            let _ = self.node.run(&["rm", "-rf", "--one-file-system", "--", &self.scratch()]);
            return;
        }
        let kept = self.keep().map_or_else(|e| format!("and nothing was kept: {e:#}"), |d| where_kept(&d));
        say(&format!("{} failed; {kept}", self.name));
    }
}

fn where_kept(directory: &Path) -> String {
    format!("its commands, journal and units are in {}", directory.display())
}

fn print_tail(name: &str, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
    say(&format!("--- {name}, the last {} of {} lines\n{}", tail.len(), lines.len(), tail.join("\n")));
}

#[expect(clippy::print_stderr, reason = "the test harness shows what is printed so only for tests that fail")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// # Panics
///
/// With the whole chain of causes.
#[track_caller]
#[expect(clippy::panic, reason = "in a test, an error of the harness is a failed assertion")]
fn must<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => panic!("{e:#}"),
    }
}
