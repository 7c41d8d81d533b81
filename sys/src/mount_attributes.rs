//! mount_setattr(2): attributes, propagation and id mapping of a mount, or of a whole tree of mounts, through its
//! descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

/// How far a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The mount itself.
    Mount,
    /// The mount and everything mounted below it.
    Tree,
}

/// A change of a mount's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear. Clearing one of the access-time group clears the group, as the kernel demands.
    pub clear: MountAttrFlags,
    /// The new propagation type; `None` leaves it.
    pub propagation: Option<MountPropagationFlags>,
    /// How far it reaches.
    pub reach: Reach,
}

impl Change {
    /// A change that changes nothing yet.
    pub fn new(reach: Reach) -> Self {
        Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty(), propagation: None, reach }
    }
}

/// Changes the mount that `fd` is the root of: a descriptor from open_tree(2), fsmount(2), or a directory opened right
/// at a mount point.
///
/// # Errors
/// See mount_setattr(2): `EINVAL` when `fd` is not the root of a mount, `EPERM` for a locked attribute.
pub fn change(fd: impl AsFd, change: &Change) -> rustix::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set.bits().into(),
        attr_clr: change.clear.bits().into(),
        propagation: change.propagation.map_or(0, |p| p.bits().into()),
        userns_fd: 0,
    };
    set(fd.as_fd(), &attributes, change.reach)
}

/// Maps the ids of a detached mount (open_tree(2)) as `users` does, a user namespace: what the file system says belongs to
/// user 0 belongs to user 0 of the namespace, and what user 0 of the namespace makes is user 0's on the file system.
///
/// # Errors
/// See mount_setattr(2): `EINVAL` when the file system cannot do it, `EPERM` when the mount is mapped already or is
/// mounted somewhere, and without CAP_SYS_ADMIN over the file system.
pub fn map_ids(fd: impl AsFd, users: BorrowedFd<'_>, reach: Reach) -> rustix::io::Result<()> {
    let users = u64::try_from(users.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: users };
    set(fd.as_fd(), &attributes, reach)
}

fn set(fd: BorrowedFd<'_>, attributes: &libc::mount_attr, reach: Reach) -> rustix::io::Result<()> {
    let flags = match reach {
        Reach::Mount => libc::AT_EMPTY_PATH,
        Reach::Tree => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    // SAFETY: mount_setattr(2) reads a NUL-terminated path and a `struct mount_attr` of the size given; both outlive
    // the call, and the empty path with AT_EMPTY_PATH means the descriptor itself. The descriptor in `userns_fd` is
    // only looked at, and only with MOUNT_ATTR_IDMAP, for which the caller holds it open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, OFlags};
    use rustix::mount::OpenTreeFlags;

    use super::*;

    #[test]
    fn ids_are_mapped_by_a_user_namespace_other_than_the_first_only() {
        let tmp = tempfile::tempdir().unwrap();
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, tmp.path(), flags).unwrap();
        let open =
            |path: &str| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        // The initial namespace maps nothing: the kernel refuses it, and whatever is no namespace.
        assert_eq!(map_ids(&tree, open("/proc/self/ns/user").as_fd(), Reach::Mount), Err(Errno::PERM));
        assert_eq!(map_ids(&tree, open("/proc/self/status").as_fd(), Reach::Mount), Err(Errno::INVAL));
    }
}
