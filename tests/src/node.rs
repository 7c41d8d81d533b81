//! A node: a systemd that belongs to the tests.
//!
//! Which kinds there are, how one is booted, and how commands are run in it. Booting waits until systemd
//! has finished its own start, so the first command finds a node that is `running`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{self, ChildStdin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::boot::{BOOT, Logs, accept, start_keeper, start_on_host};
use crate::client::Client;
use crate::keeper::{Directory, sweep};
use crate::{Child, Command, Output, Test, artifact, control_group};

/// What a test needs of the node it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Namespaces over this machine's root. v1 controllers, so limits bite; v2 for systemd's bookkeeping.
    Hybrid,
    /// Namespaces, a pure v2 hierarchy: without controllers on a machine that keeps them on v1.
    Unified,
    /// A virtual machine: its own kernel, all capabilities, pure v2 with every controller. Slow.
    Vm,
    /// This machine itself, whose PID 1 has to be systemd. Tests then share it with whatever it runs.
    Host,
}

impl Kind {
    /// The cheapest kind in which this machine's limits bite.
    ///
    /// # Errors
    ///
    /// When the machine's control groups cannot be read.
    pub fn native() -> Result<Self> {
        let v1 = control_group::hierarchies()?.iter().any(control_group::Hierarchy::limits);
        Ok(if v1 { Self::Hybrid } else { Self::Unified })
    }

    /// The kind that is booted for this one: `RKT_TEST_NODE=host` turns all into [`Kind::Host`].
    #[must_use]
    pub fn effective(self) -> Self {
        if std::env::var_os("RKT_TEST_NODE").is_some_and(|v| v == "host") { Self::Host } else { self }
    }
}

/// A directory or file of this machine to show in a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// Path on this machine.
    pub source: PathBuf,
    /// Absolute path in the node.
    pub target: PathBuf,
    /// Whether the node may write to it.
    pub writable: bool,
}

/// Whose network a node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Its own: a loopback device and nothing else.
    #[default]
    Own,
    /// This machine's, to reach registries elsewhere. Not for virtual machines.
    Machine,
}

/// What a node has besides its kind.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Directories and files of this machine to show.
    pub binds: Vec<Bind>,
    /// Whose network it has.
    pub network: Network,
}

/// A running node. It ends when this is dropped, or when the process that booted it does.
pub struct Node {
    kind: Kind,
    name: String,
    client: Client,
    env: Vec<(String, String)>,
    /// Never read: our end of the pipe whose end tells the keeper to clean up.
    lifeline: Option<ChildStdin>,
    keeper: Option<process::Child>,
}

impl Node {
    /// Boots a node of one's own.
    ///
    /// # Errors
    ///
    /// When the machine lacks what the kind needs, or the node does not come up; what its console showed
    /// is in the error.
    pub fn boot(kind: Kind) -> Result<Self> {
        Self::boot_with(kind, &Options::default())
    }

    /// Boots a node that has more of this machine than usual. On the host, which has all of it, the options
    /// change nothing.
    ///
    /// # Errors
    ///
    /// As [`Node::boot`].
    pub fn boot_with(kind: Kind, options: &Options) -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        sweep();
        let kind = kind.effective();
        let name = format!("{}-{}", process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let (directory, lock) = Directory::create(&name)?;
        let listener = UnixListener::bind(directory.socket()).context("cannot listen for the agent")?;
        listener.set_nonblocking(true).context("cannot listen for the agent")?;
        let mut logs = Logs::create(&directory)?;
        let mut keeper = match kind {
            Kind::Host => start_on_host(&directory)?,
            _ => start_keeper(kind, &directory, options)?,
        };
        let lifeline = keeper.stdin.take();
        let stream = accept(&listener, &mut keeper);
        drop(lock);
        let booted = stream.and_then(|stream| {
            let client = Client::new(stream).context("cannot talk to the agent")?;
            let node = Self { kind, name, client, env: environment()?, lifeline, keeper: Some(keeper) };
            node.wait_until_running().map(|()| node)
        });
        if kind == Kind::Host {
            let _ = fs::remove_dir_all(&directory.0);
        }
        booted.map_err(|e| e.context(format!("a {kind:?} node did not boot{}", logs.tail())))
    }

    /// The node of this kind that all tests of this process share. Booted by whoever asks first.
    ///
    /// # Panics
    ///
    /// When it does not boot: no test that needs it can go on.
    #[expect(clippy::panic, reason = "the assertion of every test that needs a node")]
    pub fn shared(kind: Kind) -> &'static Self {
        static NODES: [OnceLock<Result<Node, String>>; 4] = [const { OnceLock::new() }; 4];
        let [hybrid, unified, vm, host] = &NODES;
        let cell = match kind.effective() {
            Kind::Hybrid => hybrid,
            Kind::Unified => unified,
            Kind::Vm => vm,
            Kind::Host => host,
        };
        match cell.get_or_init(|| Self::boot(kind).map_err(|e| format!("{e:#}"))) {
            Ok(node) => node,
            Err(e) => panic!("no {kind:?} node: {e}"),
        }
    }

    /// What kind of node this really is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name: unique among the nodes of this machine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a test in this node: a guard with directories of its own, and a record that is kept when the
    /// test panics.
    pub fn test(&self, name: &str) -> Test<'_> {
        Test::begin(self, name)
    }

    /// A command to run in the node. The binaries of this workspace come first in its `PATH`.
    pub fn command(&self, argv: &[&str]) -> Command {
        Command::new(self.client.clone(), &self.env, argv)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not end; one that fails is an `Output`.
    pub fn run(&self, argv: &[&str]) -> Result<Output> {
        self.command(argv).run()
    }

    /// Runs a shell script to its end; it stops at the first command that fails.
    ///
    /// # Errors
    ///
    /// As [`Node::run`].
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.run(&["bash", "-euo", "pipefail", "-c", script])
    }

    /// Starts a command and leaves it running.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(&self, argv: &[&str]) -> Result<Child> {
        self.command(argv).spawn()
    }

    /// Writes a file in the node, and the directories above it.
    ///
    /// # Errors
    ///
    /// When the node refuses.
    pub fn write_file(&self, path: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let script = "mkdir -p -- \"$(dirname -- \"$0\")\" && cat > \"$0\"";
        let output = self.command(&["sh", "-c", script, path]).stdin(bytes).run()?;
        output.checked().with_context(|| format!("cannot write {path} in the node")).map(drop)
    }

    /// Reads a file in the node.
    ///
    /// # Errors
    ///
    /// When the node cannot.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.run(&["cat", "--", path])?.checked();
        Ok(output.with_context(|| format!("cannot read {path} in the node"))?.bytes)
    }

    /// The agent of a virtual machine answers late: its stream is there before its kernel.
    ///
    /// `degraded` is good enough: what failed is then a unit of the machine's, and tests look at their own.
    fn wait_until_running(&self) -> Result<()> {
        let wait = self.command(&["systemctl", "is-system-running", "--wait"]).timeout(BOOT).run()?;
        match wait.stdout.trim() {
            "running" | "degraded" => Ok(()),
            _ => bail!("systemd did not come up: {wait}"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.client.close();
        drop(self.lifeline.take());
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.wait();
        }
    }
}

/// What commands in a node find in their environment, besides what they are given.
fn environment() -> Result<Vec<(String, String)>> {
    let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = format!("{}:{system}", artifact::binaries()?.display());
    let pairs = [("PATH", path.as_str()), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")];
    Ok(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec())
}
