//! Removing a directory with everything in it, however deep.
//!
//! Nothing is followed. Directories are emptied depth first, but only [`DEPTH`] levels down: what lies deeper is moved
//! up to the top and emptied from there, so that a tree of any depth takes few descriptors and little stack, and path
//! lengths do not matter. Names that vanish underway (another process removes the same tree) are not errors.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::{Errno, Result};

/// Deeper than real images are, and far from the limit of open files.
const DEPTH: usize = 40;

/// Removes `name`, whatever it is, from the directory `parent`. It is fine if it is not there.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let Some(top) = open(&parent, name)? else {
        return ignore_missing(unlinkat(parent, name, AtFlags::empty()));
    };
    let mut removal = Removal { top: &top, moved: 0 };
    while !removal.empty(&top, 0)? {}
    ignore_missing(unlinkat(parent, name, AtFlags::REMOVEDIR))
}

/// Removes the same, named by a path.
pub(crate) fn remove_path(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::other)?;
    Ok(remove(CWD, &path)?)
}

/// The work on one tree.
struct Removal<'a> {
    top: &'a OwnedFd,
    /// How many directories were moved to the top: their names there.
    moved: u64,
}

impl Removal<'_> {
    /// Removes what is in `dir`. Returns whether there was nothing in it to begin with.
    fn empty(&mut self, dir: &OwnedFd, depth: usize) -> Result<bool> {
        let mut was_empty = true;
        let mut entries = Dir::read_from(dir)?;
        while let Some(entry) = entries.next().transpose()? {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            was_empty = false;
            match entry.file_type() {
                FileType::Directory | FileType::Unknown => self.child(dir, name, depth)?,
                _ => ignore_missing(unlinkat(dir, name, AtFlags::empty()))?,
            }
        }
        Ok(was_empty)
    }

    fn child(&mut self, dir: &OwnedFd, name: &CStr, depth: usize) -> Result<()> {
        if depth >= DEPTH {
            return self.move_up(dir, name);
        }
        let Some(child) = open(dir, name)? else {
            return ignore_missing(unlinkat(dir, name, AtFlags::empty()));
        };
        let _ = self.empty(&child, depth + 1)?;
        match ignore_missing(unlinkat(dir, name, AtFlags::REMOVEDIR)) {
            // Somebody else is moving things about: the next round sees to it.
            Err(Errno::NOTEMPTY) => Ok(()),
            other => other,
        }
    }

    /// The next round over the top finds it there.
    fn move_up(&mut self, dir: &OwnedFd, name: &CStr) -> Result<()> {
        loop {
            let target = format!(".moved-{}", self.moved);
            self.moved += 1;
            match renameat(dir, name, self.top, target.as_str()) {
                // The name is taken, by a file or by a directory with something in it: the next one.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
                other => return ignore_missing(other),
            }
        }
    }
}

/// Opens a directory; nothing if it is something else, or not there.
fn open(parent: &impl AsFd, name: &CStr) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        other => other.map(Some),
    }
}

fn ignore_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir(&top).unwrap();
        let mut fd = rustix::fs::open(&top, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for depth in 0..1200 {
            rustix::fs::mkdirat(&fd, "deep-directory", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &fd, "link").unwrap();
            if depth % 100 == 0 {
                rustix::fs::mkdirat(&fd, ".moved-7", Mode::RWXU).unwrap();
            }
            fd = openat(&fd, "deep-directory", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        remove_path(&top).unwrap();
        assert!(!top.exists());
        remove_path(&top).unwrap();
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, top) = (dir.path().join("outside"), dir.path().join("top"));
        std::fs::create_dir_all(outside.join("kept")).unwrap();
        std::fs::create_dir_all(top.join("sub")).unwrap();
        symlink(&outside, top.join("sub/link")).unwrap();
        symlink(&outside, dir.path().join("link")).unwrap();
        remove_path(&dir.path().join("link")).unwrap();
        remove_path(&top).unwrap();
        assert!(outside.join("kept").exists() && !top.exists());
    }
}
