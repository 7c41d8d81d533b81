//! mount_setattr(2): attributes and propagation of a mount, or of a whole tree of mounts, through its descriptor.

use std::os::fd::{AsFd, AsRawFd};

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
    let flags = match change.reach {
        Reach::Mount => libc::AT_EMPTY_PATH,
        Reach::Tree => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    // SAFETY: mount_setattr(2) reads a NUL-terminated path and a `struct mount_attr` of the size given; both outlive
    // the call, and the empty path with AT_EMPTY_PATH means the descriptor itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
