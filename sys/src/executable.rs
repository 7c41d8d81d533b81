//! A read-only way to a program's own file.
//!
//! A process that runs from a detached, read-only mount of its file has a `/proc/<pid>/exe` that nobody can write
//! through: the mount is in no mount namespace, so that no one can change it (runc's CVE-2019-5736). Whoever starts such
//! a process can make the mount for it; the process can also do it for itself, at the price of executing itself again.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use crate::mount_attributes::{self, Change, Reach};

/// Opens `path` on a detached read-only mount of its own. Executing `/proc/self/fd/<n>` runs it from there.
///
/// # Errors
/// What open_tree(2) and mount_setattr(2) say; both need CAP_SYS_ADMIN.
pub fn detached_read_only(path: &Path) -> rustix::io::Result<OwnedFd> {
    let file = rustix::mount::open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    let read_only = Change { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Change::new(Reach::Mount) };
    mount_attributes::change(&file, &read_only)?;
    Ok(file)
}

/// Whether the calling process runs from a read-only mount.
pub fn is_read_only() -> rustix::io::Result<bool> {
    rustix::fs::statvfs("/proc/self/exe").map(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn nobody_writes_through_the_mount() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fd = detached_read_only(file.path()).unwrap();
        let again = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let error = std::fs::OpenOptions::new().write(true).open(again).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        assert!(std::fs::OpenOptions::new().write(true).open(file.path()).is_ok());
    }
}
