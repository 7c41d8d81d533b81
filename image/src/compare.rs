//! Two trees side by side: what a layer makes, and what is there.
//!
//! Compared is what the unpacker decides: type, mode, owner, size, time of modification, device numbers, targets of
//! links, hard links, and the extended attributes that it sets. Not compared are contents (the digest of the stream
//! tells those), and times of whiteouts and of directories that the archive does not describe: those are from when the
//! tree was made.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, lgetxattr, llistxattr, openat2, readlinkat,
    statat,
};
use rustix::io::{Errno, Result};

use crate::recipe::{Difference, Wrong};

/// More differences than anybody reads.
const MAX_DIFFERENCES: usize = 1000;
/// As much as the kernel returns of either.
const XATTR_MAX: usize = 64 << 10;

/// Compares the tree `found` with the tree `expected`, which was made a moment ago, at the earliest at `made`.
pub(crate) fn compare(
    expected: BorrowedFd<'_>,
    found: BorrowedFd<'_>,
    made: (i64, i64),
) -> Result<Vec<Difference>> {
    let mut work = Comparison { expected, found, made, differences: Vec::new(), todo: vec![Vec::new()] };
    let (root, other) = (look(expected, b".")?, look(found, b".")?);
    if let (Some(root), Some(other)) = (root, other) {
        let _ = work.entry((expected, found), b".", b"", (&root, &other))?;
    }
    while let Some(path) = work.todo.pop() {
        work.directory(&path)?;
    }
    Ok(work.differences)
}

/// The work on two trees.
struct Comparison<'a> {
    expected: BorrowedFd<'a>,
    found: BorrowedFd<'a>,
    /// Seconds and nanoseconds.
    made: (i64, i64),
    differences: Vec<Difference>,
    /// Directories that both have.
    todo: Vec<Vec<u8>>,
}

impl Comparison<'_> {
    fn note(&mut self, path: &[u8], wrong: Wrong) {
        if self.differences.len() < MAX_DIFFERENCES {
            let path = if path.is_empty() { b"." } else { path };
            self.differences.push(Difference { path: String::from_utf8_lossy(path).into_owned(), wrong });
        }
    }

    fn directory(&mut self, path: &[u8]) -> Result<()> {
        use std::os::fd::AsFd as _;
        let (expected, found) = (open(self.expected, path)?, open(self.found, path)?);
        let both = (expected.as_fd(), found.as_fd());
        for name in Names::of(&expected)? {
            let name = name?;
            let child = join(path, &name);
            let (Some(wanted), there) = (look(both.0, &name)?, look(both.1, &name)?) else { continue };
            match there {
                None => self.note(&child, Wrong::Missing),
                Some(there) => {
                    if self.entry(both, &name, &child, (&wanted, &there))? == FileType::Directory {
                        self.todo.push(child);
                    }
                }
            }
        }
        for name in Names::of(&found)? {
            let name = name?;
            if look(both.0, &name)?.is_none() {
                self.note(&join(path, &name), Wrong::Unexpected);
            }
        }
        Ok(())
    }

    /// Compares one entry, and returns what it is if it is the same in both.
    fn entry(
        &mut self,
        (expected, found): (BorrowedFd<'_>, BorrowedFd<'_>),
        name: &[u8],
        path: &[u8],
        (wanted, there): (&Stat, &Stat),
    ) -> Result<FileType> {
        let (kind, other) = (FileType::from_raw_mode(wanted.st_mode), FileType::from_raw_mode(there.st_mode));
        if kind != other {
            self.differ(path, "the type", format!("{kind:?}"), format!("{other:?}"));
            return Ok(FileType::Unknown);
        }
        let mode = |stat: &Stat| format!("{:04o}", stat.st_mode & 0o7777);
        if kind != FileType::Symlink {
            self.differ(path, "the mode", mode(wanted), mode(there));
        }
        let owner = |stat: &Stat| format!("{}:{}", stat.st_uid, stat.st_gid);
        self.differ(path, "the owner", owner(wanted), owner(there));
        let time = |stat: &Stat| (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default());
        let undated = kind == FileType::Directory || kind == FileType::CharacterDevice && wanted.st_rdev == 0;
        if !undated || time(wanted) < self.made {
            let text = |(seconds, nanoseconds): (i64, i64)| format!("{seconds}.{nanoseconds:09}");
            self.differ(path, "the time of modification", text(time(wanted)), text(time(there)));
        }
        if kind != FileType::Directory {
            let links = |stat: &Stat| stat.st_nlink.to_string();
            self.differ(path, "the number of hard links", links(wanted), links(there));
        }
        match kind {
            FileType::RegularFile => {
                self.differ(path, "the size", wanted.st_size.to_string(), there.st_size.to_string());
            }
            FileType::Symlink => {
                self.differ(path, "the target", target(expected, name)?, target(found, name)?)
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let device = |stat: &Stat| {
                    format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
                };
                self.differ(path, "the device", device(wanted), device(there));
            }
            _ => {}
        }
        if matches!(kind, FileType::RegularFile | FileType::Directory) {
            self.xattrs(path, xattrs(expected, name)?, xattrs(found, name)?);
        }
        Ok(kind)
    }

    fn differ(&mut self, path: &[u8], what: &'static str, expected: String, found: String) {
        if expected != found {
            self.note(path, Wrong::Metadata { what, expected, found });
        }
    }

    fn xattrs(&mut self, path: &[u8], expected: Vec<String>, found: Vec<String>) {
        if expected != found {
            let text = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join(" ") };
            self.differ(path, "the extended attributes", text(expected), text(found));
        }
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn look(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

fn target(dir: BorrowedFd<'_>, name: &[u8]) -> Result<String> {
    Ok(readlinkat(dir, name, Vec::new())?.to_bytes().escape_ascii().to_string())
}

/// The extended attributes that the unpacker sets, sorted, with their values for people to compare.
fn xattrs(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<String>> {
    // There is no call for "of this name in this directory" that does not open the file.
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    let mut list = vec![0; XATTR_MAX];
    let length = match llistxattr(path.as_slice(), &mut list) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    list.truncate(length);
    let ours = |key: &&[u8]| {
        *key == b"security.capability" || key.starts_with(b"user.") || key.starts_with(b"trusted.overlay.")
    };
    let mut found = Vec::new();
    for key in list.split(|byte| *byte == 0).filter(ours) {
        let mut value = vec![0; XATTR_MAX];
        let length = lgetxattr(path.as_slice(), key, &mut value)?;
        value.truncate(length);
        found.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
    }
    found.sort();
    Ok(found)
}

/// The names in a directory.
struct Names(Dir);

impl Names {
    fn of(dir: &OwnedFd) -> Result<Self> {
        Dir::read_from(dir).map(Self)
    }
}

impl Iterator for Names {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Err(error) => return Some(Err(error)),
                Ok(entry) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => return Some(Ok(name.to_vec())),
                },
            }
        }
    }
}
