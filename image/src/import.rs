//! Files as images: archives of root file systems, and whatever holds images.
//!
//! [`import_rootfs`] makes an image of one layer from a tar file, plain or compressed. The file itself becomes the layer
//! where the specification has a type for it (not compressed, gzip, zstd); otherwise its decompressed content does. The
//! same file with the same configuration is the same image: it has no date. [`import_archive`] looks into a file and
//! takes every image that is in it, under the names that the file gives.
//!
//! What is no file that can be read twice (a pipe) is copied to the store's disk first, without a name.

mod rootfs;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::Config;
use rustix::fs::{Mode, OFlags};

use crate::archive::{ArchiveError, Container, DockerArchive};
use crate::fetch::{FetchError, FetchOptions, bring};
use crate::layout::{Layout, LayoutError};
use crate::progress::Progress;
use crate::reference::{ImageName, Reference};
use crate::source::Source;
use crate::store::{Image, Store, StoreError};

use rootfs::Rootfs;

/// What a stream is called in sentences.
const STREAM: &str = "standard input";

/// A file cannot be made an image.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is more than a layer may be.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It holds no images.
    #[error("{} holds no images; if it is a root file system, say what to call the image", path.display())]
    NoImages {
        /// The file.
        path: PathBuf,
        /// What it lacks, if it is an archive.
        source: Option<ArchiveError>,
    },
    /// It is an ACI.
    #[error("{} is an ACI: \"rkt fetch\" takes it", path.display())]
    Aci {
        /// The file.
        path: PathBuf,
    },
    /// An image in a stream has no name, and a stream has none to give it.
    #[error("an image of standard input has no name: write it to a file and fetch that")]
    Unnamed,
    /// The archive does not deliver.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The layout in the archive does not deliver.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The image cannot be described.
    #[error("cannot describe the image")]
    Json(#[from] serde_json::Error),
    /// The image cannot be brought into the store.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store cannot take it.
    #[error("cannot store the image")]
    Store(#[from] StoreError),
}

/// Makes an image of one layer from the root file system in the tar file `path` (`-`: standard input), and calls it
/// `name`.
///
/// # Errors
/// [`ImportError`]; there is no image and no name then.
pub fn import_rootfs(
    store: &Store,
    path: &Path,
    name: &Reference,
    config: Config,
    (options, progress): (&FetchOptions<'_>, &dyn Progress),
) -> Result<Image, ImportError> {
    let (path, file) = open(store, path, options.limits.bytes)?;
    let source = Rootfs::of(&file, &path, config, &options.platform)?;
    let name = ImageName::Registry(name.clone());
    let image = bring(store, &name, &source, options, progress)?;
    store.tag(image.id, &name)?;
    Ok(image)
}

/// Takes every image of the archive `path` (`-`: standard input) into the store, under the names that the archive
/// gives.
///
/// # Errors
/// [`ImportError`]; images before the one that fails are there then.
pub fn import_archive(
    store: &Store,
    path: &Path,
    (options, progress): (&FetchOptions<'_>, &dyn Progress),
) -> Result<Vec<Image>, ImportError> {
    let (path, file) = open(store, path, options.limits.bytes)?;
    let stream = path == Path::new(STREAM);
    let container = match Container::of(file, &path) {
        Ok(container) => Arc::new(container),
        Err(error) => return Err(ImportError::NoImages { path, source: Some(error) }),
    };
    let mut images = Vec::new();
    for (names, own, source) in sources(&container, &path)? {
        let own = (!stream).then_some(own);
        let mut names = names.into_iter().map(ImageName::Registry).chain(own);
        let first = names.next().ok_or(ImportError::Unnamed)?;
        let image = bring(store, &first, source.as_ref(), options, progress)?;
        // The name of the file is only for an image that has no other.
        for name in std::iter::once(first).chain(names).filter(|name| name.path().is_none()) {
            store.tag(image.id, &name)?;
        }
        images.push(image);
    }
    Ok(images)
}

/// An image of an archive: the names that the archive gives it, how it would be fetched, and where to read it.
type Found = (Vec<Reference>, ImageName, Box<dyn Source>);

fn sources(container: &Arc<Container>, path: &Path) -> Result<Vec<Found>, ImportError> {
    if container.has("index.json") && container.has("oci-layout") {
        let layout = Layout::in_container(container.clone(), None)?;
        let image = |tag: Option<String>| {
            let layout = Layout::in_container(container.clone(), tag.as_deref())?;
            let names = tag.iter().filter_map(|tag| complete(tag)).collect();
            let source: Box<dyn Source> = Box::new(layout);
            Ok((names, ImageName::OciArchive { path: path.to_owned(), tag }, source))
        };
        return layout.names()?.into_iter().map(image).collect();
    }
    if container.has("manifest.json") {
        let image = |(tags, archive): (Vec<String>, DockerArchive)| {
            let names = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
            let name = tags.into_iter().next();
            let source: Box<dyn Source> = Box::new(archive);
            (names, ImageName::DockerArchive { path: path.to_owned(), name }, source)
        };
        return Ok(DockerArchive::all(container)?.into_iter().map(image).collect());
    }
    if container.has("manifest") && container.has_directory("rootfs") {
        return Err(ImportError::Aci { path: path.to_owned() });
    }
    Err(ImportError::NoImages { path: path.to_owned(), source: None })
}

/// A name that says which registry it is of: layouts also have bare tags as names, which are nobody's.
fn complete(tag: &str) -> Option<Reference> {
    let reference: Reference = tag.parse().ok()?;
    let (first, _) = tag.split_once('/')?;
    (first == reference.registry()).then_some(reference)
}

/// The file, to be read as often as needed, and what to call it.
fn open(store: &Store, path: &Path, limit: u64) -> Result<(PathBuf, File), ImportError> {
    let called = if path == Path::new("-") { PathBuf::from(STREAM) } else { path.to_owned() };
    let failed = |source| ImportError::Read { path: called.clone(), source };
    let file = if path == Path::new("-") {
        std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let file = file.map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    // A standard input that is a file is read from where it stands: what is before that belongs to somebody else.
    if metadata.is_file() && path != Path::new("-") {
        let path = std::path::absolute(&called).unwrap_or(called);
        return Ok((path, file));
    }
    let copy = spool(store, file, limit).map_err(failed)?;
    copy.map(|copy| (called.clone(), copy)).ok_or(ImportError::TooLarge { path: called, limit })
}

/// A copy without a name: it is gone with whoever has it open.
fn spool(store: &Store, from: File, limit: u64) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd: OwnedFd = rustix::fs::open(store.work_dir(), flags, Mode::RUSR | Mode::WUSR)?;
    let mut copy = File::from(fd);
    let count = io::copy(&mut from.take(limit.saturating_add(1)), &mut copy)?;
    Ok((count <= limit).then_some(copy))
}
