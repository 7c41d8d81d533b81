//! One archive, before anything of it is believed.
//!
//! [`AciFile::scan`] reads it once, from beginning to end: what it hashes to as it is (for the store) and without
//! compression (its id), and what its manifest says. Nothing is written. Every name in it is checked, so that an archive
//! with something beside `manifest` and `rootfs` is refused before it costs anything.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use pod::manifest::ImageManifest;

use super::manifest::{self, AciManifestError};
use crate::compression;
use crate::digest::{Algorithm, Digest, Hasher, ImageId};
use crate::manifest::MAX_DOCUMENT;
use crate::source::{Raw, Source, SourceError};
use crate::tarball::{Entries, Kind, TarError};
use crate::unpack::{Refusal, Shape, Target};

const BUFFER: usize = 256 << 10;

/// An archive.
#[derive(Debug)]
pub(super) struct AciFile {
    path: PathBuf,
    file: File,
}

/// What an archive is.
#[derive(Debug)]
pub(super) struct Scan {
    /// The sha512 of the archive without compression.
    pub(super) id: ImageId,
    /// The sha256 of the file.
    pub(super) transported: Digest,
    /// Bytes of the file.
    pub(super) size: u64,
    /// Bytes of the archive without compression.
    pub(super) tar_size: u64,
    /// The manifest as it is written.
    pub(super) manifest: Vec<u8>,
    /// The manifest.
    pub(super) parsed: ImageManifest,
}

/// An archive is not an ACI.
#[derive(Debug, thiserror::Error)]
pub enum AciFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a tar archive, or cannot be decompressed.
    #[error("{} is not an ACI: it is no usable tar archive", path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TarError,
    },
    /// It has something that it must not have.
    #[error("{} is not an ACI: its entry {name:?} is refused: {refusal}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// It lacks something that it must have.
    #[error("{} is not an ACI: it has no {what:?}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// `manifest` or `rootfs`.
        what: &'static str,
    },
    /// Its manifest is there twice, or is not a file.
    #[error("{} is not an ACI: \"manifest\" must be one regular file", path.display())]
    ManifestEntry {
        /// The file.
        path: PathBuf,
    },
    /// It decompresses to more than the limits allow.
    #[error("{} decompresses to more than {limit} bytes", path.display())]
    Bomb {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Its manifest is too large.
    #[error("{} has a manifest of {size} bytes, at most {MAX_DOCUMENT} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the manifest.
        size: u64,
    },
    /// Its manifest is none.
    #[error("{} cannot be used", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: AciManifestError,
    },
}

impl AciFile {
    pub(super) fn open(path: &Path) -> Result<Self, AciFileError> {
        let unreadable = |source| AciFileError::Read { path: path.to_owned(), source };
        let file = crate::layout::open(path).map_err(unreadable)?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its signature is when nobody says otherwise: `NAME.aci.asc` for `NAME.aci`.
    pub(super) fn signature(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".asc");
        name.into()
    }

    /// Reads the whole archive. `limit` is the most that it may decompress to.
    pub(super) fn scan(&self, limit: u64) -> Result<Scan, AciFileError> {
        let unreadable = |source| AciFileError::Read { path: self.path.clone(), source };
        let file = Hashing::new(self.bytes(), Algorithm::Sha256);
        let mut file = BufReader::with_capacity(BUFFER, file);
        let (id, tar_size, bytes) = {
            let tar = compression::decoder(&mut file).map_err(unreadable)?;
            let tar = Hashing::new(tar.take(limit.saturating_add(1)), Algorithm::Sha512);
            let mut entries = Entries::new(BufReader::with_capacity(BUFFER, tar));
            let found = self.members(&mut entries);
            let mut rest = entries.into_inner();
            // An archive beyond the limit ends early: that is why it looks broken.
            if rest.get_ref().count > limit {
                return Err(AciFileError::Bomb { path: self.path.clone(), limit });
            }
            let manifest = found?;
            let _ = io::copy(&mut rest, &mut io::sink()).map_err(unreadable)?;
            if rest.get_ref().count > limit {
                return Err(AciFileError::Bomb { path: self.path.clone(), limit });
            }
            let tar = rest.into_inner();
            (ImageId::new(tar.hasher.finish()), tar.count, manifest)
        };
        let _ = io::copy(&mut file, &mut io::sink()).map_err(unreadable)?;
        let parsed = manifest::parse(&bytes)
            .map_err(|source| AciFileError::Manifest { path: self.path.clone(), source })?;
        let file = file.into_inner();
        let size = file.count;
        Ok(Scan { id, size, tar_size, transported: file.hasher.finish(), manifest: bytes, parsed })
    }

    /// Checks every name, and returns the bytes of the manifest.
    fn members<R: io::BufRead>(&self, entries: &mut Entries<R>) -> Result<Vec<u8>, AciFileError> {
        let path = || self.path.clone();
        let broken = |source| AciFileError::Tar { path: path(), source };
        let (mut manifest, mut rooted) = (None, false);
        while let Some(entry) = entries.next().map_err(broken)? {
            let target = Shape::Aci.target(&entry.path).map_err(|refusal| {
                let name = String::from_utf8_lossy(&entry.path).chars().take(200).collect();
                AciFileError::Entry { path: path(), name, refusal }
            })?;
            match target {
                Target::Manifest if entry.kind != Kind::File || manifest.is_some() => {
                    return Err(AciFileError::ManifestEntry { path: path() });
                }
                Target::Manifest if entry.size > MAX_DOCUMENT => {
                    return Err(AciFileError::TooLarge { path: path(), size: entry.size });
                }
                Target::Manifest => manifest = Some(contents(entries).map_err(broken)?),
                Target::Entry(_) => rooted = true,
                Target::Whiteout(_) | Target::Opaque(_) | Target::Bookkeeping => {}
            }
        }
        let missing = |what| AciFileError::Missing { path: path(), what };
        let manifest = manifest.ok_or_else(|| missing("manifest"))?;
        if rooted { Ok(manifest) } else { Err(missing("rootfs")) }
    }

    /// What the file is made of, from its beginning.
    pub(super) fn bytes(&self) -> impl Read + Send + '_ {
        At { file: &self.file, offset: 0 }
    }
}

/// The contents of the current entry, whose size was checked.
fn contents<R: io::BufRead>(entries: &mut Entries<R>) -> Result<Vec<u8>, TarError> {
    let mut bytes = Vec::new();
    while let piece @ [_, ..] = entries.data()? {
        bytes.extend_from_slice(piece);
        let count = piece.len();
        entries.consume(count);
    }
    Ok(bytes)
}

/// As the layer of an image, of which it is the only part.
impl Source for AciFile {
    fn root(&self) -> Result<Raw, SourceError> {
        // Never asked for: an ACI has no documents but its manifest.
        Ok(Raw { bytes: Vec::new(), media_type: None })
    }

    fn document(&self, _: &Descriptor) -> Result<Raw, SourceError> {
        self.root()
    }

    fn blob(&self, _: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        Ok(Box::new(self.bytes()))
    }
}

/// Reads a file without moving its position.
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

/// Hashes and counts what is read.
pub(super) struct Hashing<R> {
    inner: R,
    pub(super) hasher: Hasher,
    pub(super) count: u64,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R, algorithm: Algorithm) -> Self {
        Self { inner, hasher: Hasher::new(algorithm), count: 0 }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.count += count as u64;
        Ok(count)
    }
}
