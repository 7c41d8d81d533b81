//! The store: content by digest, one tree per layer, names, all on disk and shared by any number of processes.
//!
//! ```text
//! cas/
//!   blob/sha256/<hex>    manifests and configurations, as they came
//!   tree/<hex>/rootfs/   a layer, unpacked; the name is the sha256 of its tar stream (the diff id)
//!   tree/<hex>/layer.json  what it holds
//!   image/<hex>.json     an image: what to stack, how big, since when; the file's mtime is its last use
//!   ref/<name>           what a name stands for
//!   tmp/                 work in progress: <diff id>.work with <diff id>.lock, *.new, *.dead
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

mod gc;
mod lock;
mod record;
mod tree;
mod write;

use std::fs::{DirBuilder, File, FileTimes};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use oci_spec::image::{ImageConfiguration, ImageManifest};

use crate::digest::{Digest, ImageId};
use crate::platform::Platform;
use crate::reference::{IdPrefix, ImageName};
use crate::remove::remove_path;
use crate::source::Resolved;

use lock::LayerLock;
use record::{ImageFile, RefFile, ref_file};

pub use gc::{Candidates, GcPlan, GcReport, InUse};
pub use lock::Pin;
pub use record::ImageRecord;
pub(crate) use tree::{LayerHold, LayerSlot};

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
    /// The manifest.
    pub manifest: ImageManifest,
    /// The configuration: what to run, and how.
    pub config: ImageConfiguration,
    /// The layers' trees, bottom first; overlayfs wants them in the opposite order.
    pub layers: Vec<PathBuf>,
    /// The digests that name the trees (diff ids), in the same order: what a pod records as being in use.
    pub trees: Vec<Digest>,
    /// What it was built for.
    pub platform: Platform,
    /// Bytes of manifest, configuration and trees.
    pub size: u64,
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
    /// It cannot be known what pods use: then nothing may be collected.
    #[error("cannot find out which images are in use")]
    InUse(#[source] io::Error),
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
        // Trees hold other people's setuid programs: nobody else may reach them.
        for (path, mode) in [
            (store.dir.clone(), 0o755),
            (store.blobs(), 0o755),
            (store.images_dir(), 0o755),
            (store.refs(), 0o755),
            (store.trees(), 0o700),
            (store.tmp(), 0o700),
        ] {
            if !path.is_dir() {
                let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
                made.map_err(StoreError::io("create", &path))?;
            }
        }
        Ok(store)
    }

    fn blobs(&self) -> PathBuf {
        self.dir.join("blob/sha256")
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

    /// The id of the image with this name, or whose id begins so. Nothing if there is none.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`], or trouble reading.
    pub fn find(&self, name: &ImageName) -> Result<Option<ImageId>, StoreError> {
        let id = match name {
            ImageName::Id(prefix) => match prefix.complete() {
                Some(id) => Some(id),
                None => return self.find_prefix(prefix),
            },
            named => {
                let path = self.refs().join(ref_file(&named.to_string()));
                optional(read_json::<RefFile>(&path))?.map(|file| file.image)
            }
        };
        Ok(id.filter(|id| self.image_file(*id).exists()))
    }

    fn find_prefix(&self, prefix: &IdPrefix) -> Result<Option<ImageId>, StoreError> {
        let fits = |id: &ImageId| id.digest().hex().starts_with(prefix.hex());
        let mut candidates: Vec<ImageId> = self.image_ids()?.into_iter().filter(fits).collect();
        candidates.sort();
        match candidates.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(*only)),
            _ => Err(StoreError::Ambiguous { prefix: prefix.to_string(), candidates }),
        }
    }

    fn image_ids(&self) -> Result<Vec<ImageId>, StoreError> {
        let id = |name: &str| Digest::from_hex(name.strip_suffix(".json")?).ok().map(ImageId::new);
        Ok(list(&self.images_dir())?.iter().filter_map(|name| id(name)).collect())
    }

    /// The image with this id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::Incomplete`]; [`StoreError::Corrupt`] if a document is damaged.
    pub fn image(&self, id: ImageId) -> Result<Image, StoreError> {
        let pin = self.pin()?;
        let file: ImageFile = optional(read_json(&self.image_file(id)))?
            .ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        let missing = |path| StoreError::Incomplete { id, path };
        let blob = |digest: Digest| self.blob(digest)?.ok_or_else(|| missing(self.blobs().join(digest.hex())));
        let parse = |digest: Digest| move |source| StoreError::Parse { path: self.blobs().join(digest.hex()), source };
        let manifest = serde_json::from_slice(&blob(id.digest())?).map_err(parse(id.digest()))?;
        let config = serde_json::from_slice(&blob(file.config)?).map_err(parse(file.config))?;
        let layers: Vec<PathBuf> = file.trees.iter().map(|tree| self.trees().join(tree.hex()).join("rootfs")).collect();
        if let Some(path) = layers.iter().find(|path| !path.exists()) {
            return Err(missing(path.clone()));
        }
        let ImageFile { trees, platform, size, .. } = file;
        Ok(Image { id, name: None, manifest, config, layers, trees, platform, size, pin })
    }

    /// The bytes of an image's manifest, exactly as they came.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or trouble reading.
    pub fn manifest(&self, id: ImageId) -> Result<Vec<u8>, StoreError> {
        self.blob(id.digest())?.ok_or_else(|| StoreError::NotFound(id.to_string()))
    }

    /// Reads and verifies a document.
    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blobs().join(digest.hex());
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StoreError::io("read", &path))?,
        };
        match Digest::of(&bytes) {
            found if found == digest => Ok(Some(bytes)),
            found => Err(StoreError::Corrupt { path, found }),
        }
    }

    /// All images. Reads a small file for each image and each name, and no tree.
    ///
    /// # Errors
    /// Trouble reading.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let mut names = self.names()?;
        let mut images = Vec::new();
        for id in self.image_ids()? {
            // One that is removed at this moment is not in the list.
            let Some((file, last_used)) = self.image_record(id)? else { continue };
            let names = names.remove(&id).unwrap_or_default();
            images.push(ImageRecord { id, names, import_time: file.imported, last_used, size: file.size });
        }
        Ok(images)
    }

    fn image_record(&self, id: ImageId) -> Result<Option<(ImageFile, Timestamp)>, StoreError> {
        let path = self.image_file(id);
        let Some(file) = optional(read_json::<ImageFile>(&path))? else { return Ok(None) };
        let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let last_used = Timestamp::try_from(modified).unwrap_or(file.imported);
        Ok(Some((file, last_used)))
    }

    fn names(&self) -> Result<std::collections::BTreeMap<ImageId, Vec<String>>, StoreError> {
        let mut names: std::collections::BTreeMap<ImageId, Vec<String>> = std::collections::BTreeMap::new();
        for file in list(&self.refs())? {
            if let Some(file) = optional(read_json::<RefFile>(&self.refs().join(file)))? {
                names.entry(file.image).or_default().push(file.name);
            }
        }
        names.values_mut().for_each(|names| names.sort());
        Ok(names)
    }

    /// Notes that the image was used now. Whoever may only read the store cannot, which does not matter.
    pub fn touch(&self, id: ImageId) {
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = File::options().write(true).open(self.image_file(id)).and_then(|file| file.set_times(now));
    }

    /// Removes an image and its names, which are returned. Its trees go when they are collected: only then is it known
    /// that no pod and no other image needs them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or trouble removing.
    pub fn remove(&self, id: ImageId) -> Result<Vec<String>, StoreError> {
        let _pin = self.pin()?;
        let path = self.image_file(id);
        if !path.exists() {
            return Err(StoreError::NotFound(id.to_string()));
        }
        let names = self.names()?.remove(&id).unwrap_or_default();
        for name in &names {
            remove_file(&self.refs().join(ref_file(name)))?;
        }
        remove_file(&path)?;
        Ok(names)
    }

    /// Records an image whose layers are held. Content first, then the image, then its name: each is only written when
    /// what it speaks of is there.
    pub(crate) fn record(
        &self,
        name: &str,
        resolved: &Resolved,
        config: &[u8],
        (diff_ids, platform): (&[Digest], &Platform),
    ) -> Result<ImageId, StoreError> {
        let _pin = self.pin()?;
        let id = ImageId::new(resolved.digest);
        let config_digest = Digest::of(config);
        self.write_blob(resolved.digest, &resolved.bytes)?;
        self.write_blob(config_digest, config)?;
        let mut size = (resolved.bytes.len() + config.len()) as u64;
        let mut trees = Vec::new();
        for diff_id in diff_ids {
            let layer = self.layer_file(*diff_id)?;
            if layer.opaque {
                trees.clear();
            }
            trees.push(*diff_id);
        }
        // Twice in an image is once on disk.
        for tree in trees.iter().collect::<std::collections::BTreeSet<_>>() {
            size += self.layer_file(*tree)?.bytes;
        }
        let (platform, imported) = (platform.clone(), Timestamp::now());
        let file = ImageFile { id, config: config_digest, trees, platform, imported, size };
        self.write_json(&self.image_file(id), &file)?;
        self.name(name, id)?;
        Ok(id)
    }

    /// Makes `name` stand for an image that is there.
    pub(crate) fn name(&self, name: &str, image: ImageId) -> Result<(), StoreError> {
        let path = self.refs().join(ref_file(name));
        let file = RefFile { name: name.to_owned(), image, imported: Timestamp::now() };
        match optional(read_json::<RefFile>(&path)) {
            Ok(Some(there)) if there.image == image => Ok(()),
            _ => self.write_json(&path, &file),
        }
    }

    fn write_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if matches!(self.blob(digest), Ok(Some(_))) {
            return Ok(());
        }
        let path = self.blobs().join(digest.hex());
        write::replace(&self.tmp(), &path, bytes).map_err(StoreError::io("write", &path))
    }

    fn write_json(&self, path: &Path, value: &impl serde::Serialize) -> Result<(), StoreError> {
        let text = serde_json::to_vec(value).map_err(|source| StoreError::Parse { path: path.to_owned(), source })?;
        write::replace(&self.tmp(), path, &text).map_err(StoreError::io("write", path))
    }

    /// Removes the work of processes that died. Cheap if there is none.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        for name in list(&self.tmp())? {
            let Some(hex) = name.strip_suffix(".work") else { continue };
            let path = self.tmp().join(format!("{hex}.lock"));
            if let Some(lock) = LayerLock::abandoned(&path).map_err(StoreError::io("lock", &path))? {
                let work = self.tmp().join(&name);
                remove_path(&work).map_err(StoreError::io("remove", &work))?;
                lock.release();
            }
        }
        Ok(())
    }
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
