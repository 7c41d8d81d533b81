//! Files and directories that commands make for people: whole, or not there.
//!
//! Made under a hidden name beside the final one, `.NAME.rkt-new`, synced, and renamed. The name is always the same and
//! locked while somebody works on it: what a killed process left is found and replaced by the next one that makes the
//! same thing, and two at once are told apart.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Stat, fchmod, flock, fstat, ftruncate, mkdirat,
    openat, renameat, renameat_with, statat, syncfs, unlinkat,
};
use rustix::io::Errno;

use crate::remove::remove;

/// What to do with something that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Fail.
    Refuse,
    /// Put the new one in its place.
    Replace,
}

/// Something cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is something of that name, and it is not to be replaced.
    #[error("{}: {what} exists (try --overwrite)", path.display())]
    Exists {
        /// `output file`, `output directory`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// There is something of that name that is not of the kind that could be replaced.
    #[error("{} is not {what}", path.display())]
    Kind {
        /// `a file`, `a directory`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// The path does not end with a name.
    #[error("{} does not end with the name of something to make", path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// Another process makes it at the same time.
    #[error("another command is writing {}", path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Where something is to appear.
#[derive(Debug)]
struct Place {
    parent: OwnedFd,
    name: OsString,
    temporary: OsString,
    path: PathBuf,
}

/// A file being made. Dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    place: Place,
    file: File,
    existing: Existing,
    published: bool,
}

/// A directory being made. Dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct NewDirectory {
    place: Place,
    directory: OwnedFd,
    existing: Existing,
    published: bool,
}

impl Place {
    fn of(path: &Path) -> Result<Self, OutputError> {
        let name = path.file_name().ok_or_else(|| OutputError::Name { path: path.to_owned() })?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, parent, flags, Mode::empty());
        let opened = opened.map_err(|error| OutputError::Io {
            act: "open",
            path: parent.to_owned(),
            source: error.into(),
        })?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(".rkt-new");
        Ok(Self { parent: opened, name: name.to_owned(), temporary, path: path.to_owned() })
    }

    fn failed(&self, act: &'static str) -> impl FnOnce(Errno) -> OutputError {
        let path = self.path.clone();
        move |error| OutputError::Io { act, path, source: error.into() }
    }

    /// What has the final name.
    fn there(&self) -> Result<Option<Stat>, OutputError> {
        match statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("look at")(error)),
        }
    }

    fn exists(&self, what: &'static str) -> OutputError {
        OutputError::Exists { what, path: self.path.clone() }
    }

    /// Takes the temporary name for ourselves: locks what `open` gives, and looks whether it has that name still.
    fn claim(&self, open: impl Fn() -> rustix::io::Result<OwnedFd>) -> Result<OwnedFd, OutputError> {
        loop {
            let fd = open().map_err(self.failed("create"))?;
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(OutputError::Busy { path: self.path.clone() }),
                other => other.map_err(self.failed("lock"))?,
            }
            let ours = fstat(&fd).map_err(self.failed("look at"))?;
            match statat(&self.parent, &self.temporary, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino) => return Ok(fd),
                // Published or removed by whoever had it until now.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed("look at")(error)),
            }
        }
    }

    /// Makes the names durable.
    fn sync(&self) -> Result<(), OutputError> {
        rustix::fs::fsync(&self.parent).map_err(self.failed("sync"))
    }
}

impl NewFile {
    /// Begins a file at `path`.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn create(path: &Path, existing: Existing) -> Result<Self, OutputError> {
        let place = Place::of(path)?;
        match place.there()? {
            Some(stat) if !is(&stat, rustix::fs::FileType::RegularFile) => {
                return Err(OutputError::Kind { what: "a file", path: path.to_owned() });
            }
            Some(_) if existing == Existing::Refuse => return Err(place.exists(file(path))),
            _ => {}
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        let fd = place.claim(|| openat(&place.parent, &place.temporary, flags, mode))?;
        ftruncate(&fd, 0).map_err(place.failed("empty"))?;
        Ok(Self { file: File::from(fd), place, existing, published: false })
    }

    /// Where to write.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn publish(mut self) -> Result<(), OutputError> {
        let place = &self.place;
        rustix::fs::fsync(&self.file).map_err(place.failed("sync"))?;
        let (parent, from, to) = (&place.parent, &place.temporary, &place.name);
        match self.existing {
            Existing::Replace => renameat(parent, from, parent, to).map_err(place.failed("name"))?,
            Existing::Refuse => match renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(place.exists(file(&place.path))),
                other => other.map_err(place.failed("name"))?,
            },
        }
        self.published = true;
        self.place.sync()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            // If it stays, it is in nobody's way.
            let _ = unlinkat(&self.place.parent, &self.place.temporary, AtFlags::empty());
        }
    }
}

impl NewDirectory {
    const WHAT: &'static str = "output directory";

    /// Begins a directory at `path`.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn create(path: &Path, existing: Existing) -> Result<Self, OutputError> {
        let place = Place::of(path)?;
        match place.there()? {
            Some(stat) if !is(&stat, rustix::fs::FileType::Directory) => {
                return Err(OutputError::Kind { what: "a directory", path: path.to_owned() });
            }
            Some(_) if existing == Existing::Refuse => return Err(place.exists(Self::WHAT)),
            _ => {}
        }
        let directory = place.claim(|| {
            match mkdirat(&place.parent, &place.temporary, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&place.parent, &place.temporary, flags, Mode::empty())
        })?;
        let new = Self { place, directory, existing, published: false };
        new.empty()?;
        Ok(new)
    }

    /// Where to write.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes a directory in it, readable for everybody, and opens it.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn subdirectory(&self, name: &str) -> Result<OwnedFd, OutputError> {
        let mode = Mode::from_raw_mode(0o755);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = mkdirat(&self.directory, name, mode).and_then(|()| {
            let made = openat(&self.directory, name, flags, Mode::empty())?;
            fchmod(&made, mode).map(|()| made)
        });
        made.map_err(self.place.failed("make a directory in"))
    }

    /// Makes a file in it, readable for everybody, and lets everybody look at the directory.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.place.path.clone();
        let failed = |source| OutputError::Io { act: "write to", path, source };
        let write = || {
            let mut file = File::from(openat(&self.directory, name, flags, Mode::from_raw_mode(0o644))?);
            file.write_all(bytes)?;
            fchmod(&file, Mode::from_raw_mode(0o644))?;
            Ok(fchmod(&self.directory, Mode::from_raw_mode(0o755))?)
        };
        write().map_err(failed)
    }

    /// Removes what a killed process left.
    fn empty(&self) -> Result<(), OutputError> {
        let failed = |error: Errno| self.place.failed("empty")(error);
        let mut entries = rustix::fs::Dir::read_from(&self.directory).map_err(failed)?;
        while let Some(entry) = entries.next().transpose().map_err(failed)? {
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                remove(self.directory.as_fd(), entry.file_name()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn publish(mut self) -> Result<(), OutputError> {
        let place = &self.place;
        syncfs(&self.directory).map_err(place.failed("sync"))?;
        let rename =
            |flags| renameat_with(&place.parent, &place.temporary, &place.parent, &place.name, flags);
        match (rename(RenameFlags::NOREPLACE), self.existing) {
            (Err(Errno::EXIST), Existing::Refuse) => return Err(place.exists(Self::WHAT)),
            // What was there goes, under the temporary name, when this is dropped.
            (Err(Errno::EXIST), Existing::Replace) => {
                rename(RenameFlags::EXCHANGE).map_err(place.failed("replace"))?;
            }
            (other, _) => {
                other.map_err(place.failed("name"))?;
                self.published = true;
            }
        }
        self.place.sync()
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.published
            && let Ok(name) = std::ffi::CString::new(self.place.temporary.as_bytes())
        {
            // If it stays, it is in nobody's way.
            let _ = remove(self.place.parent.as_fd(), &name);
        }
    }
}

/// What a file is called when it is in the way.
fn file(path: &Path) -> &'static str {
    if path.extension().is_some_and(|ending| ending == "aci") { "output ACI file" } else { "output file" }
}

fn is(stat: &Stat, kind: rustix::fs::FileType) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut new = NewFile::create(&path, Existing::Refuse).unwrap();
        new.file().write_all(b"one").unwrap();
        assert!(matches!(NewFile::create(&path, Existing::Refuse), Err(OutputError::Busy { .. })));
        drop(new);
        assert!(names(dir.path()).is_empty());
        // As a killed process leaves it.
        std::fs::write(dir.path().join(".x.rkt-new"), "a longer text of before").unwrap();
        let mut new = NewFile::create(&path, Existing::Refuse).unwrap();
        new.file().write_all(b"two").unwrap();
        new.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let refused = NewFile::create(&path, Existing::Refuse).unwrap_err().to_string();
        assert!(
            refused.contains("output file") && refused.ends_with("exists (try --overwrite)"),
            "{refused}"
        );
        NewFile::create(&path, Existing::Replace).unwrap().publish().unwrap();
        assert_eq!((std::fs::read(&path).unwrap().len(), names(dir.path()).len()), (0, 1));
        assert!(matches!(NewFile::create(dir.path(), Existing::Replace), Err(OutputError::Kind { .. })));
    }

    #[test]
    fn a_directory_takes_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::create_dir_all(dir.path().join(".x.rkt-new/left/over")).unwrap();
        let new = NewDirectory::create(&path, Existing::Refuse).unwrap();
        mkdirat(new.directory(), "one", Mode::RWXU).unwrap();
        new.publish().unwrap();
        assert_eq!(names(&path), ["one"]);
        assert!(matches!(NewDirectory::create(&path, Existing::Refuse), Err(OutputError::Exists { .. })));
        let new = NewDirectory::create(&path, Existing::Replace).unwrap();
        mkdirat(new.directory(), "two", Mode::RWXU).unwrap();
        new.publish().unwrap();
        assert_eq!((names(&path), names(dir.path())), (vec!["two".to_owned()], vec!["x".to_owned()]));
        drop(NewDirectory::create(&path, Existing::Replace).unwrap());
        assert_eq!((names(&path), names(dir.path())), (vec!["two".to_owned()], vec!["x".to_owned()]));
        for bad in ["/", "..", "/tmp/.."] {
            assert!(matches!(
                NewDirectory::create(Path::new(bad), Existing::Replace),
                Err(OutputError::Name { .. })
            ));
        }
    }
}
