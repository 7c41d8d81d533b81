//! A tar file as a set of named parts, indexed once.
//!
//! A plain file is indexed by seeking from header to header, and its parts are read at their offsets, several at once.
//! A compressed one is decompressed from its beginning, for the index and for each part. Names are only compared, never
//! opened. Later parts replace earlier ones of the same name, as they would on a disk.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::ArchiveError;
use crate::compression;
use crate::manifest::MAX_DOCUMENT;
use crate::pipe::CHUNK;
use crate::tarball::{Entries, Entry, Kind, TarError};

/// More entries than the largest images have files in such an archive.
const MAX_ENTRIES: usize = 10_000;
/// The longest name that is worth remembering.
const MAX_NAME: usize = 4096;

/// Where something is in the file, decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// A tar file and what is in it.
#[derive(Debug)]
pub(crate) struct Container {
    path: PathBuf,
    file: File,
    /// As a whole.
    compressed: bool,
    members: HashMap<String, Member>,
}

/// What the file holds under a name.
#[derive(Debug)]
enum Member {
    File(Extent),
    /// Older archives share layers by links.
    Link(String),
}

impl Container {
    pub(crate) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let file = crate::layout::open(path);
        Self::of(file.map_err(|source| ArchiveError::Read { path: path.to_owned(), source })?, path)
    }

    /// The file that is open already; `path` is what it is called.
    pub(crate) fn of(file: File, path: &Path) -> Result<Self, ArchiveError> {
        let mut magic = [0; 6];
        let read = file.read_at(&mut magic, 0);
        let _ = read.map_err(|source| ArchiveError::Read { path: path.to_owned(), source })?;
        let compressed = compression::is_compressed(&magic);
        let mut container = Self { path: path.to_owned(), file, compressed, members: HashMap::new() };
        if compressed {
            container.read_through()?
        } else {
            container.seek_through()?
        }
        Ok(container)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Whether there is anything in this directory.
    pub(crate) fn has_directory(&self, name: &str) -> bool {
        self.members.keys().any(|member| member.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
    }

    pub(crate) fn find(&self, name: &str) -> Result<Extent, ArchiveError> {
        let mut name = normal("", name);
        for _ in 0..8 {
            match self.members.get(&name) {
                Some(Member::File(extent)) => return Ok(*extent),
                Some(Member::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(ArchiveError::Missing { path: self.path.clone(), member: name })
    }

    /// A part, from its beginning. Several are read at once: they share no position.
    pub(crate) fn section(&self, extent: Extent) -> io::Result<Box<dyn Read + Send + '_>> {
        if !self.compressed {
            return Ok(Box::new(At { file: &self.file, offset: extent.offset }.take(extent.size)));
        }
        let skip = extent.offset;
        Ok(Box::new(Skip { from: self.stream()?, skip }.take(extent.size)))
    }

    /// A part that must be small.
    pub(crate) fn small(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let extent = self.find(name)?;
        if extent.size > MAX_DOCUMENT {
            return Err(self.too_large("a manifest or configuration"));
        }
        let mut bytes = Vec::new();
        let read = self.section(extent).and_then(|mut section| section.read_to_end(&mut bytes));
        let _ = read.map_err(|source| self.unreadable(source))?;
        Ok(bytes)
    }

    pub(crate) fn unreadable(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Read { path: self.path.clone(), source }
    }

    fn too_large(&self, what: &'static str) -> ArchiveError {
        ArchiveError::TooLarge { path: self.path.clone(), what }
    }

    fn tar(&self, source: TarError) -> ArchiveError {
        ArchiveError::Tar { path: self.path.clone(), source }
    }

    /// The whole file, decompressed.
    fn stream(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        let raw = BufReader::with_capacity(CHUNK, At { file: &self.file, offset: 0 });
        compression::decoder(raw)
    }

    fn seek_through(&mut self) -> Result<(), ArchiveError> {
        let length = self.file.metadata().map_err(|source| self.unreadable(source))?.len();
        let mut at = 0;
        loop {
            let position = Cell::new(at);
            let reader = BufReader::new(At { file: &self.file, offset: at });
            let mut entries = Entries::new(Counted { inner: reader, position: &position });
            let entry = entries.next().map_err(|source| self.tar(source))?;
            let Some(entry) = entry else { return Ok(()) };
            let (offset, size) = (position.get(), size(&entry));
            let end = offset.checked_add(size).filter(|end| *end <= length);
            let end = end.ok_or_else(|| self.truncated(&entry))?;
            at = end.checked_next_multiple_of(512).ok_or_else(|| self.too_large("a file"))?;
            self.add(entry, Extent { offset, size })?;
        }
    }

    fn read_through(&mut self) -> Result<(), ArchiveError> {
        let mut found = Vec::new();
        let position = Cell::new(0);
        let stream = self.stream().map_err(|source| self.unreadable(source))?;
        let stream = Counted { inner: BufReader::with_capacity(CHUNK, stream), position: &position };
        let mut entries = Entries::new(stream);
        while let Some(entry) = entries.next().map_err(|source| self.tar(source))? {
            let extent = Extent { offset: position.get(), size: size(&entry) };
            found.push((entry, extent));
            if found.len() > MAX_ENTRIES {
                return Err(self.too_large("files"));
            }
        }
        drop(entries);
        found.into_iter().try_for_each(|(entry, extent)| self.add(entry, extent))
    }

    fn truncated(&self, entry: &Entry) -> ArchiveError {
        let member = normal("", &String::from_utf8_lossy(&entry.path));
        ArchiveError::Truncated { path: self.path.clone(), member: member.chars().take(200).collect() }
    }

    fn add(&mut self, entry: Entry, extent: Extent) -> Result<(), ArchiveError> {
        if entry.path.len() > MAX_NAME || entry.link.len() > MAX_NAME {
            return Err(self.too_large("a name"));
        }
        let name = normal("", &String::from_utf8_lossy(&entry.path));
        let member = match entry.kind {
            Kind::File => Member::File(extent),
            Kind::Symlink => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                Member::Link(normal(folder, &String::from_utf8_lossy(&entry.link)))
            }
            Kind::Hardlink => Member::Link(normal("", &String::from_utf8_lossy(&entry.link))),
            _ => return Ok(()),
        };
        let _ = self.members.insert(name, member);
        if self.members.len() > MAX_ENTRIES { Err(self.too_large("files")) } else { Ok(()) }
    }
}

/// Only files have data, whatever the header of something else claims.
fn size(entry: &Entry) -> u64 {
    if entry.kind == Kind::File { entry.size } else { 0 }
}

/// A name relative to `folder`, without `.`, `..` and double slashes. It is only compared, never opened.
fn normal(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// A file, read from a position of its own.
#[derive(Debug)]
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// A stream without its beginning, which is read when the rest is wanted.
struct Skip<R> {
    from: R,
    skip: u64,
}

impl<R: Read> Read for Skip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.skip > 0 {
            let passed = io::copy(&mut (&mut self.from).take(self.skip), &mut io::sink())?;
            if passed < self.skip {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.skip = 0;
        }
        self.from.read(buffer)
    }
}

/// Counts what is used of a stream.
struct Counted<'a, R> {
    inner: R,
    position: &'a Cell<u64>,
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.position.set(self.position.get() + count as u64);
        self.inner.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn names_are_compared_without_dots() {
        assert_eq!(normal("a/b", "../c/layer.tar"), "a/c/layer.tar");
        assert_eq!(normal("", "./x//y"), "x/y");
        assert_eq!(normal("a", "../../../etc/passwd"), "etc/passwd");
    }
}
