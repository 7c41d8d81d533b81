//! Images from a directory in the OCI image layout, version 1.0.
//!
//! `index.json` lists what there is; the annotation `org.opencontainers.image.ref.name` gives entries their names.
//! Without a name there must be one image only, or one for each of several platforms. Blobs are read from
//! `blobs/<algorithm>/`; links are followed there, because layouts share blobs that way and every byte is verified anyway.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};
use serde::Deserialize;

use crate::manifest::{MAX_DOCUMENT, digest_of};
use crate::source::{Raw, Source, SourceError};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout directory, and which of its images.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    tag: Option<String>,
}

/// A layout directory does not deliver.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file is missing or cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what the specification says.
    #[error("{} is not a file of an OCI image layout", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Another version of the layout.
    #[error("{} has the layout version {version:?}, only 1.0.0 is known", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// A file that must be small is not.
    #[error("{} has more than {MAX_DOCUMENT} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// No image has this name.
    #[error("{} has no image named {tag:?}; it has: {names}", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
        /// The name.
        tag: String,
        /// What there is.
        names: String,
    },
    /// No name was given and there are several images, or none.
    #[error("{} holds {count} images: name one as oci:PATH:TAG; it has: {names}", path.display())]
    Ambiguous {
        /// The directory.
        path: PathBuf,
        /// How many.
        count: usize,
        /// What there is.
        names: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

impl Layout {
    /// Opens the directory.
    ///
    /// # Errors
    /// If it is not an OCI image layout of a version that we know.
    pub fn open(path: &Path, tag: Option<&str>) -> Result<Self, LayoutError> {
        let file = path.join("oci-layout");
        let bytes = read(&file)?;
        let parsed = serde_json::from_slice(&bytes);
        let Version { image_layout_version: version } =
            parsed.map_err(|source| LayoutError::Parse { path: file.clone(), source })?;
        if version != "1.0.0" {
            return Err(LayoutError::Version { path: file, version });
        }
        Ok(Self { path: path.to_owned(), tag: tag.map(str::to_owned) })
    }

    fn blob_path(&self, descriptor: &Descriptor) -> Result<PathBuf, SourceError> {
        let digest = digest_of(descriptor)?;
        Ok(self.path.join("blobs").join(digest.algorithm().name()).join(digest.hex()))
    }

    /// The entries that the name means, as an index of their own.
    fn select(&self, mut index: ImageIndex) -> Result<ImageIndex, LayoutError> {
        let all = index.manifests().clone();
        let names = all.iter().filter_map(name).collect::<Vec<_>>().join(", ");
        let path = self.path.clone();
        let Some(tag) = &self.tag else {
            let distinct: std::collections::BTreeSet<_> = all.iter().map(name).collect();
            if all.is_empty() || distinct.len() > 1 {
                return Err(LayoutError::Ambiguous { path, count: all.len(), names });
            }
            return Ok(index);
        };
        let chosen: Vec<Descriptor> = all.iter().filter(|entry| name(entry) == Some(tag)).cloned().collect();
        if chosen.is_empty() {
            return Err(LayoutError::NotFound { path, tag: tag.clone(), names });
        }
        let _ = index.set_manifests(chosen);
        Ok(index)
    }
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

impl Source for Layout {
    fn root(&self) -> Result<Raw, SourceError> {
        let path = self.path.join("index.json");
        let index: ImageIndex = serde_json::from_slice(&read(&path)?)
            .map_err(|source| LayoutError::Parse { path: path.clone(), source })?;
        let mut index = self.select(index)?;
        // A single entry is meant whatever platform it names: if that is the wrong one, its configuration says so.
        if let [only] = index.manifests().as_slice() {
            let mut only = only.clone();
            let _ = only.set_platform(None);
            let _ = index.set_manifests(vec![only]);
        }
        let bytes = serde_json::to_vec(&index).map_err(|source| LayoutError::Parse { path, source })?;
        Ok(Raw { bytes, media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()) })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Raw, SourceError> {
        let bytes = read(&self.blob_path(descriptor)?)?;
        Ok(Raw { bytes, media_type: Some(descriptor.media_type().to_string()) })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let path = self.blob_path(descriptor)?;
        let file = open(&path).map_err(|source| LayoutError::Read { path, source })?;
        Ok(Box::new(file))
    }
}

/// Opens a regular file: anything else could keep us waiting.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

fn read(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let unreadable = |source| LayoutError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let count =
        open(path).map_err(unreadable)?.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if count as u64 > MAX_DOCUMENT {
        return Err(LayoutError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}
