//! The command line, checked, and what the machine says about itself.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use pod::stage1::Backoff;

use crate::cli::Arguments;
use crate::image_gc::ImageGc;
use crate::runtime::rkt::Pulls;
use crate::systemd::units::Hierarchy;
use crate::translate::NodeFacts;

/// What the kubelet runs with.
#[derive(Debug)]
pub(crate) struct Config {
    /// Directory of manifests, absolute.
    pub(crate) manifests: PathBuf,
    /// The executable `rkt`, absolute.
    pub(crate) rkt: PathBuf,
    /// rkt's data directory.
    pub(crate) rkt_dir: PathBuf,
    /// Which stage1 isolates pods that do not choose one.
    pub(crate) stage1: Option<String>,
    /// The kubelet's own directory.
    pub(crate) root_dir: PathBuf,
    /// Where to answer. `None`: nowhere.
    pub(crate) listen: Option<SocketAddr>,
    /// How images are pulled.
    pub(crate) pulls: Pulls,
    /// Images that are pulled at the same time; each pull is parallel in itself.
    pub(crate) max_pulls: usize,
    /// When images are collected. `None`: not by the kubelet.
    pub(crate) image_gc: Option<ImageGc>,
    /// The back-off of containers and of what the kubelet tries again.
    pub(crate) backoff: Backoff,
    /// What is known about the machine.
    pub(crate) node: NodeFacts,
    /// How it arranges cgroups.
    pub(crate) hierarchy: Hierarchy,
}

impl Config {
    /// Checks the arguments and looks at the machine.
    pub(crate) fn new(arguments: Arguments) -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the kubelet has to be run as root");
        // Checked: /pods shows what manifests hold, secrets included.
        ensure!(
            arguments.address.is_loopback(),
            "--address={}: only a loopback address can be answered on",
            arguments.address
        );
        let listen =
            (arguments.healthz_port != 0).then(|| (arguments.address, arguments.healthz_port).into());
        let backoff = arguments.crash_loop_back_off;
        ensure!(backoff.initial >= 1, "--crash-loop-back-off={backoff}: the first wait must be at least 1 s");
        ensure!(
            backoff.max >= backoff.initial,
            "--crash-loop-back-off={backoff}: the longest wait is the shorter one"
        );
        let absolute = |path: &Path| {
            std::path::absolute(path).with_context(|| format!("find the directory {}", path.display()))
        };
        let root_dir = absolute(&arguments.root_dir)?;
        let deadline = duration("image-pull-progress-deadline", arguments.image_pull_progress_deadline)?;
        ensure!(!deadline.is_zero(), "--image-pull-progress-deadline: a pull needs some time");
        Ok(Self {
            pulls: Pulls { deadline, credentials: root_dir.clone() },
            max_pulls: usize::from(arguments.max_parallel_image_pulls.get()),
            image_gc: ImageGc::new(&arguments)?,
            manifests: absolute(&arguments.pod_manifest_path)?,
            rkt: executable(&arguments.rkt_path)?,
            rkt_dir: absolute(&arguments.rkt_dir)?,
            stage1: arguments.rkt_stage1_image,
            root_dir,
            listen,
            backoff,
            node: NodeFacts {
                name: node_name(arguments.hostname_override)?,
                ip: arguments.node_ip.unwrap_or_else(default_address).to_string(),
                memory: memory().context("find out how much memory there is")?,
            },
            hierarchy: hierarchy().context("look at /sys/fs/cgroup")?,
        })
    }
}

/// A length of time on the command line of the flag `--name`.
pub(crate) fn duration(name: &str, given: jiff::SignedDuration) -> anyhow::Result<Duration> {
    Duration::try_from(given).with_context(|| format!("--{name}={given}: a length of time is not negative"))
}

/// systemd needs an absolute path.
fn executable(path: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_executable =
        |p: &Path| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if path.components().count() > 1 {
        let path = path.canonicalize().with_context(|| format!("--rkt-path: find {}", path.display()))?;
        ensure!(is_executable(&path), "--rkt-path: {} is not executable", path.display());
        return Ok(path);
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs).map(|dir| dir.join(path)).find(|p| is_executable(p));
    found.with_context(|| format!("--rkt-path: {} is not in $PATH", path.display()))
}

/// The name becomes part of the names of pods.
fn node_name(given: Option<String>) -> anyhow::Result<String> {
    let name = match given {
        Some(name) => name,
        None => rustix::system::uname()
            .nodename()
            .to_str()
            .context("the host name is not UTF-8")?
            .to_ascii_lowercase(),
    };
    let label = |l: &str| {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !l.is_empty() && l.bytes().all(fine) && !l.starts_with('-') && !l.ends_with('-')
    };
    if name.len() > 63 || !name.split('.').all(label) {
        bail!(
            "{name:?} cannot be a node's name (lower-case letters, digits, dashes and dots): set --hostname-override"
        );
    }
    Ok(name)
}

/// The address of the interface that leads to the world. Connecting a datagram socket sends nothing.
fn default_address() -> IpAddr {
    let address = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // A documentation address, RFC 5737: nobody is there, but the route is the default one.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    address.map_or(IpAddr::from([127, 0, 0, 1]), |a| a.ip())
}

/// `MemTotal` of proc(5), in bytes.
fn memory() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).context("MemTotal is missing")?;
    let kilobytes: u64 =
        line.trim().trim_end_matches("kB").trim().parse().context("MemTotal is not a number")?;
    Ok(kilobytes.saturating_mul(1024))
}

fn hierarchy() -> rustix::io::Result<Hierarchy> {
    /// statfs(2)
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    let kind = rustix::fs::statfs("/sys/fs/cgroup")?.f_type;
    Ok(if kind == CGROUP2_SUPER_MAGIC { Hierarchy::Unified } else { Hierarchy::Legacy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes() {
        assert_eq!(node_name(Some("n1.example".to_owned())).unwrap(), "n1.example");
        for bad in ["", "N1", "a_b", "-a", "a-", "a..b", "a\n", "a%n", &"a".repeat(64)] {
            assert!(node_name(Some((*bad).to_owned())).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn executables() {
        assert!(executable(Path::new("sh")).unwrap().is_absolute());
        for bad in ["no-such-program", "/no/such/program", "/etc/passwd", "/etc"] {
            assert!(executable(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory().unwrap() > 1 << 20);
    }
}
