//! Tar files with images in them, read in place: nothing is unpacked to get at an image.
//!
//! [`container`] knows what is in such a file and where. What that means is the business of `docker` (what `docker save`
//! and `skopeo copy … docker-archive:` write) and of [`crate::layout`] (an OCI layout in a tar file). Files that are
//! compressed as a whole are read from their beginning for each part that is needed: slower, but no room is taken up.

mod container;
mod docker;

use std::io;
use std::path::PathBuf;

use crate::manifest::DocumentError;
use crate::tarball::TarError;

pub(crate) use container::{Container, Extent};
pub use docker::DockerArchive;

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
    /// The file is not a tar archive, or damaged.
    #[error("{} is not a usable tar archive", path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TarError,
    },
    /// The file ends before what it announces does.
    #[error("{} is incomplete: it ends in the middle of {member:?}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is cut off.
        member: String,
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
