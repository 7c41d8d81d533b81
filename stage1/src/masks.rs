//! Masked and read-only paths: parts of /proc and /sys that an app may not read, or not write.
//!
//! A file is covered with the null device ([`null_device`]), a directory with an empty read-only tmpfs. Nothing is
//! trusted by name: /dev/null is checked to be device 1:3, a path below /proc must lead to procfs and one below /sys to sysfs, and no
//! link is followed. Otherwise an image or a neighbour could make the mask cover something else, or have something else
//! mounted in its place (runc's CVE-2025-31133, CVE-2025-52565, CVE-2025-52881).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use pod::stage1::status;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use sys::mount_attributes::{self, Change, Reach};

use crate::failure::StepError;
use crate::mounts::{attach, detached};
use crate::null_device::{self, NullDeviceError};
use crate::rootfs::Root;
use crate::target;

/// A path could not be masked or made read-only.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// The kernel refused.
    #[error("{act} {path}", path = .path.display())]
    Io {
        /// `mask` or `make read-only`.
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The path leads to something else than its name says.
    #[error("{act} {path}: it is not on the kernel's own file system", path = .path.display())]
    Impostor {
        /// `mask` or `make read-only`.
        act: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// The null device could not be had.
    #[error(transparent)]
    Null(#[from] NullDeviceError),
}

impl StepError for MaskError {
    const STATUS: u8 = status::NAMESPACE;
}

/// Covers `masked` and makes `read_only` read-only. What is not there needs neither.
pub fn apply(root: &Root, masked: &[String], read_only: &[String]) -> Result<(), MaskError> {
    for path in read_only.iter().map(Path::new) {
        if let Some(fd) = find(root, path, "make read-only")? {
            make_read_only(&fd).map_err(|e| MaskError::Io {
                act: "make read-only",
                path: path.into(),
                source: e.into(),
            })?;
        }
    }
    for path in masked.iter().map(Path::new) {
        if let Some(fd) = find(root, path, "mask")? {
            let covered = match is_directory(&fd) {
                Ok(true) => cover_directory(&fd),
                Ok(false) => attach(null_device::mount()?, &fd),
                Err(e) => Err(e),
            };
            covered.map_err(|e| MaskError::Io { act: "mask", path: path.into(), source: e.into() })?;
        }
    }
    Ok(())
}

/// Opens a path that is to be restricted, and checks that it is what its name says.
fn find(root: &Root, path: &Path, act: &'static str) -> Result<Option<OwnedFd>, MaskError> {
    let fd = match target::open_without_links(root, path, OFlags::PATH) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(MaskError::Io { act, path: path.to_owned(), source: e.into() }),
    };
    if is_genuine(&fd, path) {
        return Ok(Some(fd));
    }
    Err(MaskError::Impostor { act, path: path.to_owned() })
}

fn is_genuine(fd: &OwnedFd, path: &Path) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    let expected = match path.components().nth(1).map(|c| c.as_os_str().as_encoded_bytes()) {
        Some(b"proc") => Some(PROC),
        Some(b"sys") => Some(SYSFS),
        _ => None,
    };
    expected.is_none_or(|magic| rustix::fs::fstatfs(fd).is_ok_and(|s| u64::try_from(s.f_type) == Ok(magic)))
}

fn is_directory(fd: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

fn make_read_only(fd: &OwnedFd) -> rustix::io::Result<()> {
    let tree = clone(fd, OpenTreeFlags::AT_RECURSIVE)?;
    let change = Change { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Change::new(Reach::Tree) };
    mount_attributes::change(&tree, &change)?;
    attach(&tree, fd)
}

fn cover_directory(fd: &OwnedFd) -> rustix::io::Result<()> {
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let empty = detached(
        "tmpfs",
        Path::new("tmpfs"),
        [("size", Some("0")), ("nr_inodes", Some("2")), ("mode", Some("555"))],
        attributes,
    )?;
    attach(&empty, fd)
}

fn clone(fd: &OwnedFd, extra: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(fd, "", flags | extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_file_systems_must_agree() {
        let open = |p: &str| rustix::fs::open(p, OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        assert!(is_genuine(&open("/proc/sys"), Path::new("/proc/sys")));
        assert!(!is_genuine(&open("/etc"), Path::new("/proc/sys")));
        assert!(!is_genuine(&open("/proc/sys"), Path::new("/sys/firmware")));
        assert!(is_genuine(&open("/etc"), Path::new("/etc/secret")));
    }
}
