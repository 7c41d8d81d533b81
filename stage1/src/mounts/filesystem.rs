//! New instances of file systems: proc, sysfs, tmpfs, devpts, mqueue, and whatever else a config names.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::{Errno, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{MountError, attach, directory};
use crate::mount_options::MountOptions;
use crate::rootfs::Root;

/// Mounts a new instance of `kind` and returns its root.
pub(super) fn mount(
    root: &Root,
    kind: &str,
    source: &Path,
    target: &Path,
    options: &MountOptions,
) -> std::result::Result<OwnedFd, MountError> {
    let place = directory(root, target, kind)?;
    let data = options.data.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
    detached(kind, source, data, options.new_mount_attributes())
        .and_then(|mount| attach(&mount, &place).map(|()| mount))
        .map_err(|e| MountError::Mount { kind: kind.to_owned(), target: target.to_owned(), source: e.into() })
}

/// Makes a new instance that is mounted nowhere yet. New mounts are private.
pub(crate) fn detached<'a>(
    kind: &str,
    source: &Path,
    data: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if source != Path::new("none") {
        match rustix::mount::fsconfig_set_string(&context, "source", source) {
            // A file system without a device does not have to know the word.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(e),
        }
    }
    for (key, value) in data {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, key)?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
