//! Where the host's root leaves what it has mounted for an app in a user namespace: the root, and the volumes.
//!
//! The mount namespace of such an app belongs to the pod's user namespace, and what is moved into it as a descriptor is
//! there without protection: with CAP_SYS_ADMIN, which such an app may well be given, it could take `nodev` or `ro` away
//! again. What it *inherits* is locked instead, mount_namespaces(7): when a process of the pod's user namespace gets a
//! copy of a mount namespace of the host's, nobody in there can change what restricts these mounts. So they are put on a
//! tmpfs that is the working directory of both processes, and taken from the copy.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use pod::stage1::status;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use crate::failure::StepError;
use crate::mounts::{attach, detached};
use crate::rootfs::Root;

/// A mount could not be left or taken.
#[derive(Debug, thiserror::Error)]
#[error("{act}")]
pub struct StagingError {
    act: &'static str,
    source: std::io::Error,
}

impl StepError for StagingError {
    const STATUS: u8 = status::NAMESPACE;
}

/// The place of the root.
const ROOT: &str = "root";

/// The side of the host's root.
#[derive(Debug)]
pub struct Staging {
    top: OwnedFd,
    path: PathBuf,
    count: usize,
}

/// A mount that was left.
#[derive(Debug)]
pub struct Staged(String);

impl Staging {
    /// Mounts the tmpfs over `place`, an empty directory.
    pub fn mount(place: &Path) -> Result<Self, StagingError> {
        let error = step("make a place for the app's mounts");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::open(place, flags, Mode::empty()).map_err(&error)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        // Whoever becomes root of the user namespace is neither its owner nor in its group.
        let options = [("mode", Some("755")), ("size", Some("1m"))];
        let top = detached("tmpfs", Path::new("tmpfs"), options, attributes).map_err(&error)?;
        attach(&top, &target).map_err(&error)?;
        rustix::fs::mkdirat(&top, ROOT, Mode::from_raw_mode(0o755)).map_err(&error)?;
        Ok(Self { top, path: place.to_owned(), count: 0 })
    }

    /// The directory to mount the root on.
    pub fn root(&self) -> PathBuf {
        self.path.join(ROOT)
    }

    /// Leaves a mount.
    pub fn put(&mut self, tree: &OwnedFd) -> Result<Staged, StagingError> {
        let error = step("put down a mount");
        let name = self.count.to_string();
        self.count += 1;
        let stat = rustix::fs::fstat(tree).map_err(&error)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            rustix::fs::mkdirat(&self.top, &name, Mode::from_raw_mode(0o755)).map_err(&error)?;
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(rustix::fs::openat(&self.top, &name, flags, Mode::from_raw_mode(0o644)).map_err(&error)?);
        }
        let place = rustix::fs::openat(&self.top, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(&error)?;
        attach(tree, &place).map_err(&error)?;
        Ok(Staged(name))
    }

    /// Makes it the working directory, which it stays in a copy of the mount namespace.
    pub fn enter(self) -> Result<(), StagingError> {
        rustix::process::fchdir(&self.top).map_err(step("change to the app's mounts"))
    }
}

impl Staged {
    /// Takes the mount, in the copy of the mount namespace: detached, and still locked.
    pub fn take(&self) -> Result<OwnedFd, StagingError> {
        take(&self.0).map_err(step("take a mount"))
    }
}

/// Takes the root, and puts it where it can become the process's root.
pub fn take_root() -> Result<Root, StagingError> {
    let error = step("take the app's root");
    let root = take(ROOT).map_err(&error)?;
    let place = rustix::fs::open(ROOT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(&error)?;
    attach(&root, &place).map_err(&error)?;
    Ok(Root::from_mounted(root))
}

fn take(name: &str) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, name, flags)
}

fn step(act: &'static str) -> impl Fn(Errno) -> StagingError {
    move |e| StagingError { act, source: e.into() }
}
