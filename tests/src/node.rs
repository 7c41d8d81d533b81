//! A node: a systemd that belongs to the tests.
//!
//! Which kinds there are, how one is booted, and how commands are run in it. Booting waits until systemd
//! has finished its own start, so the first command finds a node that is `running`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::keeper::{Directory, Spec, sweep};
use crate::root::{AGENT, Layout};
use crate::{Child, Command, Output, Test, artifact, control_group, vm};

/// How long a boot may take; software emulation on a busy machine is slow.
const BOOT: Duration = Duration::from_secs(180);

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
        let v1 = control_group::hierarchies()?.iter().any(|h| has_controller(h.controllers.as_deref()));
        Ok(if v1 { Self::Hybrid } else { Self::Unified })
    }

    /// The kind that is booted for this one: `RKT_TEST_NODE=host` turns all into [`Kind::Host`].
    #[must_use]
    pub fn effective(self) -> Self {
        if std::env::var_os("RKT_TEST_NODE").is_some_and(|v| v == "host") { Self::Host } else { self }
    }
}

/// Whether a v1 hierarchy has a controller, and not only a name.
fn has_controller(controllers: Option<&str>) -> bool {
    controllers.is_some_and(|c| !c.starts_with("name="))
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
        Self::boot_with(kind, &[])
    }

    /// Boots a node that shows further directories of this machine.
    ///
    /// # Errors
    ///
    /// As [`Node::boot`].
    pub fn boot_with(kind: Kind, binds: &[Bind]) -> Result<Self> {
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
            _ => start_keeper(kind, &directory, binds)?,
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

/// Starts the keeper of a node in namespaces or of a virtual machine.
fn start_keeper(kind: Kind, directory: &Directory, binds: &[Bind]) -> Result<process::Child> {
    let (init, agent) = (artifact::binary("node-init")?, artifact::binary("node-agent")?);
    let helpers = artifact::binaries()?;
    let binds = all_binds(kind, binds)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let spec = if kind == Kind::Vm {
        Spec { argv: vm::prepare(directory, &binds, &helpers)?, layout: None }
    } else {
        let argv = vec![text(&init), "enter".to_owned(), text(&directory.0)];
        let agent = vec![text(&agent), "socket".to_owned(), format!("{AGENT}/socket")];
        Spec { argv, layout: Some(Layout { controllers: controllers(kind)?, binds, agent }) }
    };
    fs::write(directory.spec(), serde_json::to_vec(&spec)?).context("cannot write the node's spec")?;
    let errors = File::options().append(true).open(directory.keeper_log());
    let errors = errors.context("cannot open the keeper's log")?;
    let mut command = process::Command::new(init);
    let _ = command.arg("keep").arg(&directory.0);
    let _ = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors);
    command.spawn().context("cannot start the node's keeper")
}

/// On the host nothing is kept: the agent runs as our child and ends with the connection.
fn start_on_host(directory: &Directory) -> Result<process::Child> {
    if !Path::new("/run/systemd/system").is_dir() {
        bail!("RKT_TEST_NODE=host, but systemd is not PID 1 here (sd_booted(3))");
    }
    let mut command = process::Command::new(artifact::binary("node-agent")?);
    let _ = command.arg("socket").arg(directory.socket()).stdin(Stdio::piped());
    command.spawn().context("cannot start the agent")
}

/// The v1 hierarchies of a hybrid node; none for the others.
fn controllers(kind: Kind) -> Result<Vec<String>> {
    if kind != Kind::Hybrid {
        return Ok(Vec::new());
    }
    let mut found: Vec<String> =
        control_group::hierarchies()?.into_iter().filter_map(|h| h.controllers).collect();
    if !found.iter().any(|c| has_controller(Some(c))) {
        bail!("this machine has no v1 controllers: a hybrid node cannot be made here");
    }
    if !found.iter().any(|c| c == "name=systemd") {
        found.push("name=systemd".to_owned());
    }
    Ok(found)
}

/// What was asked for, and the build and the cache, read-only; the sources too if the overlay does not
/// show them. The other two are bound in any case: overlayfs does not promise to notice what changes below
/// it.
fn all_binds(kind: Kind, asked: &[Bind]) -> Result<Vec<Bind>> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let changing = [artifact::target()?, artifact::cache()?];
    let mut binds = Vec::new();
    for path in sources.into_iter().filter(|s| s.is_dir()).chain(changing.iter().cloned()) {
        if hidden(&path)? || (kind != Kind::Vm && changing.contains(&path)) {
            binds.push(Bind { source: path.clone(), target: path, writable: false });
        }
    }
    binds.extend_from_slice(asked);
    Ok(binds)
}

/// Whether a node's view of `/` lacks this directory: it is on another mount, or where nodes start empty.
fn hidden(path: &Path) -> Result<bool> {
    let mount = |path: &Path| {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID);
        found.map(|s| s.stx_mnt_id).with_context(|| format!("cannot look at {}", path.display()))
    };
    let empty = ["/tmp", "/run", "/var/lib"].iter().any(|p| path.starts_with(p));
    Ok(empty || mount(path)? != mount(Path::new("/"))?)
}

/// What commands in a node find in their environment, besides what they are given.
fn environment() -> Result<Vec<(String, String)>> {
    let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = format!("{}:{system}", artifact::binaries()?.display());
    let pairs = [("PATH", path.as_str()), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")];
    Ok(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec())
}

/// Waits for the agent to connect, as long as the node lives and not too long.
fn accept(listener: &UnixListener, keeper: &mut process::Child) -> Result<UnixStream> {
    let deadline = Instant::now() + BOOT;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).context("cannot talk to the agent")?;
            return Ok(stream);
        }
        if let Some(status) = keeper.try_wait().context("cannot watch the keeper")? {
            bail!("it ended before its agent called ({status})");
        }
        if Instant::now() > deadline {
            bail!("its agent did not call within {BOOT:?}");
        }
        sleep(Duration::from_millis(2));
    }
}

/// What the node and its keeper write while it boots. Held open, for the keeper of a node that does not
/// boot removes the files.
struct Logs([File; 2]);

impl Logs {
    fn create(directory: &Directory) -> Result<Self> {
        let create = |path: PathBuf| {
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(true);
            options.open(&path).with_context(|| format!("cannot make {}", path.display()))
        };
        Ok(Self([create(directory.keeper_log())?, create(directory.console())?]))
    }

    /// The end of each, indented, on lines of its own.
    fn tail(&mut self) -> String {
        let mut text = String::new();
        for file in &mut self.0 {
            let mut log = Vec::new();
            let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut log));
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            for line in lines.get(lines.len().saturating_sub(20)..).unwrap_or_default() {
                let _ = write!(text, "\n  {line}");
            }
        }
        text
    }
}
