//! `sandbox.json`: who holds a pod's namespaces, and how to open them.
//!
//! A pod's namespaces are kept alive by descriptors in another process (PID 1, or `rkt run`), not by mounts. Opening one
//! goes through `/proc/<holder>/fd`, a link that leads to the namespace itself; the inode number tells whether the
//! descriptor is still the one that was meant.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// Who holds a pod's namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The process that holds the descriptors.
    pub holder: u32,
    /// What it holds. A kind that is not here is the host's.
    pub namespaces: BTreeMap<Kind, Held>,
}

/// A kind of namespace that the apps of a pod share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// network_namespaces(7)
    Net,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// user_namespaces(7): owns the others.
    User,
}

/// A descriptor in the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its number when it was looked up: a hint.
    pub fd: i32,
    /// The namespace's inode number: the identity.
    pub inode: u64,
}

/// A namespace of the pod could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The holder does not hold it any more.
    #[error("the pod's {} namespace is gone: process {holder} does not hold it", kind.as_str())]
    Gone {
        /// Which.
        kind: Kind,
        /// Who should hold it.
        holder: u32,
    },
    /// The holder's descriptors could not be read.
    #[error("look through the descriptors of process {holder}")]
    Io {
        /// Who holds the namespaces.
        holder: u32,
        /// Why.
        source: std::io::Error,
    },
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Net, Kind::Ipc, Kind::Uts, Kind::User];

    /// The name under `/proc/<pid>/ns`, in `sandbox.json`, and as `FDNAME=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Net => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::User => "user",
        }
    }
}

impl Sandbox {
    /// Opens a namespace of the pod. `None`: the pod uses the host's.
    pub fn open(&self, kind: Kind) -> Result<Option<OwnedFd>, NamespaceError> {
        let Some(held) = self.namespaces.get(&kind) else { return Ok(None) };
        if let Some(fd) = open_if(self.holder, held.fd, kind, held.inode) {
            return Ok(Some(fd));
        }
        match find(self.holder, kind, held.inode)? {
            Some((_, fd)) => Ok(Some(fd)),
            None => Err(NamespaceError::Gone { kind, holder: self.holder }),
        }
    }
}

/// Looks for the namespace with this inode number among a process's descriptors: its number there, and a descriptor of
/// our own.
pub fn find(holder: u32, kind: Kind, inode: u64) -> Result<Option<(i32, OwnedFd)>, NamespaceError> {
    let io = |source| NamespaceError::Io { holder, source };
    for entry in std::fs::read_dir(format!("/proc/{holder}/fd")).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let Some(number) = name.to_str().and_then(|n| n.parse().ok()) else { continue };
        if let Some(fd) = open_if(holder, number, kind, inode) {
            return Ok(Some((number, fd)));
        }
    }
    Ok(None)
}

/// Opens descriptor `number` of `holder` if it is that namespace. The link's text is compared before the open, because
/// opening an arbitrary descriptor's target (a terminal, a fifo) has effects.
fn open_if(holder: u32, number: i32, kind: Kind, inode: u64) -> Option<OwnedFd> {
    let path = format!("/proc/{holder}/fd/{number}");
    let target = std::fs::read_link(&path).ok()?;
    if target.to_str() != Some(&format!("{}:[{inode}]", kind.as_str())) {
        return None;
    }
    let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    (rustix::fs::fstat(&fd).ok()?.st_ino == inode).then_some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_found_by_inode_wherever_its_descriptor_is() {
        let fd =
            rustix::fs::open("/proc/self/ns/uts", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let inode = rustix::fs::fstat(&fd).unwrap().st_ino;
        let held = Held { fd: 100_000, inode };
        let mut sandbox = Sandbox { holder: std::process::id(), namespaces: [(Kind::Uts, held)].into() };
        let opened = sandbox.open(Kind::Uts).unwrap().unwrap();
        assert_eq!(rustix::fs::fstat(&opened).unwrap().st_ino, inode);
        assert!(sandbox.open(Kind::Net).unwrap().is_none());

        drop((fd, opened));
        let _ = sandbox.namespaces.insert(Kind::Uts, Held { fd: 0, inode: 1 });
        assert!(matches!(sandbox.open(Kind::Uts), Err(NamespaceError::Gone { kind: Kind::Uts, .. })));
    }
}
