//! The file system of a node, built from the inside.
//!
//! A node's root is an overlay in tmpfs over the root of this machine: what is installed here is there, and
//! nothing that is written lasts. `/run`, `/tmp`, `/var/tmp` and `/var/lib` start empty, each a tmpfs of its own
//! (overlayfs refuses an overlay as upper layer, so pods need one).
//!
//! The layout follows systemd's container interface (<https://systemd.io/CONTAINER_INTERFACE/>).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};
use serde::{Deserialize, Serialize};

use crate::init;
use crate::keeper::{Directory, Spec};
use crate::node::{Bind, Network};

/// Where the directory with the agent's socket is inside a node in namespaces.
pub(crate) const AGENT: &str = "/run/rktnetes-node";

/// What the file system of a node in namespaces has besides the machine's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// v1 hierarchies to mount, each with its controllers; empty for a pure v2 node.
    pub(crate) controllers: Vec<String>,
    /// Whose network it has.
    pub(crate) network: Network,
    /// Directories of the machine to show.
    pub(crate) binds: Vec<Bind>,
    /// The agent's command line.
    pub(crate) agent: Vec<String>,
}

/// Devices of the machine that a node has too.
const DEVICES: [&str; 10] =
    ["null", "zero", "full", "random", "urandom", "tty", "kvm", "fuse", "loop-control", "net/tun"];

/// Builds the root of a node in fresh namespaces, moves into it and becomes its systemd.
pub(crate) fn become_init(path: &Path, spec: &Spec) -> Result<ExitCode> {
    let layout = spec.layout.as_ref().context("this node has no layout")?;
    let directory = Directory(path.to_owned());
    let root = overlay(&directory)?;
    kernel_file_systems(&root)?;
    control_groups(&root, &layout.controllers)?;
    devices(&root)?;
    for (place, options) in [
        ("run", "mode=755"),
        ("tmp", "mode=1777,size=75%"),
        ("var/tmp", "mode=1777,size=75%"),
        ("var/lib", "mode=755,size=75%"),
    ] {
        tmpfs(&root.join(place), options)?;
    }
    let agent = directory.socket().parent().unwrap_or(path).to_owned();
    bind(&root, &Bind { source: agent, target: AGENT.into(), writable: true })?;
    layout.binds.iter().try_for_each(|b| bind(&root, b))?;
    init::configure(&root, &layout.agent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::write(root.join("etc/hostname"), format!("{name}\n")).context("cannot name the node")?;
    enter(&root)?;
    init::start()
}

/// The same for a virtual machine, whose root is in place and ours: called as its first process.
pub(crate) fn become_machine_init(agent: &[&str]) -> Result<ExitCode> {
    let root = Path::new("/");
    tmpfs(&root.join("run"), "mode=755")?;
    let agent: Vec<String> = agent.iter().map(|&a| a.to_owned()).collect();
    init::configure(root, &agent)?;
    fs::write("/etc/hostname", "rktnetes-machine\n").context("cannot name the node")?;
    init::start()
}

/// tmpfs over the node's directory, in our mount namespace only, and the overlay in it.
fn overlay(directory: &Directory) -> Result<PathBuf> {
    let base = directory.0.join("root");
    fs::create_dir(&base).context("cannot make the node's root")?;
    tmpfs(&base, "size=75%")?;
    let [upper, work, root] = ["upper", "work", "root"].map(|d| base.join(d));
    for directory in [&upper, &work, &root] {
        fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    attach("overlay", &root, &options)?;
    Ok(root)
}

fn kernel_file_systems(root: &Path) -> Result<()> {
    attach("proc", &root.join("proc"), "")?;
    attach("sysfs", &root.join("sys"), "")
}

/// Hybrid: v2 for systemd's own bookkeeping, v1 for the controllers. Otherwise v2 alone.
fn control_groups(root: &Path, controllers: &[String]) -> Result<()> {
    let base = root.join("sys/fs/cgroup");
    if controllers.is_empty() {
        return attach("cgroup2", &base, "");
    }
    tmpfs(&base, "mode=755")?;
    let make = |name: &str| {
        let place = base.join(name);
        fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display())).map(|()| place)
    };
    for options in controllers {
        match options.strip_prefix("name=") {
            Some(name) => attach("cgroup", &make(name)?, &format!("none,{options}"))?,
            None => attach("cgroup", &make(options)?, options)?,
        }
    }
    attach("cgroup2", &make("unified")?, "")
}

/// A private `/dev`: the usual devices, a devpts instance of its own, the usual links.
fn devices(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    tmpfs(&dev, "mode=755")?;
    for name in ["pts", "shm", "net"] {
        fs::create_dir(dev.join(name)).with_context(|| format!("cannot make /dev/{name}"))?;
    }
    for name in DEVICES {
        let (from, to) = (Path::new("/dev").join(name), dev.join(name));
        if from.exists() {
            drop(fs::File::create(&to).with_context(|| format!("cannot make /dev/{name}"))?);
            mount_bind_recursive(&from, &to).with_context(|| format!("cannot bind /dev/{name}"))?;
        }
    }
    // Not bound: systemd must not read the machine's kernel log into the node's journal.
    mknodat(CWD, dev.join("kmsg"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 3))
        .context("cannot make /dev/kmsg")?;
    attach("devpts", &dev.join("pts"), "newinstance,ptmxmode=0666,mode=620,gid=5")?;
    tmpfs(&dev.join("shm"), "mode=1777")?;
    for (target, link) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, dev.join(link)).with_context(|| format!("cannot link /dev/{link}"))?;
    }
    Ok(())
}

/// Makes `root` the root. The old root ends up mounted over it and is let go of.
fn enter(root: &Path) -> Result<()> {
    chdir(root).context("cannot enter the node's root")?;
    pivot_root(".", ".").context("cannot make it the root")?;
    unmount(".", UnmountFlags::DETACH).context("cannot let go of the machine's root")?;
    chdir("/").context("cannot enter the new root")?;
    // systemd does the same when it is not in a container.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).context("cannot share the mounts inside the node")
}

fn bind(root: &Path, bind: &Bind) -> Result<()> {
    let place = root.join(bind.target.strip_prefix("/").unwrap_or(&bind.target));
    let what = || format!("cannot bind {} into the node", bind.source.display());
    if bind.source.is_dir() {
        fs::create_dir_all(&place).with_context(what)?;
    } else {
        fs::create_dir_all(place.parent().unwrap_or(root)).with_context(what)?;
        drop(fs::File::create(&place).with_context(what)?);
    }
    mount_bind_recursive(&bind.source, &place).with_context(what)?;
    if !bind.writable {
        mount_remount(&place, MountFlags::BIND | MountFlags::RDONLY, "").with_context(what)?;
    }
    Ok(())
}

fn tmpfs(place: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    attach("tmpfs", place, options)
}

/// Mounts a new instance of a file system that has no device, with no flags: that is what a node has.
fn attach(kind: &str, place: &Path, options: &str) -> Result<()> {
    let options = std::ffi::CString::new(options).context("mount options with a NUL")?;
    mount(kind, place, kind, MountFlags::empty(), options.as_c_str())
        .with_context(|| format!("cannot mount {kind} ({options:?}) on {}", place.display()))
}
