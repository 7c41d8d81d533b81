//! `/sys/fs/cgroup` of an app: its own part of the tree, as its control group namespace shows it.
//!
//! Where the host has one unified hierarchy, that is one mount. Where it has the first version's hierarchies, each is
//! mounted in a directory of its own below a tmpfs, as on the host (cgroup_namespaces(7), cgroups(7)).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;

use super::filesystem::detached;
use super::{MountError, attach, directory};
use crate::control_group::{self, Hierarchy, Layout};
use crate::mount_options::MountOptions;
use crate::rootfs::Root;

/// Mounts the hierarchies that the calling process is in.
pub(super) fn mount(
    root: &Root,
    target: &Path,
    options: &MountOptions,
) -> std::result::Result<OwnedFd, MountError> {
    let place = directory(root, target, "cgroup")?;
    let error = |e: Errno| MountError::Mount {
        kind: "cgroup".to_owned(),
        target: target.to_owned(),
        source: e.into(),
    };
    let attributes = options.new_mount_attributes();
    if control_group::layout() == Layout::Unified {
        return unified(&place, attributes).map_err(error);
    }
    let hierarchies = control_group::of_self()
        .map_err(|source| MountError::ControlGroups { target: target.to_owned(), source })?;
    several(&place, &hierarchies, attributes).map_err(error)
}

fn unified(place: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let mount = detached("cgroup2", Path::new("cgroup"), [], attributes)?;
    attach(&mount, place).map(|()| mount)
}

fn several(place: &OwnedFd, hierarchies: &[Hierarchy], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let writable = attributes - MountAttrFlags::MOUNT_ATTR_RDONLY;
    let top = detached("tmpfs", Path::new("tmpfs"), [("mode", Some("755"))], writable)?;
    attach(&top, place)?;
    for hierarchy in hierarchies {
        one(&top, hierarchy, attributes)?;
    }
    let change = sys::mount_attributes::Change {
        set: attributes,
        ..sys::mount_attributes::Change::new(sys::mount_attributes::Reach::Mount)
    };
    sys::mount_attributes::change(&top, &change)?;
    Ok(top)
}

fn one(top: &OwnedFd, hierarchy: &Hierarchy, attributes: MountAttrFlags) -> Result<()> {
    let name = hierarchy.directory();
    rustix::fs::mkdirat(top, &name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(top, &name, flags, Mode::empty())?;
    let kind = if hierarchy.is_unified() { "cgroup2" } else { "cgroup" };
    let mounted = detached(kind, Path::new("cgroup"), hierarchy.mount_data(), attributes)
        .and_then(|mount| attach(&mount, &place));
    match mounted {
        Ok(()) => {}
        // A hierarchy that this kernel or this container does not let anybody mount: the app does without it.
        Err(Errno::PERM | Errno::BUSY | Errno::INVAL) => {
            return rustix::fs::unlinkat(top, &name, AtFlags::REMOVEDIR);
        }
        Err(e) => return Err(e),
    }
    // Controllers that are mounted together are also found by their own names.
    for controller in hierarchy.controllers().iter().filter(|c| **c != name && !c.contains('=')) {
        rustix::fs::symlinkat(&name, top, controller)?;
    }
    Ok(())
}
