//! Binds: files and directories of the host, and the pod's volumes.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use sys::mount_attributes::{self, Reach};

use super::{Circumstances, MountError, attach};
use crate::devices::DeviceAccess;
use crate::mount_options::{MountOptions, OptionError};
use crate::rootfs::Root;
use crate::target::{self, Kind};

/// Opens what is to be bound: a detached copy of the mount at `source`, a path of the host.
pub(super) fn open(
    source: &Path,
    target: &Path,
    options: &mut MountOptions,
    circumstances: Circumstances<'_>,
) -> Result<OwnedFd, MountError> {
    let (origin, target) = (|| source.to_owned(), || target.to_owned());
    let tree = clone_tree(source, options.bind.unwrap_or(Reach::Mount)).map_err(|e| MountError::Source {
        origin: origin(),
        target: target(),
        source: e.into(),
    })?;
    match (options.id_map, circumstances.users) {
        (None, _) => {}
        (Some(reach), Some(users)) => mount_attributes::map_ids(&tree, users, reach)
            .map_err(|e| MountError::MapIds { origin: origin(), target: target(), source: e.into() })?,
        (Some(_), None) => {
            let source = OptionError::Unsupported("idmap without a user namespace".to_owned());
            return Err(MountError::Options { target: target(), source });
        }
    }
    // A device that is bound by itself was asked for.
    let is_device = matches!(kind_of(&tree), Ok(FileType::CharacterDevice | FileType::BlockDevice));
    if circumstances.devices == DeviceAccess::Closed && !is_device {
        options.recursive.set |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    Ok(tree)
}

/// Puts the tree at `target` in the root.
pub(super) fn mount(
    root: &Root,
    tree: &OwnedFd,
    target: &Path,
    options: &MountOptions,
) -> Result<(), MountError> {
    let refused =
        |e: Errno| MountError::Mount { kind: "bind".to_owned(), target: target.to_owned(), source: e.into() };
    let kind = match kind_of(tree).map_err(refused)? {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    let place = target::open_or_make(root, target, kind)
        .map_err(|e| MountError::Target { target: target.to_owned(), source: e.into() })?;
    restrict(tree, options).and_then(|()| attach(tree, &place)).map_err(refused)
}

fn kind_of(tree: &OwnedFd) -> rustix::io::Result<FileType> {
    rustix::fs::fstat(tree).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// A detached copy of the mount at `source`, which still belongs to the host's peer group: the propagation that is set
/// next decides whether mounts go on travelling.
fn clone_tree(source: &Path, reach: Reach) -> rustix::io::Result<OwnedFd> {
    let deep = match reach {
        Reach::Mount => OpenTreeFlags::empty(),
        Reach::Tree => OpenTreeFlags::AT_RECURSIVE,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | deep;
    rustix::mount::open_tree(CWD, source, flags)
}

/// Gives the tree its attributes and its propagation.
pub(super) fn restrict(tree: &OwnedFd, options: &MountOptions) -> rustix::io::Result<()> {
    for change in [&options.attributes, &options.recursive, &options.propagation] {
        if !change.set.is_empty() || !change.clear.is_empty() || change.propagation.is_some() {
            mount_attributes::change(tree, change)?;
        }
    }
    Ok(())
}
