//! How a node is started: what its keeper needs to know, and the wait for its agent.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::keeper::{Directory, Spec};
use crate::node::{Bind, Kind, Network, Options};
use crate::root::{AGENT, Layout};
use crate::{artifact, control_group, vm};

/// How long a boot may take; software emulation on a busy machine is slow.
pub(crate) const BOOT: Duration = Duration::from_secs(180);

/// Starts the keeper of a node in namespaces or of a virtual machine.
pub(crate) fn start_keeper(kind: Kind, directory: &Directory, options: &Options) -> Result<Child> {
    let (init, agent) = (artifact::binary("node-init")?, artifact::binary("node-agent")?);
    let helpers = artifact::binaries()?;
    let binds = all_binds(kind, &options.binds)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let network = options.network;
    let spec = if kind == Kind::Vm {
        if network == Network::Machine {
            bail!("a virtual machine cannot have the network of this machine");
        }
        Spec { argv: vm::prepare(directory, &binds, &helpers)?, layout: None }
    } else {
        let argv = vec![text(&init), "enter".to_owned(), text(&directory.0)];
        let agent = vec![text(&agent), "socket".to_owned(), format!("{AGENT}/socket")];
        Spec { argv, layout: Some(Layout { controllers: controllers(kind)?, network, binds, agent }) }
    };
    fs::write(directory.spec(), serde_json::to_vec(&spec)?).context("cannot write the node's spec")?;
    let errors = File::options().append(true).open(directory.keeper_log());
    let errors = errors.context("cannot open the keeper's log")?;
    let mut command = Command::new(init);
    let _ = command.arg("keep").arg(&directory.0);
    let _ = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors);
    command.spawn().context("cannot start the node's keeper")
}

/// On the host nothing is kept: the agent runs as our child and ends with the connection.
pub(crate) fn start_on_host(directory: &Directory) -> Result<Child> {
    if !Path::new("/run/systemd/system").is_dir() {
        bail!("RKT_TEST_NODE=host, but systemd is not PID 1 here (sd_booted(3))");
    }
    let mut command = Command::new(artifact::binary("node-agent")?);
    let _ = command.arg("socket").arg(directory.socket()).stdin(Stdio::piped());
    command.spawn().context("cannot start the agent")
}

/// The v1 hierarchies of a hybrid node; none for the others.
fn controllers(kind: Kind) -> Result<Vec<String>> {
    if kind != Kind::Hybrid {
        return Ok(Vec::new());
    }
    let hierarchies = control_group::hierarchies()?;
    if !hierarchies.iter().any(control_group::Hierarchy::limits) {
        bail!("this machine has no v1 controllers: a hybrid node cannot be made here");
    }
    let mut found: Vec<String> = hierarchies.into_iter().filter_map(|h| h.controllers).collect();
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
    let empty = ["/tmp", "/run", "/var/tmp", "/var/lib"].iter().any(|p| path.starts_with(p));
    Ok(empty || mount(path)? != mount(Path::new("/"))?)
}

/// Waits for the agent to connect, as long as the node lives and not too long.
pub(crate) fn accept(listener: &UnixListener, keeper: &mut Child) -> Result<UnixStream> {
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
pub(crate) struct Logs([File; 2]);

impl Logs {
    pub(crate) fn create(directory: &Directory) -> Result<Self> {
        let create = |path: PathBuf| {
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(true);
            options.open(&path).with_context(|| format!("cannot make {}", path.display()))
        };
        Ok(Self([create(directory.keeper_log())?, create(directory.console())?]))
    }

    /// The end of each, indented, on lines of its own.
    pub(crate) fn tail(&mut self) -> String {
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
