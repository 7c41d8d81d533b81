//! What is in an archive, where, and what manifest that makes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use oci_spec::image::{ImageConfiguration, MediaType};
use serde::{Deserialize, Serialize};

use super::{ArchiveError, Extent, Section};
use crate::digest::{Digest, Hasher};
use crate::manifest::{self, DocumentError, MAX_DOCUMENT, MAX_LAYERS};
use crate::pipe::CHUNK;
use crate::reference::Reference;
use crate::tarball::{Entries, Entry, Kind};

/// More entries than the largest images have files in such an archive.
const MAX_ENTRIES: usize = 10_000;

/// What the file holds under a name.
#[derive(Debug)]
enum Member {
    File(Extent),
    /// Older archives share layers by links.
    Link(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Image {
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
pub(super) struct Index<'a> {
    path: &'a Path,
    file: &'a File,
    members: HashMap<String, Member>,
}

impl<'a> Index<'a> {
    pub(super) fn read(path: &'a Path, file: &'a File) -> Result<Self, ArchiveError> {
        let unreadable = |source| ArchiveError::Read { path: path.to_owned(), source };
        let mut index = Self { path, file, members: HashMap::new() };
        let mut magic = [0; 4];
        let _ = file.read_at(&mut magic, 0).map_err(unreadable)?;
        if matches!(
            magic,
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [b'B', b'Z', b'h', _] | [0xfd, b'7', b'z', _]
        ) {
            return Err(ArchiveError::Compressed { path: path.to_owned() });
        }
        let mut at = 0;
        loop {
            let mut reader = file;
            let _ = reader.seek(SeekFrom::Start(at)).map_err(unreadable)?;
            let mut entries = Entries::new(Counted { inner: BufReader::new(reader), count: 0 });
            let entry =
                entries.next().map_err(|source| ArchiveError::Tar { path: path.to_owned(), source })?;
            let Some(entry) = entry else { return Ok(index) };
            let offset = at + entries.into_inner().count;
            let size = if entry.kind == Kind::File { entry.size } else { 0 };
            at = offset
                .saturating_add(size)
                .checked_next_multiple_of(512)
                .ok_or_else(|| index.too_large("a file"))?;
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
        manifest::from_go(bytes).map_err(|source| ArchiveError::Parse { path, member, source })
    }

    pub(super) fn choose(&self, wanted: Option<&str>) -> Result<Image, ArchiveError> {
        let mut images: Vec<Image> = self.parse("manifest.json", &self.small("manifest.json")?)?;
        let tags = |image: &Image| image.repo_tags.clone().unwrap_or_default();
        let names = images.iter().flat_map(tags).collect::<Vec<_>>().join(", ");
        let count = images.len();
        let full =
            |name: &str| name.parse::<Reference>().map_or_else(|_| name.to_owned(), |name| name.to_string());
        let at = match wanted {
            Some(wanted) => {
                images.iter().position(|image| tags(image).iter().any(|tag| full(tag) == full(wanted)))
            }
            None => (count == 1).then_some(0),
        };
        let choice = || ArchiveError::Choice { path: self.path.to_owned(), count, names };
        at.map(|at| images.swap_remove(at)).ok_or_else(choice)
    }

    pub(super) fn manifest(&self, image: &Image) -> Result<(Vec<u8>, HashMap<Digest, Extent>), ArchiveError> {
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
        let config =
            Part { media_type: MediaType::ImageConfig, digest: Digest::of(&bytes), size: bytes.len() as u64 };
        let made = Made { schema_version: 2, media_type: MediaType::ImageManifest, config, layers };
        let (path, member) = (self.path.to_owned(), image.config.clone());
        let manifest =
            serde_json::to_vec(&made).map_err(|source| ArchiveError::Parse { path, member, source })?;
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
