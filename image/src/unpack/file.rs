//! Making what is not a directory: files, links, nodes.

use std::io::BufRead;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmodat, fstat, ftruncate, linkat, makedev, mknodat, openat, statat,
    symlinkat,
};
use rustix::io::{Errno, write};

use super::metadata::Metadata;
use super::path::TreePath;
use super::tree::{Found, Parent, is_whiteout};
use super::{Archive, Contents, Refusal, UnpackError, Unpacker};
use crate::tarball::{Entry, Kind};

/// The most symbolic link target that the kernel takes.
const LINK_MAX: usize = 4095;

/// Opens a directory that must be one itself, for setting what it has.
pub(super) fn open_directory(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The kernel has 12 bits for the major and 20 for the minor number and cuts off the rest, so that a large number could
/// become 0:0: a whiteout.
fn device((major, minor): (u64, u64)) -> Option<u64> {
    let bounded = |number: u64, bits: u32| u32::try_from(number).ok().filter(|number| number >> bits == 0);
    Some(makedev(bounded(major, 12)?, bounded(minor, 20)?))
}

/// Writes what the entry has, straight from the stream's buffer.
fn write_all<R: BufRead>(fd: &OwnedFd, path: &TreePath, entries: &mut Archive<R>) -> Result<(), UnpackError> {
    loop {
        let piece = entries.data()?;
        if piece.is_empty() {
            return Ok(());
        }
        let count = match write(fd, piece) {
            Err(Errno::INTR) => 0,
            other => other.map_err(UnpackError::system("write", path.as_bytes()))?,
        };
        entries.consume(count);
    }
}

impl Unpacker<'_> {
    pub(super) fn file<R: BufRead>(
        &mut self,
        parent: &Parent,
        (name, path): (&[u8], &TreePath),
        size: u64,
        metadata: &Metadata,
        entries: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(metadata.mode & 0o777);
        let fd = self.create(&parent.fd, name, path, |dir, name| openat(dir, name, flags, mode))?;
        match self.contents {
            Contents::Measured => {
                ftruncate(&fd, size).map_err(UnpackError::system("size", path.as_bytes()))?
            }
            Contents::Written => {
                let recording = entries.stream();
                if size > 0 && recording.is_on() {
                    let stat = fstat(&fd).map_err(UnpackError::system("look at", path.as_bytes()))?;
                    recording.begin(parent.child(name), size, stat.st_ino);
                }
                write_all(&fd, path, entries)?;
                entries.stream().end();
            }
        }
        metadata.apply_to_file(&fd, &self.creator, path.as_bytes())
    }

    pub(super) fn symlink(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &TreePath,
        target: &[u8],
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        if target.len() > LINK_MAX {
            return Err(UnpackError::refused(path.as_bytes(), Refusal::TooLong));
        }
        self.create(dir, name, path, |dir, name| symlinkat(target, dir, name))?;
        metadata.apply_to_name(dir, name, &self.creator, path.as_bytes())
    }

    /// The target's parent may be reached through links, within the tree; the target itself is taken as it is.
    pub(super) fn hardlink(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &TreePath,
        target: &[u8],
    ) -> Result<(), UnpackError> {
        let refused = |refusal| UnpackError::refused(path.as_bytes(), refusal);
        let failed = || UnpackError::system("link", path.as_bytes());
        let target = self.shape.link(target).map_err(refused)?;
        if target.is_root() {
            return Err(refused(Refusal::LinkTarget));
        }
        let (parent, base) = target.split();
        let from = self.tree.existing(parent).map_err(failed())?;
        let existing = statat(&from.fd, base, AtFlags::SYMLINK_NOFOLLOW).map_err(failed())?;
        if is_whiteout(&existing) || FileType::from_raw_mode(existing.st_mode) == FileType::Directory {
            return Err(refused(Refusal::LinkTarget));
        }
        let same = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (existing.st_dev, existing.st_ino));
        if same {
            return Ok(());
        }
        self.create(dir, name, path, |dir, name| linkat(&from.fd, base, dir, name, AtFlags::empty()))
    }

    pub(super) fn node(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &TreePath,
        entry: &Entry,
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        let refused = |refusal| UnpackError::refused(path.as_bytes(), refusal);
        let device = device(entry.device).ok_or_else(|| refused(Refusal::Device))?;
        let kind = match entry.kind {
            Kind::CharDevice if device == 0 => return Err(refused(Refusal::WhiteoutDevice)),
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let mode = Mode::from_raw_mode(metadata.mode & 0o777);
        self.create(dir, name, path, |dir, name| mknodat(dir, name, kind, mode, device))?;
        metadata.apply_to_name(dir, name, &self.creator, path.as_bytes())?;
        // It was made a moment ago, in a tree that nobody else writes to: it is not a link.
        chmodat(dir, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())
            .map_err(UnpackError::system("set the mode of", path.as_bytes()))
    }

    /// Makes something; if the name is taken, clears it and makes it then.
    fn create<T>(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &TreePath,
        mut make: impl FnMut(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let failed = || UnpackError::system("create", path.as_bytes());
        match make(dir, name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(failed()),
        }
        if self.tree.clear(dir, name).map_err(failed())? == Found::Directory {
            self.forget(path);
        }
        make(dir, name).map_err(failed())
    }
}
