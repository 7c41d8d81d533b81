//! Images in the OCI image layout, version 1.0: in a directory, or in a tar file of such a directory.
//!
//! `index.json` lists what there is; [`choice`] says which of it a name means. Blobs are read from `blobs/<algorithm>/`;
//! in a directory links are followed there, because layouts share blobs that way and every byte is verified anyway.

mod choice;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::Descriptor;
use serde::Deserialize;

use crate::archive::{ArchiveError, Container};
use crate::manifest::{MAX_DOCUMENT, digest_of};
use crate::source::{Raw, Source, SourceError};

pub use choice::ChoiceError;
pub(crate) use choice::{REF_NAME, names};

/// A layout, and which of its images.
#[derive(Debug)]
pub struct Layout {
    place: Place,
    tag: Option<String>,
}

/// Where the files of a layout are.
#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Archive(Arc<Container>),
}

/// A layout does not deliver.
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
    /// The archive that the layout is in does not deliver.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
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
    /// It cannot be told which image is meant.
    #[error("cannot choose an image of {}", path.display())]
    Choice {
        /// The layout.
        path: PathBuf,
        /// Why not.
        source: ChoiceError,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

impl Layout {
    /// Opens a directory.
    ///
    /// # Errors
    /// If it is not an OCI image layout of a version that we know.
    pub fn open(path: &Path, tag: Option<&str>) -> Result<Self, LayoutError> {
        Self::new(Place::Directory(path.to_owned()), tag)
    }

    /// Opens a tar file.
    ///
    /// # Errors
    /// If there is no OCI image layout of a version that we know in it.
    pub fn open_archive(path: &Path, tag: Option<&str>) -> Result<Self, LayoutError> {
        Self::in_container(Arc::new(Container::open(path)?), tag)
    }

    pub(crate) fn in_container(container: Arc<Container>, tag: Option<&str>) -> Result<Self, LayoutError> {
        Self::new(Place::Archive(container), tag)
    }

    fn new(place: Place, tag: Option<&str>) -> Result<Self, LayoutError> {
        let bytes = place.small("oci-layout")?;
        let file = place.path().join("oci-layout");
        let parsed = serde_json::from_slice(&bytes);
        let Version { image_layout_version: version } =
            parsed.map_err(|source| LayoutError::Parse { path: file.clone(), source })?;
        if version != "1.0.0" {
            return Err(LayoutError::Version { path: file, version });
        }
        Ok(Self { place, tag: tag.map(str::to_owned) })
    }

    /// The names of all its images; nothing for one without a name.
    pub(crate) fn names(&self) -> Result<Vec<Option<String>>, LayoutError> {
        names(&self.place.small("index.json")?).map_err(|source| self.choice(source))
    }

    fn choice(&self, source: ChoiceError) -> LayoutError {
        LayoutError::Choice { path: self.place.path().to_owned(), source }
    }
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Archive(container) => container.path(),
        }
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, LayoutError> {
        match self {
            Self::Directory(path) => read(&path.join(name)),
            Self::Archive(container) => Ok(container.small(name)?),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send + '_>, LayoutError> {
        match self {
            Self::Directory(path) => {
                let path = path.join(name);
                let file = open(&path).map_err(|source| LayoutError::Read { path, source })?;
                Ok(Box::new(file))
            }
            Self::Archive(container) => {
                let section = container.section(container.find(name)?);
                Ok(section.map_err(|source| container.unreadable(source))?)
            }
        }
    }
}

impl Source for Layout {
    fn root(&self) -> Result<Raw, SourceError> {
        let index = self.place.small("index.json")?;
        let bytes = choice::choose(&index, self.tag.as_deref()).map_err(|source| self.choice(source))?;
        Ok(Raw { bytes, media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()) })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Raw, SourceError> {
        let bytes = self.place.small(&blob_name(descriptor)?)?;
        Ok(Raw { bytes, media_type: Some(descriptor.media_type().to_string()) })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        Ok(self.place.open(&blob_name(descriptor)?)?)
    }
}

fn blob_name(descriptor: &Descriptor) -> Result<String, SourceError> {
    let digest = digest_of(descriptor)?;
    Ok(format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))
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
