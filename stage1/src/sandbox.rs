//! The namespaces that the apps of a pod share: network, IPC, and host name.
//!
//! `up` makes them and hands them to its launcher, who keeps them alive by holding descriptors; an app joins them through
//! those (`docs/pod-directory.md`, `sandbox.json`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use pod::launch::{Ipc, Launch, Net};
use pod::sandbox::{Held, Kind, Sandbox};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use crate::failure::{Failure, StepError};

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

/// Makes the namespaces that the launch asks for, and configures them. The calling process moves into them.
pub fn make(launch: &Launch) -> Result<Made, SandboxError> {
    let step = |act| move |e: rustix::io::Errno| SandboxError::Make { act, source: e.into() };
    let kinds = kinds(launch);
    let flags = kinds.iter().fold(ThreadNameSpaceType::empty(), |flags, kind| flags | thread_kind(*kind));
    sys::namespace::unshare(flags).map_err(step("make the pod's namespaces"))?;
    if kinds.contains(&Kind::Net) {
        sys::network::loopback_up()
            .map_err(|source| SandboxError::Make { act: "bring the loopback interface up", source })?;
    }
    rustix::system::sethostname(launch.hostname.as_bytes()).map_err(step("set the pod's host name"))?;
    kinds
        .into_iter()
        .map(|kind| Ok((kind, open_own(kind).map_err(step("open the pod's namespaces"))?)))
        .collect()
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

/// Moves the calling process into the pod's namespaces.
pub fn join(sandbox: &Sandbox) -> Result<(), Failure> {
    for kind in Kind::ALL {
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

fn open_own(kind: Kind) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/thread-self/ns/{}", kind.as_str());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn inode(fd: &OwnedFd) -> rustix::io::Result<u64> {
    rustix::fs::fstat(fd).map(|stat| stat.st_ino)
}

fn thread_kind(kind: Kind) -> ThreadNameSpaceType {
    match kind {
        Kind::Net => ThreadNameSpaceType::NETWORK,
        Kind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        Kind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
    }
}

fn link_kind(kind: Kind) -> LinkNameSpaceType {
    match kind {
        Kind::Net => LinkNameSpaceType::Network,
        Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
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
