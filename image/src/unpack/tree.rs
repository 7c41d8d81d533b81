//! The tree being written: directories beneath one descriptor, never above it.
//!
//! Parents are opened beneath the root (`openat2(2)`). Links on the way, absolute or with `..`, lead to places within the
//! tree, as they will for the app: a path with links is walked component by component, so that the path without links
//! is known, which stays right as long as what is there is in the tree. Directories that are missing are made, also
//! where a link dangles (the archive may bring the link before its target, or a lower layer has the target).
//! Descriptors of parents are kept; they are all dropped when anything on a path to them is replaced.
//!
//! What stands in the way of an entry is moved aside, into a directory outside the tree that goes with the work:
//! directories under a number, files as `f<inode>`.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags, chmodat, fsetxattr, mkdirat, openat,
    openat2, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::{Errno, Result};

use crate::recipe::keep;

/// Without following a link.
const DIRECTLY: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// Parents whose descriptors are kept.
const CACHED: usize = 64;
/// Links on one path, as the kernel allows.
const MAX_LINKS: usize = 40;

/// A tree and the place where things go that are in its way.
pub(super) struct Tree<'a> {
    root: Rc<Parent>,
    aside: BorrowedFd<'a>,
    moved: u64,
    /// Directories that no entry names.
    made: u64,
    /// Content that the archive brought is not in the tree any more.
    lost: bool,
    parents: HashMap<Vec<u8>, Rc<Parent>>,
}

/// A directory of the tree.
pub(super) struct Parent {
    pub(super) fd: OwnedFd,
    /// Beneath the root, without links.
    path: Vec<u8>,
}

impl Parent {
    /// Where something in this directory is.
    pub(super) fn child(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_vec() } else { [&self.path, &b"/"[..], name].concat() }
    }
}

/// What was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A character device 0:0.
    Whiteout,
    Directory,
    Other,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: OwnedFd, aside: BorrowedFd<'a>) -> Self {
        let root = Rc::new(Parent { fd: root, path: Vec::new() });
        Self { root, aside, moved: 0, made: 0, lost: false, parents: HashMap::new() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.fd.as_fd()
    }

    /// Whether a file that the archive brought was replaced by a later entry.
    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    /// The directory at `path`, which is made if it is missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<Parent>> {
        if let Some(parent) = self.known(path) {
            return Ok(parent);
        }
        let parent = match self.open(path, DIRECTLY) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.make(path)?,
            other => Parent { fd: other?, path: path.to_vec() },
        };
        Ok(self.remember(path, parent))
    }

    /// The directory at `path`, if there is one.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Rc<Parent>> {
        if let Some(parent) = self.known(path) {
            return Ok(parent);
        }
        match self.open(path, DIRECTLY) {
            // Where links lead is not known then: it is not remembered.
            Err(Errno::LOOP) => {
                Ok(Rc::new(Parent { fd: self.open(path, ResolveFlags::IN_ROOT)?, path: path.to_vec() }))
            }
            other => Ok(self.remember(path, Parent { fd: other?, path: path.to_vec() })),
        }
    }

    fn known(&self, path: &[u8]) -> Option<Rc<Parent>> {
        if path.is_empty() { Some(self.root.clone()) } else { self.parents.get(path).cloned() }
    }

    fn remember(&mut self, path: &[u8], parent: Parent) -> Rc<Parent> {
        if self.parents.len() >= CACHED {
            self.parents.clear();
        }
        let parent = Rc::new(parent);
        let _ = self.parents.insert(path.to_vec(), parent.clone());
        parent
    }

    fn open(&self, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        loop {
            // EAGAIN: something was renamed somewhere meanwhile, and the kernel is not sure (openat2(2)).
            match openat2(&self.root.fd, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Makes what is missing of `path`, component by component, following links within the tree.
    fn make(&mut self, path: &[u8]) -> Result<Parent> {
        let mut todo: Vec<Vec<u8>> = components(path);
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut dir = self.open(b"", DIRECTLY)?;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                // Above the root is the root. Nobody else moves directories of this tree meanwhile.
                dir = if done.pop().is_some() { enter(&dir, b"..")? } else { dir };
                continue;
            }
            match statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => dir = enter(&dir, &name)?,
                    FileType::Symlink => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        let target = readlinkat(&dir, &*name, Vec::new())?;
                        if target.as_bytes().starts_with(b"/") {
                            done.clear();
                            dir = self.open(b"", DIRECTLY)?;
                        }
                        todo.extend(components(target.as_bytes()));
                        continue;
                    }
                    _ if is_whiteout(&stat) => {
                        unlinkat(&dir, &*name, AtFlags::empty())?;
                        dir = self.make_directory(&dir, &name)?;
                        set_opaque(&dir)?;
                    }
                    _ => return Err(Errno::NOTDIR),
                },
                Err(Errno::NOENT) => dir = self.make_directory(&dir, &name)?,
                Err(error) => return Err(error),
            }
            done.push(name);
        }
        // Opened again from the root: what has no path of a lawful length could not be found later.
        let path = done.join(&b'/');
        Ok(Parent { fd: self.open(&path, DIRECTLY)?, path })
    }

    /// A directory that the archive does not describe, with the mode that it gets then, whatever the umask.
    fn make_directory(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(dir, name, mode)?;
        self.made += 1;
        chmodat(dir, name, mode, AtFlags::empty())?;
        enter(dir, name)
    }

    /// How many directories were made that no entry names, since this was last asked.
    pub(super) fn take_made(&mut self) -> u64 {
        std::mem::take(&mut self.made)
    }

    /// What is at `name`.
    pub(super) fn look(dir: &OwnedFd, name: &[u8]) -> Result<Found> {
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Found::of(&stat)),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Takes whatever is at `name` out of the way.
    pub(super) fn clear(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<Found> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            other => other?,
        };
        let found = Found::of(&stat);
        match found {
            Found::Nothing => {}
            Found::Directory => {
                renameat(dir, name, self.aside, self.moved.to_string())?;
                self.moved += 1;
                self.lost = true;
                self.parents.clear();
            }
            Found::Other if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                keep(dir, name, &stat, self.aside)?;
                self.lost = true;
            }
            Found::Whiteout | Found::Other => {
                unlinkat(dir, name, AtFlags::empty())?;
                // It may have been a link on the way to a parent.
                self.parents.clear();
            }
        }
        Ok(found)
    }
}

impl Found {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            _ if is_whiteout(stat) => Self::Whiteout,
            FileType::Directory => Self::Directory,
            _ => Self::Other,
        }
    }
}

/// The components in reverse, ready to be popped; `.` and empty ones left out.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let meaning = |name: &&[u8]| !name.is_empty() && *name != b".";
    path.split(|byte| *byte == b'/').filter(meaning).rev().map(<[u8]>::to_vec).collect()
}

/// Opens a directory by one name in another, or its parent.
fn enter(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Overlayfs takes a character device 0:0 for "nothing here, whatever is below".
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Tells overlayfs to show nothing from below in this directory.
pub(super) fn set_opaque(dir: &OwnedFd) -> Result<()> {
    fsetxattr(dir, "trusted.overlay.opaque", b"y", XattrFlags::empty())
}
