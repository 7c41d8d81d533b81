//! An image's file system as an ordinary directory: a copy, with everything that a tar archive can say of it.
//!
//! Owners, modes, times, extended attributes, hard links and devices are those of the image; whiteouts and opaque
//! directories are applied and gone. The copy is made beneath a directory's descriptor: every name is made by us, in a
//! directory that we made, and nothing that exists is opened or followed.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, futimens, linkat, mkdirat, mknodat, openat,
    readlinkat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::merged::{Node, Visitor, walk};

/// The most that the kernel takes for the names and for the value of extended attributes.
const XATTR_MAX: usize = 64 << 10;

/// Name and value of an extended attribute.
type Xattr = (Vec<u8>, Vec<u8>);

/// An image cannot be copied out of the store.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A layer's tree is missing.
    #[error("cannot open the layer {}", path.display())]
    Layer {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Reading the store or writing the copy failed.
    #[error("cannot {act} {name:?}")]
    Io {
        /// What was being done.
        act: &'static str,
        /// To what in the image.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Copies what the trees `layers` (bottom first) show together into `root`, which must be empty. `root` itself gets
/// owner, mode and time of the image's root.
///
/// # Errors
/// [`RenderError`]; what has been copied so far stays.
pub fn render(layers: &[PathBuf], root: BorrowedFd<'_>) -> Result<(), RenderError> {
    let roots = open_trees(layers)?;
    let root = root.try_clone_to_owned().map_err(|source| RenderError::Io {
        act: "open",
        name: String::new(),
        source,
    })?;
    let mut copy = Copy { open: vec![root], links: HashMap::new() };
    walk(roots, &mut copy)
}

/// Opens layers' trees, for [`walk`].
pub(crate) fn open_trees(layers: &[PathBuf]) -> Result<Vec<OwnedFd>, RenderError> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| RenderError::Layer { path: path.to_owned(), source: error.into() })
    };
    layers.iter().map(|path| open(path)).collect()
}

/// The copy being made.
struct Copy {
    /// The directories on the way to where we are; the first is the root.
    open: Vec<OwnedFd>,
    /// Where what has several names was copied to.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Visitor for Copy {
    type Error = RenderError;

    fn enter(&mut self, node: &Node<'_>) -> Result<(), RenderError> {
        if node.path.is_empty() {
            return Ok(());
        }
        let made = self.target().and_then(|parent| {
            mkdirat(parent, node.name, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, node.name, flags, Mode::empty())
        });
        self.open.push(made.map_err(|error| failed("create", node.path, error))?);
        Ok(())
    }

    fn visit(&mut self, node: &Node<'_>) -> Result<(), RenderError> {
        if node.stat.st_nlink > 1 && self.link(node)? {
            return Ok(());
        }
        match node.kind {
            FileType::RegularFile => self.file(node),
            FileType::Symlink => self.symlink(node).map_err(|error| failed("create", node.path, error)),
            _ => self.node(node).map_err(|error| failed("create", node.path, error)),
        }
    }

    /// Times last: every new name in a directory changes them.
    fn leave(&mut self, node: &Node<'_>) -> Result<(), RenderError> {
        let own = self.target().and_then(|target| describe(target, node.dir, &node.stat));
        own.map_err(|error| failed("set the metadata of", node.path, error))?;
        let _ = self.open.pop();
        Ok(())
    }

    fn failed(&mut self, path: &[u8], error: Errno) -> RenderError {
        failed("read", path, error)
    }
}

impl Copy {
    /// The directory that things are made in.
    fn target(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.open.last().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Another name for something that was copied before. Remembers the first one.
    fn link(&mut self, node: &Node<'_>) -> Result<bool, RenderError> {
        let key = (node.stat.st_dev, node.stat.st_ino);
        let Some(first) = self.links.get(&key) else {
            let _ = self.links.insert(key, node.path.to_vec());
            return Ok(false);
        };
        let root = self.open.first().map(AsFd::as_fd).ok_or(Errno::BADF);
        root.and_then(|root| linkat(root, first.as_slice(), self.target()?, node.name, AtFlags::empty()))
            .map_err(|error| failed("link", node.path, error))?;
        Ok(true)
    }

    fn file(&self, node: &Node<'_>) -> Result<(), RenderError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = openat(node.dir, node.name, flags, Mode::empty());
        let mut from = File::from(from.map_err(|error| failed("read", node.path, error))?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = self.target().and_then(|dir| openat(dir, node.name, flags, Mode::RUSR | Mode::WUSR));
        let mut to = File::from(to.map_err(|error| failed("create", node.path, error))?);
        let copied = std::io::copy(&mut from, &mut to);
        let _ = copied.map_err(|source| RenderError::Io { act: "copy", name: shown(node.path), source })?;
        describe(to.as_fd(), from.as_fd(), &node.stat)
            .map_err(|error| failed("set the metadata of", node.path, error))
    }

    fn symlink(&self, node: &Node<'_>) -> Result<(), Errno> {
        let (dir, link) = (self.target()?, readlinkat(node.dir, node.name, Vec::new())?);
        symlinkat(&link, dir, node.name)?;
        self.describe_name(node)
    }

    /// A device or a pipe.
    fn node(&self, node: &Node<'_>) -> Result<(), Errno> {
        let (dir, mode) = (self.target()?, Mode::from_raw_mode(node.stat.st_mode & 0o7777));
        mknodat(dir, node.name, node.kind, Mode::empty(), node.stat.st_rdev)?;
        // Made a moment ago, in a directory that nobody else knows: it is not a link.
        self.describe_name(node)?;
        chmodat(dir, node.name, mode, AtFlags::empty())
    }

    fn describe_name(&self, node: &Node<'_>) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(node.stat.st_uid), Gid::from_raw(node.stat.st_gid));
        chownat(self.target()?, node.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        utimensat(self.target()?, node.name, &times(&node.stat), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Owner first and mode next: a change of owner takes setuid and capabilities away.
fn describe(to: BorrowedFd<'_>, from: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, value) in xattrs(from)? {
        fsetxattr(to, name.as_slice(), &value, XattrFlags::empty())?;
    }
    futimens(to, &times(stat))
}

/// The extended attributes that are the image's: others are overlayfs' or this machine's.
fn xattrs(fd: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    let mut list = Vec::with_capacity(XATTR_MAX);
    let count = match flistxattr(fd, rustix::buffer::spare_capacity(&mut list)) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    list.truncate(count);
    let ours = |name: &&[u8]| name.starts_with(b"user.") || *name == b"security.capability";
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(ours) {
        let mut value = Vec::with_capacity(XATTR_MAX);
        let _ = fgetxattr(fd, name, rustix::buffer::spare_capacity(&mut value))?;
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

fn times(stat: &Stat) -> Timestamps {
    // The kernel's own type for this field differs between architectures.
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    }
}

fn failed(act: &'static str, path: &[u8], error: Errno) -> RenderError {
    RenderError::Io { act, name: shown(path), source: error.into() }
}

/// Names for people: bounded.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}
