//! From a layer's tar stream to a tree that overlayfs can stack.
//!
//! The stream is hostile. Whatever it says, nothing is written outside the tree ([`tree`] and [`path`] see to that),
//! what it may use up is bounded ([`Limits`]), and what means something to overlayfs cannot be smuggled in: character
//! devices 0:0 and `trusted.*` attributes come only from us. An archive that asks for more is refused as a whole.
//!
//! Follows the OCI image-spec ("Image Layer Filesystem Changeset") and overlayfs.rst:
//!
//! * `.wh.NAME` becomes a character device 0:0; it speaks of lower layers only, so if this layer has a directory NAME
//!   too, before or after, that directory is opaque instead. `.wh..wh..opq` sets `trusted.overlay.opaque`; in the root
//!   it is reported, because overlayfs does not look there: the store then leaves out what is below.
//! * A later entry wins over an earlier one of the same name; a directory over a directory only changes its metadata.
//! * Parents that the archive does not bring are made, with mode 0755; a link on the way is followed within the tree.
//! * Hardlinks name an earlier entry of the same layer. A link to a link is a link to the link itself.
//! * Owners, modes (setuid too), mtimes, `security.capability` and `user.*` are kept; other extended attributes
//!   describe the machine that built the image, and are dropped.
//! * Directories get mode and mtime last: a setgid directory would pass its group on to what is made in it, and
//!   every new name changes the mtime.

mod file;
mod metadata;
mod path;
mod tree;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::recipe::{Recording, settle};
use crate::tarball::{Entries, Entry, Kind, TarError};

use metadata::{Creator, Metadata};
pub use path::Shape;
use path::TreePath;
pub(crate) use path::{Target, is_output};
pub(crate) use tree::is_whiteout;
use tree::{Found, Tree, set_opaque};

/// What the names of directories may take in memory, where they wait for their metadata until the end: so many bytes for
/// each entry that an archive may have.
const NAME: u64 = 64;

/// What one layer may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the archive, and directories that it has entries in but none for.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes of one file.
    pub file: u64,
}

/// What a layer used up, and what the store must know about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all files.
    pub bytes: u64,
    /// Entries, which is about the number of inodes.
    pub entries: u64,
    /// The layer hides everything below it.
    pub opaque_root: bool,
    /// What the names of the archive meant.
    pub shape: Shape,
    /// It has a link to its own standard output or error: what it runs may open those by name, as nginx's image does.
    pub opens_outputs: bool,
}

/// A layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream is not an archive that we take.
    #[error("the layer is not a usable tar archive")]
    Tar(#[from] TarError),
    /// An entry wants something that is not granted.
    #[error("the layer's entry {name:?} is refused: {refusal}")]
    Refused {
        /// The entry's name.
        name: String,
        /// What it wants.
        refusal: Refusal,
    },
    /// More than [`Limits`] allow.
    #[error("the layer exceeds the limit of {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much.
        limit: u64,
    },
    /// The layer's recipe cannot be written.
    #[error("cannot record how the layer's archive is made")]
    Recipe(#[source] std::io::Error),
    /// The kernel says no.
    #[error("cannot {act} {name:?} of the layer")]
    System {
        /// What was being done.
        act: &'static str,
        /// To which entry.
        name: String,
        /// Why not.
        source: Errno,
    },
}

/// What an entry must not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `..` in a name.
    #[error("its name contains \"..\"")]
    DotDot,
    /// A NUL in a name.
    #[error("its name contains a NUL")]
    Nul,
    /// A name beyond what the kernel takes.
    #[error("its name is too long")]
    TooLong,
    /// A whiteout of nothing, of the directory itself or of its parent.
    #[error("a whiteout must name what it hides")]
    WhiteoutName,
    /// Something within a whiteout.
    #[error("it lies within a whiteout")]
    InsideWhiteout,
    /// A whiteout that is not written as one.
    #[error("a character device 0:0 would be a whiteout")]
    WhiteoutDevice,
    /// An attribute that overlayfs or the kernel trusts.
    #[error("it sets an extended attribute that overlayfs obeys")]
    TrustedXattr,
    /// An owner that does not exist.
    #[error("its owner is not a valid user or group id")]
    Owner,
    /// A device number that does not exist.
    #[error("its device number is not valid")]
    Device,
    /// The root of the tree as something else than a directory.
    #[error("the root must be a directory")]
    Root,
    /// Something beside manifest and root of an ACI.
    #[error("an ACI has nothing but \"manifest\" and \"rootfs\"")]
    NotInAci,
    /// A hardlink to a whiteout or to the root.
    #[error("its target cannot be linked to")]
    LinkTarget,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 64 << 30, file: 32 << 30 }
    }
}

impl Limits {
    /// Blocks of headers and padding that an entry may have in the stream beyond its data, on average.
    const OVERHEAD: u64 = 8 << 10;

    /// The longest stream that can stay within these limits.
    pub(crate) fn stream(&self) -> u64 {
        self.bytes.saturating_add(self.entries.saturating_mul(Self::OVERHEAD))
    }
}

impl UnpackError {
    /// Whether the stream itself is at fault, as opposed to the disk or the rules: then it may have been damaged on the
    /// way, and its digest will tell.
    pub(crate) fn is_format(&self) -> bool {
        matches!(self, Self::Tar(_) | Self::Refused { .. })
    }

    fn refused(name: &[u8], refusal: Refusal) -> Self {
        Self::Refused { name: display(name), refusal }
    }

    fn system(act: &'static str, name: &[u8]) -> impl FnOnce(Errno) -> Self {
        move |source| Self::System { act, name: display(name), source }
    }
}

/// Names for people: bounded, and without what would confuse a terminal (`{:?}` escapes it).
fn display(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into_owned(),
    }
}

/// Unpacks `stream`, to its end, into the empty directory `root`, and writes its recipe into the directory `work`. Things
/// that later entries replace are moved to the directory `aside`, on the same file system, which the caller removes.
/// Returns the stream, for its digest; if unpacking failed, there may be more of it.
///
/// # Errors
/// [`UnpackError`]; the tree is then incomplete and of no use.
pub(crate) fn unpack<R: BufRead>(
    stream: R,
    (root, aside, work): (OwnedFd, BorrowedFd<'_>, BorrowedFd<'_>),
    (limits, shape): (&Limits, Shape),
) -> (R, Result<Unpacked, UnpackError>) {
    let stream = match Recording::on(stream, work) {
        Ok(stream) => stream,
        Err((stream, error)) => return (stream, Err(UnpackError::Recipe(error))),
    };
    let mut unpacker = Unpacker::new(Tree::new(root, aside), (*limits, shape), Contents::Written);
    let (rest, outcome) = unpacker.run(stream);
    let totals = match outcome {
        Ok(totals) => totals,
        Err(error) => return (rest.into_inner(), Err(error)),
    };
    let (rest, inodes) = rest.finish();
    let tree = &unpacker.tree;
    let settled = inodes.and_then(|inodes| match tree.lost() {
        true => settle(&inodes, work, tree.root(), aside),
        false => Ok(()),
    });
    (rest, settled.map(|()| totals).map_err(UnpackError::Recipe))
}

/// Unpacks the same without recipe and without the contents of files, which are holes: for comparing a tree with what it
/// should be.
///
/// # Errors
/// [`UnpackError`].
pub(crate) fn outline<R: BufRead>(
    stream: R,
    (root, aside): (OwnedFd, BorrowedFd<'_>),
    shape: Shape,
) -> (R, Result<Unpacked, UnpackError>) {
    let limits = Limits { entries: u64::MAX, bytes: u64::MAX, file: u64::MAX };
    let mut unpacker = Unpacker::new(Tree::new(root, aside), (limits, shape), Contents::Measured);
    let (rest, outcome) = unpacker.run(Recording::off(stream));
    (rest.into_inner(), outcome)
}

/// The work on one layer.
struct Unpacker<'a> {
    tree: Tree<'a>,
    contents: Contents,
    creator: Creator,
    limits: Limits,
    shape: Shape,
    totals: Unpacked,
    /// Bytes of the names of `directories`, and of those that were there.
    names: u64,
    /// What directories get when everything is in them.
    directories: BTreeMap<TreePath, Metadata>,
}

/// What becomes of the contents of files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    Written,
    /// Only their length.
    Measured,
}

/// The archive, recorded as it is read.
type Archive<R> = Entries<Recording<R>>;

impl<'a> Unpacker<'a> {
    fn new(tree: Tree<'a>, (limits, shape): (Limits, Shape), contents: Contents) -> Self {
        let (creator, totals) = (Creator::current(), Unpacked { shape, ..Unpacked::default() });
        Self { tree, contents, creator, limits, shape, totals, names: 0, directories: BTreeMap::new() }
    }

    fn run<R: BufRead>(&mut self, stream: Recording<R>) -> (Recording<R>, Result<Unpacked, UnpackError>) {
        let mut entries = Entries::new(stream);
        let outcome = self.all(&mut entries);
        (entries.into_inner(), outcome.map(|()| self.totals))
    }

    fn all<R: BufRead>(&mut self, entries: &mut Archive<R>) -> Result<(), UnpackError> {
        while let Some(entry) = entries.next()? {
            self.count(&entry)?;
            let target = self
                .shape
                .target(&entry.path)
                .map_err(|refusal| UnpackError::refused(&entry.path, refusal))?;
            match target {
                Target::Entry(path) if path.is_root() => self.root(&entry)?,
                Target::Entry(path) => self.entry(&entry, path, entries)?,
                Target::Whiteout(path) => self.whiteout(&path)?,
                Target::Opaque(path) => self.opaque(&path)?,
                Target::Bookkeeping | Target::Manifest => {}
            }
        }
        // Those of the last entry, too.
        self.totals.entries += self.tree.take_made();
        self.check("entries", self.totals.entries, self.limits.entries)?;
        self.finish_directories()
    }

    /// Before anything is done for the entry.
    fn count(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        self.totals.entries += 1 + self.tree.take_made();
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        self.totals.bytes = self.totals.bytes.saturating_add(size);
        let Limits { entries, bytes, file } = self.limits;
        self.check("entries", self.totals.entries, entries)?;
        self.check("bytes in one file", size, file)?;
        self.check("bytes unpacked", self.totals.bytes, bytes)
    }

    fn check(&self, what: &'static str, used: u64, limit: u64) -> Result<(), UnpackError> {
        if used > limit { Err(UnpackError::Limit { what, limit }) } else { Ok(()) }
    }

    fn root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(UnpackError::refused(&entry.path, Refusal::Root));
        }
        let mut metadata = Metadata::of(entry)?;
        metadata.apply_xattrs(self.tree.root(), &entry.path)?;
        let _ = self.directories.insert(TreePath::root(), metadata);
        Ok(())
    }

    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: TreePath,
        entries: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let mut metadata = Metadata::of(entry)?;
        let (parent, name) = path.split();
        let parent =
            self.tree.directory(parent).map_err(UnpackError::system("open the directory of", &entry.path))?;
        let dir = &parent.fd;
        // Links can lead to where a path is longer than anybody could name: the layer could not be verified there.
        if parent.child(name).len() > path::PATH_MAX {
            return Err(UnpackError::refused(&entry.path, Refusal::TooLong));
        }
        match entry.kind {
            Kind::Directory => {
                self.directory(dir, name, &entry.path)?;
                if metadata.has_xattrs() {
                    let made = file::open_directory(dir, name);
                    let made = made.map_err(UnpackError::system("open the directory", &entry.path))?;
                    metadata.apply_xattrs(made, &entry.path)?;
                }
                self.names += path.as_bytes().len() as u64;
                let _ = self.directories.insert(path, metadata);
                let most = self.limits.entries.saturating_mul(NAME);
                self.check("bytes of names of directories", self.names, most)
            }
            Kind::File => self.file(&parent, (name, &path), entry.size, &metadata, entries),
            Kind::Symlink => {
                self.totals.opens_outputs |= path::is_output(&entry.link);
                self.symlink(dir, name, &path, &entry.link, &metadata)
            }
            Kind::Hardlink => self.hardlink(dir, name, &path, &entry.link),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                self.node(dir, name, &path, entry, &metadata)
            }
        }
    }

    /// Makes the directory `name`, unless it is there.
    fn directory(&mut self, dir: &OwnedFd, name: &[u8], entry: &[u8]) -> Result<(), UnpackError> {
        use rustix::fs::{Mode, mkdirat};
        let failed = || UnpackError::system("make the directory", entry);
        match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed()(error)),
        }
        let found = Tree::look(dir, name).map_err(failed())?;
        if found == Found::Directory {
            return Ok(());
        }
        let _ = self.tree.clear(dir, name).map_err(failed())?;
        mkdirat(dir, name, Mode::from_raw_mode(0o755)).map_err(failed())?;
        if found == Found::Whiteout {
            // Lower layers' directory of this name is hidden: so is what is in it.
            let made = file::open_directory(dir, name).map_err(failed())?;
            set_opaque(&made).map_err(UnpackError::system("mark as opaque", entry))?;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &TreePath) -> Result<(), UnpackError> {
        use rustix::fs::{FileType, Mode, mknodat};
        let (parent, name) = path.split();
        let failed = || UnpackError::system("make a whiteout for", path.as_bytes());
        let parent = self.tree.directory(parent).map_err(failed())?;
        let dir = &parent.fd;
        match Tree::look(dir, name).map_err(failed())? {
            Found::Nothing => {
                mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0).map_err(failed())
            }
            Found::Directory => {
                let directory = file::open_directory(dir, name).map_err(failed())?;
                set_opaque(&directory).map_err(failed())
            }
            // What this layer has of that name hides what is below without help.
            Found::Whiteout | Found::Other => Ok(()),
        }
    }

    fn opaque(&mut self, path: &TreePath) -> Result<(), UnpackError> {
        if path.is_root() {
            self.totals.opaque_root = true;
            return Ok(());
        }
        let failed = || UnpackError::system("mark as opaque", path.as_bytes());
        let dir = self.tree.directory(path.as_bytes()).map_err(failed())?;
        set_opaque(&dir.fd).map_err(failed())
    }

    /// Forgets what was planned for a directory that is gone, and for those in it.
    fn forget(&mut self, path: &TreePath) {
        let _ = self.directories.remove(path);
        let inside = path.inside();
        while let Some(key) = self.directories.range(&inside..).next().map(|(key, _)| key.clone())
            && key.as_bytes().starts_with(inside.as_bytes())
        {
            let _ = self.directories.remove(&key);
        }
    }

    fn finish_directories(&mut self) -> Result<(), UnpackError> {
        for (path, metadata) in std::mem::take(&mut self.directories) {
            let failed = || UnpackError::system("set the metadata of the directory", path.as_bytes());
            let (parent, name) = path.split();
            if path.is_root() {
                metadata.apply_to_directory(self.tree.root(), &self.creator, path.as_bytes())?;
                continue;
            }
            let opened = self.tree.existing(parent).and_then(|dir| file::open_directory(&dir.fd, name));
            match opened {
                Ok(directory) => metadata.apply_to_directory(&directory, &self.creator, path.as_bytes())?,
                // Replaced meanwhile, through another name.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        Ok(())
    }
}
