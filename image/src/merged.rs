//! Stacked trees, seen as one: what overlayfs would show, without a mount.
//!
//! Follows overlayfs.rst: a name is looked for from the top layer down; a character device 0:0 hides what is below, so
//! does anything that is not a directory; directories of one name show the contents of all down to the first that is
//! opaque, and have the metadata of the topmost. [`walk`] shows everything once, each directory before what is in it.
//!
//! Nothing is followed: every directory is opened from its parent's descriptor, and must be one.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, statat};
use rustix::io::Errno;

use crate::unpack::is_whiteout;

/// The deepest tree that is walked: each level costs a descriptor for each layer that has it, and some memory.
const MAX_DEPTH: usize = 4096;

/// Something in the trees.
pub(crate) struct Node<'a> {
    /// From the root; no slash at the beginning. Empty for the root.
    pub(crate) path: &'a [u8],
    /// The last component of `path`.
    pub(crate) name: &'a [u8],
    pub(crate) stat: Stat,
    pub(crate) kind: FileType,
    /// Directories: itself. Everything else: the directory that it is in.
    pub(crate) dir: BorrowedFd<'a>,
}

/// Is shown what there is.
pub(crate) trait Visitor {
    type Error;

    /// A directory, before what is in it; the root is the first.
    fn enter(&mut self, node: &Node<'_>) -> Result<(), Self::Error>;
    /// Everything else.
    fn visit(&mut self, node: &Node<'_>) -> Result<(), Self::Error>;
    /// The same directory again, after what is in it.
    fn leave(&mut self, node: &Node<'_>) -> Result<(), Self::Error>;
    /// The trees cannot be read.
    fn failed(&mut self, path: &[u8], error: Errno) -> Self::Error;
}

/// One directory on the way down.
struct Level {
    /// The directories that are seen as one, the top layer's first.
    dirs: Vec<OwnedFd>,
    stat: Stat,
    /// What is still to be shown: names, and the first of `dirs` that has them. In reverse.
    names: Vec<(Vec<u8>, usize)>,
    /// How long the path to it is.
    path: usize,
}

/// Shows the trees in `roots`, the bottom one first, to `visitor`.
pub(crate) fn walk<V: Visitor>(roots: Vec<OwnedFd>, visitor: &mut V) -> Result<(), V::Error> {
    let mut path = Vec::new();
    let dirs: Vec<OwnedFd> = roots.into_iter().rev().collect();
    let Some(top) = dirs.first() else { return Ok(()) };
    let stat = fstat(top).map_err(|error| visitor.failed(b"", error))?;
    let mut levels = vec![enter(dirs, stat, &path, visitor)?];
    while let Some(level) = levels.last_mut() {
        let Some((name, at)) = level.names.pop() else {
            leave(level, &path, visitor)?;
            let _ = levels.pop();
            path.truncate(levels.last().map_or(0, |level| level.path));
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let found = look(&level.dirs, &name, at).map_err(|error| visitor.failed(&path, error))?;
        match found {
            Found::Directory { dirs, stat } => {
                if levels.len() >= MAX_DEPTH {
                    return Err(visitor.failed(&path, Errno::NAMETOOLONG));
                }
                levels.push(enter(dirs, stat, &path, visitor)?);
            }
            Found::Other { stat, at } => {
                if let Some(dir) = level.dirs.get(at) {
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    visitor.visit(&Node { path: &path, name: &name, stat, kind, dir: dir.as_fd() })?;
                }
                path.truncate(level.path);
            }
        }
    }
    Ok(())
}

fn enter<V: Visitor>(
    dirs: Vec<OwnedFd>,
    stat: Stat,
    path: &[u8],
    visitor: &mut V,
) -> Result<Level, V::Error> {
    let names = names(&dirs).map_err(|error| visitor.failed(path, error))?;
    if let Some(node) = directory(&dirs, stat, path) {
        visitor.enter(&node)?;
    }
    Ok(Level { dirs, stat, names, path: path.len() })
}

fn leave<V: Visitor>(level: &Level, path: &[u8], visitor: &mut V) -> Result<(), V::Error> {
    directory(&level.dirs, level.stat, path).map_or(Ok(()), |node| visitor.leave(&node))
}

fn directory<'a>(dirs: &'a [OwnedFd], stat: Stat, path: &'a [u8]) -> Option<Node<'a>> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let dir = dirs.first()?.as_fd();
    Some(Node { path, name, stat, kind: FileType::Directory, dir })
}

/// What is in all of `dirs`, and in which first; the last name first. What is hidden is left out.
fn names(dirs: &[OwnedFd]) -> Result<Vec<(Vec<u8>, usize)>, Errno> {
    let mut found: BTreeMap<Vec<u8>, (usize, bool)> = BTreeMap::new();
    for (at, dir) in dirs.iter().enumerate() {
        let mut entries = Dir::read_from(dir)?;
        while let Some(entry) = entries.next().transpose()? {
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || found.contains_key(name) {
                continue;
            }
            let maybe_whiteout = matches!(entry.file_type(), FileType::CharacterDevice | FileType::Unknown);
            let hidden = maybe_whiteout && is_whiteout(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?);
            let _ = found.insert(name.to_vec(), (at, hidden));
        }
    }
    let shown = |(name, (at, hidden)): (Vec<u8>, (usize, bool))| (!hidden).then_some((name, at));
    Ok(found.into_iter().rev().filter_map(shown).collect())
}

/// What a name stands for.
enum Found {
    Directory { dirs: Vec<OwnedFd>, stat: Stat },
    Other { stat: Stat, at: usize },
}

fn look(dirs: &[OwnedFd], name: &[u8], at: usize) -> Result<Found, Errno> {
    let mut merged = Vec::new();
    let mut top = None;
    for (at, dir) in dirs.iter().enumerate().skip(at) {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if top.is_none() && !is_directory {
            return Ok(Found::Other { stat, at });
        }
        if !is_directory {
            break;
        }
        let _ = top.get_or_insert(stat);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(dir, name, flags, Mode::empty())?;
        let opaque = is_opaque(&opened)?;
        merged.push(opened);
        if opaque {
            break;
        }
    }
    top.map(|stat| Found::Directory { dirs: merged, stat }).ok_or(Errno::NOENT)
}

fn is_opaque(dir: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 2];
    match fgetxattr(dir, "trusted.overlay.opaque", &mut value) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        // Longer than what we write: then it is not ours.
        Err(Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}
