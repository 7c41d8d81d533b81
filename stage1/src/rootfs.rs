//! The root of an app: an overlay of the image's layers and the attempt's own writable layer.
//!
//! The writable layer belongs to one attempt and is thrown away with it, so that the overlay is `volatile`: it never
//! syncs, and an app that ends does not wait for the disk. Data that shall survive belongs in a volume.
//!
//! `lowerdir=` has room for a page of text. The layers' trees are opened first, and named by their descriptors, relative
//! to `/proc/self/fd`: the longest image that the formats allow (127 layers) needs half a kilobyte.
//!
//! For a pod with a user namespace each layer is shown with mapped ids, over itself, in the mount namespace that the root is
//! mounted in: the trees are the same for everybody, and nothing in them is changed. The overlay is mounted by the
//! host's root in any case: who mounts it in a user namespace is not shown the `trusted.` attributes by which layers hide
//! what is below them.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use pod::stage1::status;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags, OpenTreeFlags};
use sys::mount_attributes::{self, Change, Reach};

use crate::devices::DeviceAccess;
use crate::failure::StepError;
use crate::mounts::attach;

/// The root could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A layer's tree cannot be opened: the image is gone or damaged.
    #[error("open the image layer {path}", path = .path.display())]
    Layer {
        /// The tree.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A layer's tree cannot be shown with other ids.
    #[error(
        "map the ids of the image layer {path}: the kernel cannot do that on this file system; for --private-users the \
         data directory has to be on ext4, xfs, btrfs, or on tmpfs since Linux 6.3", path = .path.display()
    )]
    MapIds {
        /// The tree.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The pod's directory lacks something.
    #[error("open {path}", path = .path.display())]
    Directory {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The upper layer is on an overlay.
    #[error(
        "mount the root: the data directory is on a file system that overlayfs cannot write its upper layer to"
    )]
    UpperUnsuitable(#[source] std::io::Error),
    /// The kernel refused the overlay.
    #[error("mount the root from {layers} layers")]
    Mount {
        /// How many.
        layers: usize,
        /// Why.
        source: std::io::Error,
    },
    /// It could not be made read-only.
    #[error("make the root read-only")]
    ReadOnly(#[source] std::io::Error),
}

impl StepError for RootError {
    const STATUS: u8 = status::NAMESPACE;
}

/// Where the parts of a root are. Every path is absolute, and opened in the app's own mount namespace: a descriptor from
/// before would belong to the host's.
#[derive(Debug, Clone, Copy)]
pub struct RootParts<'a> {
    /// The layers' trees, bottom first.
    pub layers: &'a [PathBuf],
    /// Holds `upper/` and `work/`.
    pub attempt: &'a Path,
    /// The empty directory to mount on.
    pub target: &'a Path,
    /// Whether device nodes in the root shall be devices.
    pub devices: DeviceAccess,
    /// The user namespace whose ids the layers are shown with.
    pub users: Option<BorrowedFd<'a>>,
}

/// A mounted root.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    /// Mounts the overlay and opens it.
    pub fn mount(parts: &RootParts<'_>) -> Result<Self, RootError> {
        let mut layers = open_layers(parts.layers)?;
        if let Some(users) = parts.users {
            layers.iter_mut().try_for_each(|layer| layer.map_ids(users))?;
        }
        let (upper, work) = (open_dir(&parts.attempt.join("upper"))?, open_dir(&parts.attempt.join("work"))?);
        let target = open_dir(parts.target)?;
        // An image without layers is an empty root: the target is an empty directory.
        let lower =
            if layers.is_empty() { vec![&target] } else { layers.iter().rev().map(|l| &l.fd).collect() };
        let flags = match parts.devices {
            DeviceAccess::Closed => MountFlags::NODEV,
            DeviceAccess::Open => MountFlags::empty(),
        };
        mount_overlay(&lower, &upper, &work, &target, flags)
            .map_err(|e| mount_error(e, upper.as_fd(), layers.len()))?;
        Ok(Self { fd: open_dir(parts.target)? })
    }

    /// Takes a directory that is the root of a mount already.
    pub fn from_mounted(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Makes the root itself read-only; what is mounted on it stays as it is.
    pub fn make_read_only(&self) -> Result<(), RootError> {
        let change = Change { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Change::new(Reach::Mount) };
        mount_attributes::change(&self.fd, &change).map_err(|e| RootError::ReadOnly(e.into()))
    }
}

/// Opens the layers, bottom first. overlayfs refuses a tree that occurs twice; the lower one is hidden by the upper one
/// anyway.
fn open_layers(paths: &[PathBuf]) -> Result<Vec<Layer<'_>>, RootError> {
    let visible = paths.iter().enumerate().filter(|(i, path)| !paths.iter().skip(i + 1).any(|p| p == *path));
    visible.map(|(_, path)| Layer::open(path)).collect()
}

/// A layer's tree, opened.
#[derive(Debug)]
struct Layer<'a> {
    path: &'a Path,
    fd: OwnedFd,
}

impl<'a> Layer<'a> {
    fn open(path: &'a Path) -> Result<Self, RootError> {
        let fd = open_path(path).map_err(|e| RootError::Layer { path: path.to_owned(), source: e.into() })?;
        Ok(Self { path, fd })
    }

    /// Puts a mount of the tree with mapped ids over it. (Linux before 6.15 takes no layer that is mounted nowhere.)
    fn map_ids(&mut self, users: BorrowedFd<'_>) -> Result<(), RootError> {
        let error = |e: Errno| RootError::Layer { path: self.path.to_owned(), source: e.into() };
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&self.fd, "", flags).map_err(error)?;
        mount_attributes::map_ids(&tree, users, Reach::Mount)
            .map_err(|e| RootError::MapIds { path: self.path.to_owned(), source: e.into() })?;
        attach(&tree, &self.fd).map_err(error)?;
        self.fd = tree;
        Ok(())
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, RootError> {
    open_path(path).map_err(|e| RootError::Directory { path: path.to_owned(), source: e.into() })
}

fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// `lower` is top first, as overlayfs wants it.
fn mount_overlay(
    lower: &[&OwnedFd],
    upper: &OwnedFd,
    work: &OwnedFd,
    target: &OwnedFd,
    flags: MountFlags,
) -> Result<(), Errno> {
    let options = overlay_options(lower, upper, work)?;
    rustix::process::chdir("/proc/self/fd")?;
    let target = target.as_raw_fd().to_string();
    let result = rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str());
    rustix::process::chdir("/")?;
    result
}

fn overlay_options(lower: &[&OwnedFd], upper: &OwnedFd, work: &OwnedFd) -> Result<CString, Errno> {
    let mut options = String::from("lowerdir=");
    for (i, fd) in lower.iter().enumerate() {
        let separator = if i == 0 { "" } else { ":" };
        write!(options, "{separator}{}", fd.as_raw_fd()).map_err(|_| Errno::NOMEM)?;
    }
    write!(options, ",upperdir={},workdir={},volatile", upper.as_raw_fd(), work.as_raw_fd())
        .map_err(|_| Errno::NOMEM)?;
    CString::new(options).map_err(|_| Errno::INVAL)
}

/// overlayfs says EINVAL to an upper layer that is itself on an overlay, the usual mistake inside a container.
fn mount_error(e: Errno, upper: BorrowedFd<'_>, layers: usize) -> RootError {
    const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
    let on_overlay = rustix::fs::fstatfs(upper).is_ok_and(|s| u64::try_from(s.f_type) == Ok(OVERLAYFS_MAGIC));
    match e {
        Errno::INVAL if on_overlay => RootError::UpperUnsuitable(e.into()),
        _ => RootError::Mount { layers, source: e.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_image_fits_in_a_page() {
        let null = || rustix::fs::open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
        let fds: Vec<OwnedFd> = (0..130).map(|_| null()).collect();
        let options = overlay_options(&fds.iter().collect::<Vec<_>>(), &null(), &null()).unwrap();
        assert!(options.as_bytes().len() < 1024, "{}", options.as_bytes().len());
    }

    #[test]
    fn a_layer_that_occurs_twice_is_used_once_and_on_top() {
        let tmp = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|n| tmp.path().join(n));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        let paths = [a.clone(), b.clone(), a.clone()];
        let opened = open_layers(&paths).unwrap();
        let inode = |layer: &Layer<'_>| rustix::fs::fstat(&layer.fd).unwrap().st_ino;
        let of = |p: &Path| rustix::fs::stat(p).unwrap().st_ino;
        assert_eq!(opened.iter().map(inode).collect::<Vec<_>>(), [of(&b), of(&a)]);
    }

    #[test]
    fn a_layer_that_is_gone_is_named() {
        let error = open_layers(&["/nonexistent/layer".into()]).unwrap_err();
        assert_eq!(error.to_string(), "open the image layer /nonexistent/layer");
    }
}
