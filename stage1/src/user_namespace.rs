//! The pod's user namespace: users and groups of its own, which are a range of the host's that nobody else has,
//! user_namespaces(7).
//!
//! Whoever enters it has every capability in it and none outside. So an app's start has two halves. What only the host's
//! root can do comes first, in a mount namespace that is thrown away: the layers are shown with mapped ids
//! ([`sys::mount_attributes::map_ids`]: nothing is copied or changed owner, all pods share the trees), the overlay is
//! mounted, volumes are opened ([`crate::staging`]). Then the process enters, makes the app's process there, and that one
//! makes the namespaces that the app owns (mounts, processes, control groups) and becomes root in them.
//!
//! Root in the pod is then nobody on the host: a set-id program or a device node of an image gives nothing that the pod
//! did not have, and an app that breaks out of everything else owns no file and no process of the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};
use pod::PodDir;
use pod::sandbox::{Kind, Sandbox};
use pod::stage1::status;
use pod::users::IdRange;
use rustix::process::{Gid, Uid};
use rustix::thread::LinkNameSpaceType;

use crate::failure::{Failure, StepError};
use crate::users::Identity;

/// The user namespace could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// A step failed.
    #[error("{act}")]
    Step {
        /// Which.
        act: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json` and the pod's directory do not say the same.
    #[error("config.json: {0}")]
    Mismatch(&'static str),
    /// The sandbox has none.
    #[error("the pod's sandbox has no user namespace")]
    NotMade,
}

impl StepError for UserNamespaceError {}

/// An identity that the namespace does not have.
#[derive(Debug, thiserror::Error)]
#[error("the app's user or group {id} is not among the {count} of the pod's user namespace")]
pub struct NotMapped {
    id: u32,
    count: u32,
}

impl StepError for NotMapped {
    const STATUS: u8 = status::USER;
}

/// The pod's users.
#[derive(Debug)]
pub struct PodUsers {
    namespace: OwnedFd,
    range: IdRange,
}

impl PodUsers {
    /// Looks the namespace up. `None`: the pod's users are the host's. What the config says and what the pod has must be
    /// the same.
    pub fn of(config: &Spec, pod: &PodDir, sandbox: Option<&Sandbox>) -> Result<Option<Self>, Failure> {
        let range = pod.users()?;
        check_config(config.linux().as_ref(), range)?;
        let Some(range) = range else { return Ok(None) };
        let opened = sandbox.map(|s| s.open(Kind::User)).transpose()?.flatten();
        let namespace = opened.ok_or(UserNamespaceError::NotMade)?;
        Ok(Some(Self { namespace, range }))
    }

    /// Which ids of the host they are.
    pub fn range(&self) -> IdRange {
        self.range
    }

    /// Moves the calling process into the namespace. From here on it can do nothing to the host that any process of the
    /// host's root without capabilities cannot do.
    pub fn enter(&self) -> Result<(), UserNamespaceError> {
        rustix::thread::move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(step("join the pod's user namespace"))
    }

    /// Checks that the namespace has the app's user and groups.
    pub fn check(&self, identity: &Identity) -> Result<(), NotMapped> {
        check_identity(self.range, identity)
    }
}

impl AsFd for PodUsers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// Whether a config has a user namespace.
pub fn is_wanted(config: &Spec) -> bool {
    config.linux().as_ref().is_some_and(has_user_namespace)
}

fn has_user_namespace(linux: &Linux) -> bool {
    linux.namespaces().iter().flatten().any(|n| n.typ() == LinuxNamespaceType::User)
}

fn check_config(linux: Option<&Linux>, range: Option<IdRange>) -> Result<(), UserNamespaceError> {
    let wanted = linux.is_some_and(has_user_namespace);
    let mappings = |list: Option<&Vec<LinuxIdMapping>>| {
        let one = |m: &LinuxIdMapping| (m.container_id(), m.host_id(), m.size());
        list.into_iter().flatten().map(one).collect::<Vec<_>>()
    };
    let uids = mappings(linux.and_then(|l| l.uid_mappings().as_ref()));
    let gids = mappings(linux.and_then(|l| l.gid_mappings().as_ref()));
    let expected: Vec<_> = range.iter().map(|r| (0, r.first, r.count)).collect();
    match (wanted, range) {
        (true, None) => Err("it has a user namespace, and the pod has no users.json"),
        (false, Some(_)) => Err("it has no user namespace, and the pod has users.json"),
        _ if uids != expected || gids != expected => {
            Err("linux.uidMappings and gidMappings are not those of the pod's users.json")
        }
        _ => Ok(()),
    }
    .map_err(UserNamespaceError::Mismatch)
}

fn check_identity(range: IdRange, identity: &Identity) -> Result<(), NotMapped> {
    let mut ids = [identity.uid, identity.gid].into_iter().chain(identity.groups.iter().copied());
    match ids.find(|id| range.host(*id).is_none()) {
        Some(id) => Err(NotMapped { id, count: range.count }),
        None => Ok(()),
    }
}

/// Says which ids of the host a new namespace has: that of `process`, a number in /proc.
pub(crate) fn write_maps(process: &str, range: IdRange) -> Result<(), UserNamespaceError> {
    let map = format!("0 {} {}\n", range.first, range.count);
    for file in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{process}/{file}"), &map).map_err(|source| {
            UserNamespaceError::Step { act: "map the users of the pod's user namespace", source }
        })?;
    }
    Ok(())
}

/// Becomes root of the namespace that the calling process is in. Until then it is nobody there: what it makes in the
/// namespace's own file systems would belong to nobody.
pub fn become_root() -> Result<(), UserNamespaceError> {
    rustix::thread::set_thread_groups(&[]).map_err(step("give up the host's groups"))?;
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("become the pod's group 0"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("become the pod's user 0"))
}

fn step(act: &'static str) -> impl Fn(rustix::io::Errno) -> UserNamespaceError {
    move |e| UserNamespaceError::Step { act, source: e.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: IdRange = IdRange { first: 1 << 20, count: 1 << 16 };

    #[test]
    fn config_and_pod_must_agree() {
        let map = |host: u32| serde_json::json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        let linux = |namespaces: &[&str], uids: u32, gids: u32| -> Linux {
            let namespaces: Vec<_> = namespaces.iter().map(|n| serde_json::json!({"type": n})).collect();
            serde_json::from_value(serde_json::json!({"namespaces": namespaces, "uidMappings": map(uids), "gidMappings": map(gids)}))
                .unwrap()
        };
        let (good, other) = (RANGE.first, RANGE.first + 65536);
        assert!(check_config(None, None).is_ok());
        assert!(check_config(Some(&linux(&["pid", "user"], good, good)), Some(RANGE)).is_ok());
        for (linux, range) in [
            (linux(&["user"], good, good), None),
            (linux(&["pid"], good, good), Some(RANGE)),
            (linux(&["pid"], good, good), None),
            (linux(&["user"], other, good), Some(RANGE)),
            (linux(&["user"], good, other), Some(RANGE)),
        ] {
            assert!(check_config(Some(&linux), range).is_err(), "{linux:?} {range:?}");
        }
        assert!(check_config(None, Some(RANGE)).is_err());
    }

    #[test]
    fn an_identity_beyond_the_range_is_named() {
        let identity = |uid, gid, groups: &[u32]| Identity { uid, gid, groups: groups.to_vec(), home: None };
        assert!(check_identity(RANGE, &identity(65535, 0, &[1])).is_ok());
        for bad in [identity(65536, 0, &[]), identity(0, 65536, &[]), identity(0, 0, &[5, 65536])] {
            let error = check_identity(RANGE, &bad).unwrap_err();
            assert!(error.to_string().contains("group 65536 is not among the 65536"), "{error}");
        }
    }
}
