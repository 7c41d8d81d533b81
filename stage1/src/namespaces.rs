//! Which namespaces an app has of its own, and entering them.
//!
//! `net`, `ipc`, `uts` and `user` are the pod's (see [`crate::sandbox`], [`crate::user_namespace`]); `mount`, `pid` and `cgroup` are the app's. A config
//! that leaves `pid` or `cgroup` out of `linux.namespaces` shares the host's; a mount namespace is never left out.

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use pod::stage1::status;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::ThreadNameSpaceType as Kind;
use sys::mount_attributes::{self, Change, Reach};

use crate::failure::StepError;

/// The app's namespaces could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NamespacesError {
    /// unshare(2) failed.
    #[error("make the app's namespaces")]
    Unshare(#[source] std::io::Error),
    /// The mounts could not be cut off from the host's.
    #[error("keep the app's mounts from the host")]
    Propagation(#[source] std::io::Error),
    /// The config asks for a namespace that this stage1 does not provide.
    #[error("linux.namespaces: {0}")]
    Unsupported(&'static str),
}

impl StepError for NamespacesError {
    const STATUS: u8 = status::NAMESPACE;
}

/// The namespaces that are made for the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnNamespaces {
    /// Whether the app is PID 1 of a namespace.
    pub pid: bool,
    /// Whether the app sees its control group as the root.
    pub cgroup: bool,
}

impl OwnNamespaces {
    /// Reads `linux.namespaces`. Without a list the app has all of them.
    pub fn of(list: Option<&[LinuxNamespace]>) -> Result<Self, NamespacesError> {
        let Some(list) = list else { return Ok(Self { pid: true, cgroup: true }) };
        let has = |kind| list.iter().any(|n| n.typ() == kind);
        if list.iter().any(|n| n.path().is_some()) {
            return Err(NamespacesError::Unsupported("joining a namespace by its path is not supported"));
        }
        if has(LinuxNamespaceType::Time) {
            return Err(NamespacesError::Unsupported("time namespaces are not supported yet"));
        }
        Ok(Self { pid: has(LinuxNamespaceType::Pid), cgroup: has(LinuxNamespaceType::Cgroup) })
    }

    /// Moves the calling process's future children into a new PID namespace.
    pub fn unshare_pid(self) -> Result<(), NamespacesError> {
        if !self.pid {
            return Ok(());
        }
        sys::namespace::unshare(Kind::PROCESS_ID).map_err(|e| NamespacesError::Unshare(e.into()))
    }

    /// Moves the calling process into the namespaces it has to be in itself, and cuts its mounts off from the host's.
    pub fn unshare_mount(self) -> Result<(), NamespacesError> {
        let cgroup = if self.cgroup { Kind::CONTROL_GROUP } else { Kind::empty() };
        sys::namespace::unshare(Kind::MOUNT | cgroup).map_err(|e| NamespacesError::Unshare(e.into()))
    }
}

/// Moves the calling process into a mount namespace for what is mounted before the app's own is made.
pub fn unshare_mount_for_staging() -> Result<(), NamespacesError> {
    sys::namespace::unshare(Kind::MOUNT).map_err(|e| NamespacesError::Unshare(e.into()))
}

/// From here on nothing that is mounted reaches the host. What the host mounts still arrives, for volumes that ask for
/// it, until the host's root is let go.
pub fn cut_off_mounts() -> Result<(), NamespacesError> {
    let slave = Change { propagation: Some(MountPropagationFlags::DOWNSTREAM), ..Change::new(Reach::Tree) };
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|root| mount_attributes::change(root, &slave))
        .map_err(|e| NamespacesError::Propagation(e.into()))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxNamespaceBuilder;

    use super::*;

    fn list(kinds: &[LinuxNamespaceType]) -> Vec<LinuxNamespace> {
        kinds.iter().map(|k| LinuxNamespaceBuilder::default().typ(*k).build().unwrap()).collect()
    }

    #[test]
    fn what_is_not_listed_is_the_hosts() {
        use LinuxNamespaceType as T;
        assert_eq!(OwnNamespaces::of(None).unwrap(), OwnNamespaces { pid: true, cgroup: true });
        let of = |kinds| OwnNamespaces::of(Some(&list(kinds)));
        assert_eq!(of(&[T::Mount, T::Pid]).unwrap(), OwnNamespaces { pid: true, cgroup: false });
        assert_eq!(of(&[T::User]).unwrap(), OwnNamespaces { pid: false, cgroup: false });
        assert!(of(&[T::Pid, T::Time]).is_err());
    }
}
