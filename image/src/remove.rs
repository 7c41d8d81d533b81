//! Removing a directory with everything in it, however deep.
//!
//! Nothing is followed and nothing recurses: a directory inside is emptied after it was moved to the top, so that two
//! descriptors suffice for a tree of any depth and path lengths do not matter. Names that vanish underway (another
//! process removes the same tree) are not errors.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::{Errno, Result};

/// Removes `name`, whatever it is, from the directory `parent`. It is fine if it is not there.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    match ignore_missing(unlinkat(parent, name, AtFlags::empty())) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut moved = 0_u64;
    loop {
        let mut left = Dir::read_from(&top)?;
        let mut emptied = true;
        while let Some(entry) = left.next().transpose()? {
            if is_dots(entry.file_name()) {
                continue;
            }
            emptied = false;
            if is_removed(&top, entry.file_name())? {
                continue;
            }
            flatten(&top, entry.file_name(), &mut moved)?;
        }
        if emptied {
            break;
        }
    }
    ignore_missing(unlinkat(parent, name, AtFlags::REMOVEDIR))
}

/// Removes the same, named by a path.
pub(crate) fn remove_path(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::other)?;
    Ok(remove(CWD, &path)?)
}

/// Empties the directory `name` of `top`: files are removed, directories that are not empty move up into `top`.
fn flatten(top: &impl std::os::fd::AsFd, name: &CStr, moved: &mut u64) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match openat(top, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut entries = Dir::read_from(&dir)?;
    while let Some(entry) = entries.next().transpose()? {
        let child = entry.file_name();
        if is_dots(child) || is_removed(&dir, child)? {
            continue;
        }
        loop {
            let target = format!(".moved-{moved}");
            *moved += 1;
            match renameat(&dir, child, top, target.as_str()) {
                // The name is taken, by a file or by a directory with something in it: the next one.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
                other => {
                    ignore_missing(other)?;
                    break;
                }
            }
        }
    }
    match ignore_missing(unlinkat(top, name, AtFlags::REMOVEDIR)) {
        // Somebody else is moving things about: the caller's next round sees to it.
        Err(Errno::NOTEMPTY) => Ok(()),
        other => other,
    }
}

/// Whether the entry could be removed at once: a file, or a directory with nothing in it.
fn is_removed(dir: &impl std::os::fd::AsFd, name: &CStr) -> Result<bool> {
    match ignore_missing(unlinkat(dir, name, AtFlags::empty())) {
        Ok(()) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match ignore_missing(unlinkat(dir, name, AtFlags::REMOVEDIR)) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        // Not a directory after all: then what forbade the first attempt is final.
        Err(Errno::NOTDIR) => Err(Errno::PERM),
        Err(error) => Err(error),
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
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
        for depth in 0..3000 {
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
