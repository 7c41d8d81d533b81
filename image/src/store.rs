//! The store: content by digest, one tree per layer, names, all on disk and shared by any number of processes.
//!
//! ```text
//! cas/
//!   blob/<algorithm>/<hex>  manifests and configurations, as they came
//!   tree/<hex>/rootfs/   a layer, unpacked; the name is the digest of its tar stream (the diff id)
//!   tree/<hex>/layer.json  what it holds
//!   tree/<hex>/blob      the layer as it was transported: optional, and the first thing to go when the disk is full
//!   tree/<hex>/recipe    what makes the layer's exact tar stream of it again
//!   image/<hex>.json     an image: what to stack, how big, since when; the file's mtime is its last use
//!   ref/<name>           what a name stands for
//!   tmp/                 work in progress: <diff id>.work with <diff id>.lock, *.new; *.dead, *.held: replaced trees
//!   lock                 held shared by users, exclusively by garbage collection
//! ```
//!
//! Invariants:
//!
//! * What has its final name is complete, and stays so over a crash: it was synced before it was renamed.
//! * An image is there if its `image/` file is; then its blobs and trees are there too. They are written first and
//!   removed last.
//! * Whoever relies on something in the store holds a [`Pin`] or a layer's lock; garbage collection respects both.
//!   Locks die with their holder, so what a killed process left is told from work in progress by trying its lock.
//! * Looking an image up by name or full id reads four small files and scans no directory.

mod aci;
mod change;
mod check;
mod gc;
mod layer_blob;
mod layer_tar;
mod local;
mod lock;
mod lookup;
mod pressure;
mod record;
mod settings;
mod tree;
mod write;

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::content::Content;
use crate::digest::{Algorithm, Digest, ImageId};
use crate::platform::Platform;

pub(crate) use aci::{AciNames, AciRecord};
pub use check::{Damage, LayerCheck};
pub use gc::{Candidates, GcPlan, GcReport, InUse};
pub use layer_blob::LayerBlob;
pub use layer_tar::{LayerTar, LayerTarError};
pub use local::LayerInfo;
pub use lock::Pin;
pub use pressure::{Pressure, Usage};
pub(crate) use record::BlobRecord;
pub use record::ImageRecord;
pub use settings::{StoreSettings, StoreSettingsError};
pub(crate) use tree::{LayerHold, LayerSlot, WorkDirs};

/// A store in a directory. Has no state of its own: open as many as you like.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// An image of the store, ready to be stacked. Nothing of it is collected as long as this (or a clone of its pin) is
/// held: let go of it as soon as the pod's directory names the trees, because garbage collection waits.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its identity.
    pub id: ImageId,
    /// The name it was asked for by, if it was by name.
    pub name: Option<String>,
    /// What it says of itself: what to run, and how.
    pub content: Content,
    /// The layers' trees, bottom first; overlayfs wants them in the opposite order.
    pub layers: Vec<PathBuf>,
    /// The digests that name the trees (diff ids), in the same order: what a pod records as being in use.
    pub trees: Vec<Digest>,
    /// What it was built for.
    pub platform: Platform,
    /// Bytes of manifest, configuration and trees.
    pub size: u64,
    /// It has links to standard output or error: what it runs may open those by name, which a socket does not allow.
    pub opens_outputs: bool,
    /// Keeps garbage collection away.
    pub pin: Pin,
}

/// The store cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record cannot be understood.
    #[error("cannot parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Content does not have the digest that it is stored under.
    #[error("{} is corrupt: its digest is {found}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: Digest,
    },
    /// There is no such image.
    #[error("image {0} is not in the store")]
    NotFound(String),
    /// The beginning of an id fits several images.
    #[error("{prefix} is ambiguous: it could be {}", join(candidates))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// What it could be.
        candidates: Vec<ImageId>,
    },
    /// Something of an image is missing: somebody removed files by hand.
    #[error("image {id} is incomplete: {} is missing; fetch it again", path.display())]
    Incomplete {
        /// The image.
        id: ImageId,
        /// What is missing.
        path: PathBuf,
    },
    /// A layer was stored before recipes were.
    #[error(
        "layer {0} was stored by a version of rkt that did not keep how its archive is made; `rkt image verify` of the image stores it anew"
    )]
    NoRecipe(Digest),
    /// It cannot be known what pods use: then nothing may be collected.
    #[error("cannot find out which images are in use")]
    InUse(#[source] io::Error),
    /// A tree was unpacked for an image of another format: its names were understood differently.
    #[error("{} was unpacked from the same archive for an image of another format", path.display())]
    Shape {
        /// The tree.
        path: PathBuf,
    },
    /// Garbage collection found the store in use for longer than it was to wait.
    #[error("the image store is in use")]
    Busy,
}

impl StoreError {
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { act, path: path.to_owned(), source }
    }
}

fn join(ids: &[ImageId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Store {
    /// Opens the store in `dir` (`<data dir>/cas`), which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self { dir: dir.to_owned() };
        // The data directory's group may look at images. Trees hold other people's setuid programs, and whoever can open
        // a lock can hold it: nobody but root may reach those.
        for (path, mode) in [
            (store.dir.clone(), 0o750),
            (store.dir.join("blob"), 0o755),
            (store.blobs(Algorithm::Sha256), 0o755),
            (store.blobs(Algorithm::Sha512), 0o755),
            (store.images_dir(), 0o755),
            (store.refs(), 0o755),
            (store.trees(), 0o700),
            (store.tmp(), 0o700),
            (store.dir.join("remote"), 0o700),
        ] {
            if !path.is_dir() {
                make(&path, mode).map_err(StoreError::io("create", &path))?;
                if path == store.dir {
                    give_to_group(&path).map_err(StoreError::io("give to its group", &path))?;
                }
            }
        }
        Ok(store)
    }

    fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.dir.join("blob").join(algorithm.name())
    }

    fn blob_file(&self, digest: Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    fn images_dir(&self) -> PathBuf {
        self.dir.join("image")
    }

    fn refs(&self) -> PathBuf {
        self.dir.join("ref")
    }

    fn trees(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// For files without a name.
    pub(crate) fn work_dir(&self) -> PathBuf {
        self.tmp()
    }

    fn image_file(&self, id: ImageId) -> PathBuf {
        self.images_dir().join(format!("{}.json", id.digest().hex()))
    }

    /// Keeps garbage collection away as long as it is held.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn pin(&self) -> Result<Pin, StoreError> {
        let path = self.dir.join("lock");
        Pin::take(&path).map_err(StoreError::io("lock", &path))
    }
}

/// Makes a directory of this mode, whatever the umask.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The store's group is that of the data directory, which is root's to decide.
fn give_to_group(dir: &Path) -> io::Result<()> {
    let group = dir.parent().unwrap_or(dir).metadata()?.gid();
    if dir.metadata()?.gid() == group { Ok(()) } else { std::os::unix::fs::chown(dir, None, Some(group)) }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes = std::fs::read(path).map_err(StoreError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| StoreError::Parse { path: path.to_owned(), source })
}

/// What is not there is nothing.
fn optional<T>(outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match outcome {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    optional(std::fs::remove_file(path).map_err(StoreError::io("remove", path))).map(|_| ())
}

/// The names in a directory of ours, all of which are text.
fn list(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    let names: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
    let names = names.map_err(StoreError::io("list", dir))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
