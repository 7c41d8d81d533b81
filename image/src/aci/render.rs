//! The tree of an image that has a `pathWhitelist`: what overlayfs cannot say by stacking.
//!
//! The whitelist names every path that is to be there; a path that ends in a slash is a directory that is to be there,
//! if need be empty (appc 0.8, "pathWhitelist"). Each path is looked up in the stack of trees as an app would see it:
//! the topmost tree that has it wins, and whatever is no directory hides what lies below. Links on the way are not
//! followed: the path is a name in an archive.
//!
//! Files are hard links to those of the store's trees, which nobody ever writes to; directories are made, with the
//! metadata of the topmost one. The tree is named by the digest of what it is made from ([`digest`]), so that it is made
//! once and found again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat, mkdirat, openat2, statat,
};
use rustix::io::{Errno, Result};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::unpack::{Shape, Unpacked, is_output};

/// The largest extended attribute that the kernel takes, and the longest list of their names.
const XATTR: usize = 64 << 10;

/// What names the rendered tree.
pub(super) fn digest(trees: &[Digest], whitelist: &BTreeSet<String>) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"rendered ACI 1\n");
    for tree in trees {
        hasher.update(format!("{tree}\n").as_bytes());
    }
    for path in whitelist {
        hasher.update(path.as_bytes());
        hasher.update(b"\0");
    }
    hasher.finish()
}

/// Makes the tree in the empty directory `to` from `trees`, bottom first.
pub(super) fn render(trees: &[OwnedFd], whitelist: &BTreeSet<String>, to: OwnedFd) -> Result<Unpacked> {
    let mut renderer = Renderer {
        trees,
        to,
        made: BTreeMap::new(),
        totals: Unpacked { shape: Shape::Rendered, ..Unpacked::default() },
    };
    let _ = renderer.made.insert(String::new(), renderer.owner_of_root()?);
    for path in whitelist {
        renderer.path(path)?;
    }
    renderer.finish()?;
    Ok(renderer.totals)
}

struct Renderer<'a> {
    trees: &'a [OwnedFd],
    to: OwnedFd,
    /// Directories made, and where their metadata comes from.
    made: BTreeMap<String, Option<OwnedFd>>,
    totals: Unpacked,
}

/// What the stack has at a path.
enum Found {
    Nothing,
    /// The topmost directory, opened.
    Directory(OwnedFd),
    /// Something else: the directory it is in, and what it is.
    Other(OwnedFd, Box<Stat>),
}

impl Renderer<'_> {
    fn owner_of_root(&self) -> Result<Option<OwnedFd>> {
        self.trees.last().map(|tree| open(tree, ".")).transpose()
    }

    fn path(&mut self, text: &str) -> Result<()> {
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let Some((last, parents)) = names.split_last() else { return Ok(()) };
        let wanted = text.ends_with('/');
        let at = join(parents, last);
        match self.look(&at)? {
            Found::Nothing | Found::Other(..) if wanted => self.directory(&at, None),
            Found::Nothing => Ok(()),
            Found::Directory(from) => self.directory(&at, Some(from)),
            Found::Other(dir, stat) => self.link(&at, (&dir, last), &stat),
        }
    }

    /// Looks a path up from the top: a tree that has something else than a directory on the way hides those below.
    fn look(&self, path: &str) -> Result<Found> {
        for tree in self.trees.iter().rev() {
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            let parent = match open(tree, parent) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => continue,
                // A file or a link stands where a directory would have to be.
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Found::Nothing),
                Err(error) => return Err(error),
            };
            match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    return open(&parent, name).map(Found::Directory);
                }
                Ok(stat) => return Ok(Found::Other(parent, Box::new(stat))),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Found::Nothing)
    }

    /// Makes the directory and those above it.
    fn directory(&mut self, path: &str, from: Option<OwnedFd>) -> Result<()> {
        if self.made.contains_key(path) {
            return Ok(());
        }
        self.parents(path)?;
        match mkdirat(&self.to, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                self.totals.entries += 1;
                let _ = self.made.insert(path.to_owned(), from);
                Ok(())
            }
            // A file of the same name, whitelisted without the slash, was there first.
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        let Some((parent, _)) = path.rsplit_once('/') else { return Ok(()) };
        if self.made.contains_key(parent) {
            return Ok(());
        }
        let from = match self.look(parent)? {
            Found::Directory(from) => Some(from),
            _ => None,
        };
        self.directory(parent, from)
    }

    fn link(&mut self, path: &str, (dir, name): (&OwnedFd, &str), stat: &Stat) -> Result<()> {
        self.parents(path)?;
        match linkat(dir, name, &self.to, path, AtFlags::empty()) {
            Ok(()) => {}
            // The path is whitelisted as a directory, too.
            Err(Errno::EXIST) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.totals.entries += 1;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                self.totals.bytes += u64::try_from(stat.st_size).unwrap_or_default();
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                self.totals.opens_outputs |= is_output(target.as_bytes());
            }
            _ => {}
        }
        Ok(())
    }

    /// Directories get their metadata when everything is in them.
    fn finish(&self) -> Result<()> {
        for (path, from) in self.made.iter().rev() {
            let to = open(&self.to, if path.is_empty() { "." } else { path })?;
            match from {
                Some(from) => copy_metadata(from, &to)?,
                None => {
                    fchmod(&to, Mode::from_raw_mode(0o755))?;
                    chownat(&to, "", Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::EMPTY_PATH)?;
                    let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
                    futimens(&to, &Timestamps { last_access: epoch, last_modification: epoch })?;
                }
            }
        }
        Ok(())
    }
}

fn join(parents: &[&str], last: &str) -> String {
    let mut path = parents.join("/");
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(last);
    path
}

/// Opens a directory beneath another, following no links.
fn open(dir: impl AsFd, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(&dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Owner, mode, extended attributes and time, in an order in which none undoes another.
fn copy_metadata(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let stat = fstat(from)?;
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; XATTR];
    let length = flistxattr(from, &mut names[..])?;
    let mut value = vec![0; XATTR];
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|n| !n.is_empty()) {
        let length = fgetxattr(from, name, &mut value[..])?;
        fsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty())?;
    }
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    futimens(to, &times)
}
