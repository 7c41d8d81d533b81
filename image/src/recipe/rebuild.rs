//! The stream, made again from a tree and its recipe.
//!
//! Where the tree does not have what the recipe asks of it, zeros stand in and a [`Difference`] is noted: whoever
//! verifies wants to hear of all of them. The stream's digest is the judge of the rest.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use flate2::Crc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;

use super::Content;
use super::reader::{Reader, Record};

/// More differences than anybody reads.
const MAX_DIFFERENCES: usize = 1000;

/// Something in a tree that is not as the layer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, beneath the tree's root.
    pub path: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What can be wrong with an entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// The layer does not have it.
    #[error("does not belong there")]
    Unexpected,
    /// A file has other content.
    #[error("has other content")]
    Content,
    /// Its content cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(Errno),
    /// Something that it has is not what the layer says.
    #[error("{what} is {found}, not {expected}")]
    Metadata {
        /// `the mode`, `the owner`, …
        what: &'static str,
        /// In the layer.
        expected: String,
        /// In the tree.
        found: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.wrong)
    }
}

/// Opens files beneath a tree's root.
pub(crate) struct Files {
    root: OwnedFd,
    /// The directory of the file before: mostly that of the next, too.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

impl Files {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, parent: None }
    }

    /// The regular file at this path; nothing if something else is there. Never opens a device or a FIFO.
    pub(crate) fn open(&mut self, path: &[u8]) -> Result<Option<File>, Errno> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
            None => (&[][..], path),
        };
        match self.regular(parent, name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            other => other,
        }
    }

    fn regular(&mut self, parent: &[u8], name: &[u8]) -> Result<Option<File>, Errno> {
        if self.parent.as_ref().is_none_or(|(path, _)| path != parent) {
            let path: &[u8] = if parent.is_empty() { b"." } else { parent };
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            self.parent = Some((parent.to_vec(), openat2(&self.root, path, flags, Mode::empty(), resolve)?));
        }
        let Some((_, dir)) = &self.parent else { return Ok(None) };
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Some(openat(dir, name, flags, Mode::empty())?.into()))
    }
}

/// A layer's tar stream.
pub(crate) struct Rebuild {
    recipe: Reader,
    files: Files,
    at: At,
    differences: Vec<Difference>,
}

/// Where in it we are.
enum At {
    Record,
    Raw(u64),
    File(Passing),
    End,
}

/// A file's content on its way.
struct Passing {
    /// Nothing once it turned out to be wrong.
    file: Option<File>,
    left: u64,
    crc: Crc,
    content: Content,
}

impl Rebuild {
    pub(crate) fn new(recipe: File, root: OwnedFd) -> io::Result<Self> {
        let (recipe, files) = (Reader::new(recipe)?, Files::new(root));
        Ok(Self { recipe, files, at: At::Record, differences: Vec::new() })
    }

    /// What was found so far.
    pub(crate) fn differences(&self) -> &[Difference] {
        &self.differences
    }

    pub(crate) fn into_differences(self) -> Vec<Difference> {
        self.differences
    }

    fn note(&mut self, path: &[u8], wrong: Wrong) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(Difference { path: String::from_utf8_lossy(path).into_owned(), wrong });
        }
    }

    fn step(&mut self) -> io::Result<()> {
        self.at = match self.recipe.next()? {
            Record::Raw(0) => At::Record,
            Record::Raw(length) => At::Raw(length),
            Record::File(content) => At::File(self.begin(content)),
            Record::End => At::End,
        };
        Ok(())
    }

    fn begin(&mut self, content: Content) -> Passing {
        let found = self.files.open(&content.path).and_then(|file| match file {
            Some(file) => Ok(Some((file.metadata().map_err(errno)?.size(), file))),
            None => Ok(None),
        });
        let file = match found {
            Ok(Some((size, file))) if size == content.size => Some(file),
            Ok(Some((size, _))) => {
                let (expected, found) = (content.size.to_string(), size.to_string());
                self.note(&content.path, Wrong::Metadata { what: "the size", expected, found });
                None
            }
            Ok(None) => {
                self.note(&content.path, Wrong::Missing);
                None
            }
            Err(error) => {
                self.note(&content.path, Wrong::Unreadable(error));
                None
            }
        };
        Passing { file, left: content.size, crc: Crc::new(), content }
    }

    /// All of a file has passed.
    fn end(&mut self, passing: &Passing) {
        if passing.file.is_some() && passing.crc.sum() != passing.content.crc {
            self.note(&passing.content.path, Wrong::Content);
        }
    }

    fn pass(&mut self, mut passing: Passing, buffer: &mut [u8]) -> usize {
        let count = match passing.file.as_mut().map(|file| retry(|| file.read(buffer))) {
            Some(Ok(count)) if count > 0 => count,
            Some(outcome) => {
                // Shorter than a moment ago, or the disk cannot read it.
                let error = outcome.err().map_or(Errno::IO, errno);
                self.note(&passing.content.path, Wrong::Unreadable(error));
                passing.file = None;
                buffer.fill(0);
                buffer.len()
            }
            None => {
                buffer.fill(0);
                buffer.len()
            }
        };
        passing.crc.update(buffer.get(..count).unwrap_or_default());
        passing.left -= count as u64;
        if passing.left == 0 {
            self.end(&passing);
            self.at = At::Record;
        } else {
            self.at = At::File(passing);
        }
        count
    }
}

impl Read for Rebuild {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = buffer.len();
        let room = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(length);
        loop {
            match std::mem::replace(&mut self.at, At::Record) {
                At::Record => self.step()?,
                At::Raw(left) => {
                    let room = room(left);
                    let count = self.recipe.raw(buffer.get_mut(..room).unwrap_or_default())?;
                    if left > count as u64 {
                        self.at = At::Raw(left - count as u64);
                    }
                    return Ok(count);
                }
                At::File(passing) => {
                    let room = room(passing.left);
                    return Ok(self.pass(passing, buffer.get_mut(..room).unwrap_or_default()));
                }
                At::End => {
                    self.at = At::End;
                    return Ok(0);
                }
            }
        }
    }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
