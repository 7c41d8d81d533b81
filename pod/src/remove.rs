//! Removing what a pod left behind.
//!
//! The pod chose the shape of these trees, so nothing here may depend on it being reasonable: no recursion (a tree a
//! hundred thousand levels deep is a few lines of shell), no descriptor per level, no list of a million names, no link
//! followed. A directory that is not empty is renamed up to the top, emptied there in batches, and removed.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Removes everything in `top` but the entries named in `keep`.
pub(crate) fn empty_dir(top: impl AsFd, keep: &[&str]) -> rustix::io::Result<()> {
    let mut removal =
        Removal { top: top.as_fd().try_clone_to_owned().map_err(errno)?, pending: Vec::new(), moved: 0 };
    // Of the pod's own directory, whose entries are ours.
    for name in entries(&top, usize::MAX)? {
        if !keep.iter().any(|k| k.as_bytes() == name.as_bytes()) && !unlink(&top, &name)? {
            removal.pending.push(name);
        }
    }
    removal.run()
}

/// Removes the entry `name` of `top`, whatever it is; one that is not there is fine.
pub(crate) fn remove_tree(top: impl AsFd, name: &str) -> rustix::io::Result<()> {
    if unlink(&top, OsStr::new(name))? {
        return Ok(());
    }
    let top = top.as_fd().try_clone_to_owned().map_err(errno)?;
    Removal { top, pending: vec![name.into()], moved: 0 }.run()
}

/// How many entries of a directory are looked at in one go.
const BATCH: usize = 1024;

/// Directories of `top` that are to be emptied and removed, the last one first.
struct Removal {
    top: OwnedFd,
    pending: Vec<OsString>,
    moved: u64,
}

impl Removal {
    fn run(mut self) -> rustix::io::Result<()> {
        while let Some(name) = self.pending.pop() {
            // What it still has comes first; then it is its turn again.
            if !unlink_dir(&self.top, &name)? {
                self.pending.push(name.clone());
                match self.empty(&name) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Empties one directory of `top` of a batch: files are unlinked, directories that are not empty move up.
    fn empty(&mut self, name: &OsStr) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::openat(&self.top, name, flags, Mode::empty())?;
        for entry in entries(&dir, BATCH)? {
            if unlink(&dir, &entry)? || unlink_dir(&dir, &entry)? {
                continue;
            }
            let parked = self.park(&dir, &entry)?;
            self.pending.push(parked);
        }
        Ok(())
    }

    fn park(&mut self, dir: &OwnedFd, entry: &OsStr) -> rustix::io::Result<OsString> {
        loop {
            self.moved += 1;
            let name = OsString::from(format!(".removing-{}-{}", std::process::id(), self.moved));
            match rustix::fs::renameat(dir, entry, &self.top, &name) {
                // Left by an earlier removal that was killed; it is in nobody's way.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                other => return other.map(|()| name),
            }
        }
    }
}

/// Unlinks what is not a directory. `false`: it is one.
fn unlink(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<bool> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes an empty directory. `false`: it is not empty.
fn unlink_dir(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<bool> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Up to `limit` names in a directory, all read before one is removed: a directory that shrinks while it is read may be
/// read with gaps.
fn entries(dir: impl AsFd, limit: usize) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
        if names.len() >= limit {
            break;
        }
    }
    Ok(names)
}

fn errno(e: std::io::Error) -> Errno {
    Errno::from_io_error(&e).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_very_wide_tree_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let top = OwnedFd::from(std::fs::File::open(tmp.path()).unwrap());
        for i in 0..3 * BATCH {
            std::fs::create_dir_all(tmp.path().join(format!("d/{i}/e"))).unwrap();
            std::fs::write(tmp.path().join(format!("d/{i}-file")), "").unwrap();
        }
        remove_tree(&top, "d").unwrap();
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_very_deep_tree_goes_and_the_rest_stays() {
        let tmp = tempfile::tempdir().unwrap();
        let top = OwnedFd::from(std::fs::File::open(tmp.path()).unwrap());
        std::fs::write(tmp.path().join("keep"), "").unwrap();
        std::fs::create_dir(tmp.path().join("d")).unwrap();
        let mut at =
            rustix::fs::openat(&top, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &at, "root").unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        empty_dir(&top, &["keep"]).unwrap();
        let left: Vec<_> = std::fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["keep"]);
        assert!(std::path::Path::new("/etc").exists());
    }
}
