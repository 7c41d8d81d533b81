//! Images from a tar file as `docker save` and `skopeo copy … docker-archive:` write it.
//!
//! `manifest.json` names a configuration and layers; there is no manifest in the sense of a registry, so one is made:
//! always the same for the same file, so that the image has an id. Uncompressed layers are named by the diff ids of
//! the configuration, compressed ones by the digest of what is in the file. Everything is verified as ever when it is
//! read; the archive is indexed once by seeking from header to header.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageConfiguration, MediaType};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::manifest::{self, DocumentError, MAX_DOCUMENT, MAX_LAYERS, digest_of};
use crate::pipe::CHUNK;
use crate::reference::Reference;
use crate::source::{Raw, Source, SourceError};
use crate::tarball::{Entries, Entry, Kind, TarError};

/// More entries than the largest images have files in such an archive.
const MAX_ENTRIES: usize = 10_000;

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

/// What the file holds under a name.
#[derive(Debug)]
enum Member {
    File(Extent),
    /// Older archives share layers by links.
    Link(String),
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The manifest that is made. Its fields keep this order for ever: the image's id depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    schema_version: u32,
    media_type: MediaType,
    config: Part,
    layers: Vec<Part>,
}

/// A descriptor in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: MediaType,
    digest: Digest,
    size: u64,
}

/// An archive being looked at.
struct Index<'a> {
    path: &'a Path,
    file: &'a File,
    members: HashMap<String, Member>,
}

impl Archive {
    /// Opens the file and finds the image in it.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(path: &Path, name: Option<&str>) -> Result<Self, ArchiveError> {
        let file =
            crate::layout::open(path).map_err(|source| ArchiveError::Read { path: path.to_owned(), source })?;
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

impl<'a> Index<'a> {
    fn read(path: &'a Path, file: &'a File) -> Result<Self, ArchiveError> {
        let unreadable = |source| ArchiveError::Read { path: path.to_owned(), source };
        let mut index = Self { path, file, members: HashMap::new() };
        let mut magic = [0; 4];
        let _ = file.read_at(&mut magic, 0).map_err(unreadable)?;
        if matches!(magic, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [b'B', b'Z', b'h', _] | [0xfd, b'7', b'z', _]) {
            return Err(ArchiveError::Compressed { path: path.to_owned() });
        }
        let mut at = 0;
        loop {
            let mut reader = file;
            let _ = reader.seek(SeekFrom::Start(at)).map_err(unreadable)?;
            let mut entries = Entries::new(Counted { inner: BufReader::new(reader), count: 0 });
            let entry = entries.next().map_err(|source| ArchiveError::Tar { path: path.to_owned(), source })?;
            let Some(entry) = entry else { return Ok(index) };
            let offset = at + entries.into_inner().count;
            let size = if entry.kind == Kind::File { entry.size } else { 0 };
            at = offset.saturating_add(size).checked_next_multiple_of(512).ok_or_else(|| index.too_large("a file"))?;
            index.add(entry, Extent { offset, size });
            if index.members.len() > MAX_ENTRIES {
                return Err(index.too_large("files"));
            }
        }
    }

    fn add(&mut self, entry: Entry, extent: Extent) {
        let name = normal("", &String::from_utf8_lossy(&entry.path));
        let member = match entry.kind {
            Kind::File => Member::File(extent),
            Kind::Symlink => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                Member::Link(normal(folder, &String::from_utf8_lossy(&entry.link)))
            }
            Kind::Hardlink => Member::Link(normal("", &String::from_utf8_lossy(&entry.link))),
            _ => return,
        };
        let _ = self.members.insert(name, member);
    }

    fn too_large(&self, what: &'static str) -> ArchiveError {
        ArchiveError::TooLarge { path: self.path.to_owned(), what }
    }

    fn find(&self, name: &str) -> Result<Extent, ArchiveError> {
        let mut name = normal("", name);
        for _ in 0..8 {
            match self.members.get(&name) {
                Some(Member::File(extent)) => return Ok(*extent),
                Some(Member::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(ArchiveError::Missing { path: self.path.to_owned(), member: name })
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let extent = self.find(name)?;
        if extent.size > MAX_DOCUMENT {
            return Err(self.too_large("a manifest or configuration"));
        }
        let mut bytes = Vec::new();
        let read = Section { file: self.file, extent }.read_to_end(&mut bytes);
        let _ = read.map_err(|source| ArchiveError::Read { path: self.path.to_owned(), source })?;
        Ok(bytes)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, member: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
        let (path, member) = (self.path.to_owned(), member.to_owned());
        serde_json::from_slice(bytes).map_err(|source| ArchiveError::Parse { path, member, source })
    }

    fn choose(&self, wanted: Option<&str>) -> Result<Image, ArchiveError> {
        let mut images: Vec<Image> = self.parse("manifest.json", &self.small("manifest.json")?)?;
        let tags = |image: &Image| image.repo_tags.clone().unwrap_or_default();
        let names = images.iter().flat_map(tags).collect::<Vec<_>>().join(", ");
        let count = images.len();
        let full = |name: &str| name.parse::<Reference>().map_or_else(|_| name.to_owned(), |name| name.to_string());
        let at = match wanted {
            Some(wanted) => images.iter().position(|image| tags(image).iter().any(|tag| full(tag) == full(wanted))),
            None => (count == 1).then_some(0),
        };
        let choice = || ArchiveError::Choice { path: self.path.to_owned(), count, names };
        at.map(|at| images.swap_remove(at)).ok_or_else(choice)
    }

    fn manifest(&self, image: &Image) -> Result<(Vec<u8>, HashMap<Digest, Extent>), ArchiveError> {
        let document = |source| ArchiveError::Document { path: self.path.to_owned(), source };
        let bytes = self.small(&image.config)?;
        let config: ImageConfiguration = self.parse(&image.config, &bytes)?;
        let diff_ids = manifest::diff_ids(&config).map_err(document)?;
        let count = image.layers.len();
        if count != diff_ids.len() {
            return Err(document(DocumentError::LayerCount { layers: count, diff_ids: diff_ids.len() }));
        }
        if count > MAX_LAYERS {
            return Err(document(DocumentError::TooManyLayers(count)));
        }
        let mut parts = HashMap::from([(Digest::of(&bytes), self.find(&image.config)?)]);
        let mut layers = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(diff_ids) {
            let extent = self.find(name)?;
            let (media_type, digest) = self.identify(extent, diff_id)?;
            let _ = parts.insert(digest, extent);
            layers.push(Part { media_type, digest, size: extent.size });
        }
        let config = Part { media_type: MediaType::ImageConfig, digest: Digest::of(&bytes), size: bytes.len() as u64 };
        let made = Made { schema_version: 2, media_type: MediaType::ImageManifest, config, layers };
        let (path, member) = (self.path.to_owned(), image.config.clone());
        let manifest = serde_json::to_vec(&made).map_err(|source| ArchiveError::Parse { path, member, source })?;
        Ok((manifest, parts))
    }

    /// The type and digest of a layer: its diff id, unless it is compressed.
    fn identify(&self, extent: Extent, diff_id: Digest) -> Result<(MediaType, Digest), ArchiveError> {
        let unreadable = |source| ArchiveError::Read { path: self.path.to_owned(), source };
        let mut magic = [0; 4];
        let _ = self.file.read_at(&mut magic, extent.offset).map_err(unreadable)?;
        let media_type = match magic {
            [0x1f, 0x8b, ..] => MediaType::ImageLayerGzip,
            [0x28, 0xb5, 0x2f, 0xfd] => MediaType::ImageLayerZstd,
            _ => return Ok((MediaType::ImageLayer, diff_id)),
        };
        let (mut section, mut hasher) = (Section { file: self.file, extent }, Hasher::default());
        let mut buffer = vec![0; CHUNK];
        loop {
            match section.read(&mut buffer).map_err(unreadable)? {
                0 => return Ok((media_type, hasher.finish())),
                count => hasher.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
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

/// Counts what is used of a stream.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.count += count as u64;
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
