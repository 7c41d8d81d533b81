//! Images from a tar file as `docker save` and `skopeo copy … docker-archive:` write it.
//!
//! `manifest.json` names a configuration and layers; there is no manifest in the sense of a registry, so one is made:
//! always the same for the same file, so that the image has an id. Uncompressed layers are named by the diff ids of
//! the configuration, compressed ones by the digest of what is in the file. Everything is verified as ever when it is
//! read; the archive is indexed once by seeking from header to header.

mod index;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;

use crate::digest::Digest;
use crate::manifest::{DocumentError, digest_of};
use crate::source::{Raw, Source, SourceError};
use crate::tarball::TarError;

use index::Index;

/// One image of an archive.
#[derive(Debug)]
pub struct Archive {
    file: File,
    manifest: Vec<u8>,
    parts: HashMap<Digest, Extent>,
}

/// Where something is in the file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    offset: u64,
    size: u64,
}

/// An archive does not deliver.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is compressed as a whole.
    #[error("{} is compressed: decompress it first", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a tar archive.
    #[error("{} is not a tar archive", path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TarError,
    },
    /// Something that must be in it is not.
    #[error("{} is not an image archive: it lacks {member:?}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        member: String,
    },
    /// Something in it is not what it should be.
    #[error("cannot parse {member:?} in {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        member: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Something in it is too big, or there is too much of it.
    #[error("{} has {what} beyond all measure", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What.
        what: &'static str,
    },
    /// The configuration and the list of layers do not correspond.
    #[error("{} describes no usable image", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// No image has this name, or a name is needed.
    #[error("{} has {count} images and none is the one wanted; name one as docker-archive:PATH:REF; it has: {names}", path.display())]
    Choice {
        /// The file.
        path: PathBuf,
        /// How many images.
        count: usize,
        /// Their names.
        names: String,
    },
}

impl Archive {
    /// Opens the file and finds the image in it.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(path: &Path, name: Option<&str>) -> Result<Self, ArchiveError> {
        let file = crate::layout::open(path)
            .map_err(|source| ArchiveError::Read { path: path.to_owned(), source })?;
        let index = Index::read(path, &file)?;
        let image = index.choose(name)?;
        let (manifest, parts) = index.manifest(&image)?;
        Ok(Self { file, manifest, parts })
    }
}

impl Source for Archive {
    fn root(&self) -> Result<Raw, SourceError> {
        Ok(Raw { bytes: self.manifest.clone(), media_type: None })
    }

    fn document(&self, _: &Descriptor) -> Result<Raw, SourceError> {
        // Never asked for: the root is a manifest. It is what there is.
        self.root()
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let digest = digest_of(descriptor)?;
        let extent = self.parts.get(&digest).copied().unwrap_or(Extent { offset: 0, size: 0 });
        Ok(Box::new(Section { file: &self.file, extent }))
    }
}

/// Part of a file. Several are read at once: they share no position.
struct Section<'a> {
    file: &'a File,
    extent: Extent,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.extent.size).unwrap_or(usize::MAX));
        let count = self.file.read_at(buffer.get_mut(..room).unwrap_or_default(), self.extent.offset)?;
        self.extent.offset += count as u64;
        self.extent.size -= count as u64;
        Ok(count)
    }
}
