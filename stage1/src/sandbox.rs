//! The namespaces that the apps of a pod share: network, IPC, host name, and users.
//!
//! `up` makes them and hands them to its launcher, who keeps them alive by holding descriptors; an app joins them through
//! those (`docs/pod-directory.md`, `sandbox.json`). A pod with users of its own has a user namespace, too, which owns the
//! others: a child makes them in it, because whoever is in a user namespace has no power outside any more.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use pod::launch::{Ipc, Launch, Net};
use pod::sandbox::{Held, Kind, Sandbox};
use pod::users::IdRange;
use rustix::fs::{Mode, OFlags};
use rustix::process::WaitOptions;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};
use sys::clone::Parent;

use crate::channel::{self, ChildEnd};
use crate::failure::{Failure, StepError};
use crate::user_namespace;

/// The sandbox could not be made or joined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step of making it failed.
    #[error("{act}")]
    Make {
        /// Which.
        act: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A namespace could not be entered.
    #[error("join the pod's {kind} namespace")]
    Join {
        /// Which.
        kind: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The launcher does not hold what it was sent.
    #[error("the launcher (process {holder}) did not keep the pod's {kind} namespace")]
    NotKept {
        /// Which.
        kind: &'static str,
        /// Who.
        holder: u32,
    },
}

impl StepError for SandboxError {}

/// Namespaces that have been made: kind and descriptor.
pub type Made = Vec<(Kind, OwnedFd)>;

/// Makes the namespaces that the launch asks for, and configures them. The calling process moves into them; with
/// `users`, it does not.
pub fn make(launch: &Launch, users: Option<IdRange>) -> Result<Made, Failure> {
    match users {
        None => Ok(make_here(launch)?),
        Some(range) => make_owned(launch, range),
    }
}

fn make_here(launch: &Launch) -> Result<Made, SandboxError> {
    let kinds = kinds(launch);
    unshare_and_configure(launch, &kinds)?;
    kinds.into_iter().map(|kind| Ok((kind, open(kind, "thread-self")?))).collect()
}

/// Makes the user namespace, and the others in it.
fn make_owned(launch: &Launch, range: IdRange) -> Result<Made, Failure> {
    let kinds = kinds(launch);
    let (pid, channel) = channel::spawn(Parent::Caller, |end| match own(launch, &kinds, &end) {
        Ok(()) => sys::clone::exit_now(0),
        Err(failure) => failure,
    })?;
    let process = pid.as_raw_nonzero().to_string();
    channel.wait_until_ready()?;
    user_namespace::write_maps(&process, range)?;
    channel.go()?;
    channel.wait_until_ready()?;
    let all = kinds.into_iter().chain([Kind::User]);
    let made = all.map(|kind| Ok((kind, open(kind, &process)?))).collect::<Result<_, SandboxError>>()?;
    channel.go()?;
    let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))
        .map_err(step("wait for who made the pod's namespaces"))?;
    Ok(made)
}

/// What the child does. The namespaces are made by the user namespace's root: what is in them is then root's, too.
fn own(launch: &Launch, kinds: &[Kind], end: &ChildEnd) -> Result<(), Failure> {
    sys::namespace::unshare(ThreadNameSpaceType::USER).map_err(step("make the pod's user namespace"))?;
    end.ready()?;
    user_namespace::become_root()?;
    unshare_and_configure(launch, kinds)?;
    Ok(end.ready()?)
}

fn unshare_and_configure(launch: &Launch, kinds: &[Kind]) -> Result<(), SandboxError> {
    let flags = kinds.iter().fold(ThreadNameSpaceType::empty(), |flags, kind| flags | thread_kind(*kind));
    sys::namespace::unshare(flags).map_err(step("make the pod's namespaces"))?;
    if kinds.contains(&Kind::Net) {
        sys::network::loopback_up()
            .map_err(|source| SandboxError::Make { act: "bring the loopback interface up", source })?;
    }
    rustix::system::sethostname(launch.hostname.as_bytes()).map_err(step("set the pod's host name"))
}

fn step(act: &'static str) -> impl Fn(rustix::io::Errno) -> SandboxError {
    move |e| SandboxError::Make { act, source: e.into() }
}

/// Looks up where the launcher keeps the namespaces.
pub fn held(made: &Made, holder: u32) -> Result<Sandbox, Failure> {
    let mut namespaces = BTreeMap::new();
    for (kind, fd) in made {
        let inode =
            inode(fd).map_err(|e| SandboxError::Make { act: "look at the namespaces", source: e.into() })?;
        let (number, _) = pod::sandbox::find(holder, *kind, inode)?
            .ok_or(SandboxError::NotKept { kind: kind.as_str(), holder })?;
        let _ = namespaces.insert(*kind, Held { fd: number, inode });
    }
    Ok(Sandbox { holder, namespaces })
}

/// Moves the calling process into the pod's namespaces, all but the user namespace: that is the last thing that a process
/// with work to do outside can do, see [`user_namespace`].
pub fn join(sandbox: &Sandbox) -> Result<(), Failure> {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::User) {
        let Some(fd) = sandbox.open(kind)? else { continue };
        rustix::thread::move_into_link_name_space(fd.as_fd(), Some(link_kind(kind)))
            .map_err(|e| SandboxError::Join { kind: kind.as_str(), source: e.into() })?;
    }
    Ok(())
}

/// Which namespaces a pod has for itself. The host name always is its own.
fn kinds(launch: &Launch) -> Vec<Kind> {
    let net = (launch.net == Net::None).then_some(Kind::Net);
    let ipc = (launch.ipc == Ipc::Private).then_some(Kind::Ipc);
    net.into_iter().chain(ipc).chain([Kind::Uts]).collect()
}

fn open(kind: Kind, process: &str) -> Result<OwnedFd, SandboxError> {
    let path = format!("/proc/{process}/ns/{}", kind.as_str());
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(step("open the pod's namespaces"))
}

fn inode(fd: &OwnedFd) -> rustix::io::Result<u64> {
    rustix::fs::fstat(fd).map(|stat| stat.st_ino)
}

fn thread_kind(kind: Kind) -> ThreadNameSpaceType {
    match kind {
        Kind::Net => ThreadNameSpaceType::NETWORK,
        Kind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        Kind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        Kind::User => ThreadNameSpaceType::USER,
    }
}

fn link_kind(kind: Kind) -> LinkNameSpaceType {
    match kind {
        Kind::Net => LinkNameSpaceType::Network,
        Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        Kind::User => LinkNameSpaceType::User,
    }
}

#[cfg(test)]
mod tests {
    use pod::launch::Launcher;

    use super::*;

    #[test]
    fn a_pod_shares_what_it_is_told_to() {
        let launch = |net, ipc| Launch {
            launcher: Launcher::Direct,
            net,
            hostname: "h".to_owned(),
            ipc,
            invocation_id: None,
        };
        assert_eq!(kinds(&launch(Net::None, Ipc::Private)), [Kind::Net, Kind::Ipc, Kind::Uts]);
        assert_eq!(kinds(&launch(Net::Host, Ipc::Parent)), [Kind::Uts]);
    }
}
