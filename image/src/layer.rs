//! One layer on its way into the store: download, verify, inflate, verify, unpack, all at once.
//!
//! ```text
//!  source ─▶ [download: digest, size] ─▶ pipe ─▶ [inflate] ─▶ pipe ─▶ [digest, unpack] ─▶ tree
//! ```
//!
//! Three threads, so that a layer takes as long as its slowest stage. Nothing is believed before the end: the tree is
//! in the store's work directory until the compressed bytes have the manifest's digest and size and the tar stream has
//! the configuration's diff id. How a layer is compressed is seen from its first bytes; what its media type says about
//! that is often wrong and never needed.
//!
//! A stage that fails closes its pipes, which stops the others. The stage furthest upstream is the one to blame: what
//! came after it only saw a stream that ended early. A stage that finds nonsense reads on to the end, so that damage
//! is called damage (the digest is wrong) and not a bad archive.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;

use oci_spec::image::Descriptor;

use crate::compression;
use crate::digest::{Digest, Hasher};
use crate::manifest::digest_of;
use crate::pipe::{Closed, Reader, Writer, pipe};
use crate::progress::{LayerEvent, Progress};
use crate::recipe::create;
use crate::source::{Source, SourceError};
use crate::store::{BlobRecord, WorkDirs};
use crate::unpack::{Limits, Shape, UnpackError, Unpacked, unpack};

/// The name of the layer as it was transported, beside its tree.
pub(crate) const BLOB: &str = "blob";

/// A layer cannot be brought into the store.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The source does not have it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The download broke off.
    #[error("cannot download the layer")]
    Download(#[source] io::Error),
    /// More or fewer bytes than announced.
    #[error("the layer has {found} bytes, the manifest announces {expected}")]
    Size {
        /// By the manifest.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The bytes that came are not the layer.
    #[error("the layer is corrupt: what came has the digest {found}")]
    Corrupt {
        /// The digest of what came.
        found: Digest,
    },
    /// What came cannot be written down.
    #[error("cannot keep the layer as it came")]
    Keep(#[source] io::Error),
    /// It cannot be decompressed.
    #[error("cannot decompress the layer")]
    Inflate(#[source] io::Error),
    /// It decompresses to more than the limits allow.
    #[error("the layer decompresses to more than {limit} bytes")]
    Bomb {
        /// The limit.
        limit: u64,
    },
    /// It decompresses to something else than the configuration says.
    #[error("the unpacked layer has the digest {found}, the image's configuration says {expected}")]
    DiffId {
        /// By the configuration.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// Its archive cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// What to bring where.
pub(crate) struct Delivery<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) limits: &'a Limits,
    pub(crate) shape: Shape,
    pub(crate) progress: &'a dyn Progress,
    /// Whether to keep the layer as it is transported, beside its tree.
    pub(crate) keep_blob: bool,
    /// Set when the fetch has failed elsewhere: there is no point in going on.
    pub(crate) cancelled: &'a AtomicBool,
}

/// How a stage ended, if not in an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    /// The stage behind it closed the pipe.
    Stopped,
}

impl Delivery<'_> {
    /// Unpacks the layer into the root of `work`, and writes its recipe beside it.
    pub(crate) fn run(&self, work: WorkDirs) -> Result<Unpacked, LayerError> {
        let expected = digest_of(self.descriptor).map_err(SourceError::from)?;
        let blob = self.source.blob(self.descriptor)?;
        let kept = self.kept().is_some().then(|| create(work.dir.as_fd(), BLOB)).transpose();
        let kept = kept.map_err(LayerError::Keep)?;
        self.progress.layer(expected, LayerEvent::Started { size: self.descriptor.size() });
        let limit = self.limits.stream();
        let (compressed_in, compressed_out) = pipe();
        let (tar_in, tar_out) = pipe();
        std::thread::scope(|scope| {
            let download = scope.spawn(move || self.download(blob, kept, expected, compressed_in));
            let inflate = scope.spawn(move || inflate(compressed_out, tar_in, limit));
            let unpacked = self.unpack(tar_out.hashing(self.diff_id.algorithm()), work);
            let (download, inflate) = (join(download), join(inflate));
            match (download?, inflate?) {
                (End::Complete, End::Complete) => unpacked,
                // Stopped by what failed behind: that error is the one to tell.
                _ => unpacked.and(Err(LayerError::Download(io::ErrorKind::Interrupted.into()))),
            }
        })
    }

    /// What is kept of the layer besides its tree. One that is not compressed is not kept: the tree and its recipe make
    /// the same bytes.
    pub(crate) fn kept(&self) -> Option<BlobRecord> {
        let digest = digest_of(self.descriptor).ok()?;
        let media_type = self.descriptor.media_type().to_string();
        let record = BlobRecord { digest, media_type, size: self.descriptor.size() };
        (self.keep_blob && digest != self.diff_id).then_some(record)
    }

    fn download(
        &self,
        mut blob: impl Read,
        mut kept: Option<File>,
        expected: Digest,
        mut pipe: Writer,
    ) -> Result<End, LayerError> {
        let (mut hasher, mut found) = (Hasher::new(expected.algorithm()), 0);
        let mut keeping = Ok(());
        loop {
            let look = |bytes: &[u8]| {
                hasher.update(bytes);
                if let Some(file) = &mut kept {
                    keeping = file.write_all(bytes);
                }
                self.progress.layer(expected, LayerEvent::Received { bytes: bytes.len() as u64 });
            };
            match pipe.fill_from(&mut blob, look) {
                Err(Closed) => return Ok(End::Stopped),
                Ok(Err(error)) => return Err(LayerError::Download(error)),
                Ok(Ok(0)) => break,
                Ok(Ok(count)) => found += count as u64,
            }
            std::mem::replace(&mut keeping, Ok(())).map_err(LayerError::Keep)?;
            if self.cancelled.load(Ordering::Relaxed) {
                return Ok(End::Stopped);
            }
            if found > self.descriptor.size() {
                break;
            }
        }
        let size = self.descriptor.size();
        match hasher.finish() {
            _ if found != size => Err(LayerError::Size { expected: size, found }),
            found if found != expected => Err(LayerError::Corrupt { found }),
            _ => Ok(End::Complete),
        }
    }

    fn unpack(&self, stream: Reader, work: WorkDirs) -> Result<Unpacked, LayerError> {
        let dirs = (work.root, work.aside.as_fd(), work.dir.as_fd());
        let (rest, outcome) = unpack(stream, dirs, (self.limits, self.shape));
        if outcome.as_ref().is_err_and(|error| !error.is_format()) {
            return Ok(outcome?);
        }
        let found = rest.finish().map_err(LayerError::Download)?;
        let expected = self.diff_id;
        if found != expected {
            return Err(LayerError::DiffId { expected, found });
        }
        Ok(outcome?)
    }
}

fn inflate(mut from: Reader, to: Writer, limit: u64) -> Result<End, LayerError> {
    let outcome = compression::decoder(&mut from)
        .map_err(LayerError::Inflate)
        .and_then(|mut decoder| copy(&mut decoder, to, limit));
    if outcome.is_err() {
        // To the end, for the digest. The rest is of no interest, nor is why it might not come.
        let _ = io::copy(&mut from, &mut io::sink());
    }
    outcome
}

fn copy(from: &mut dyn Read, mut to: Writer, limit: u64) -> Result<End, LayerError> {
    let mut total = 0_u64;
    loop {
        match to.fill_from(from, |_| {}) {
            Err(Closed) => return Ok(End::Stopped),
            Ok(Err(error)) => return Err(LayerError::Inflate(error)),
            Ok(Ok(0)) => return Ok(End::Complete),
            Ok(Ok(count)) => total += count as u64,
        }
        if total > limit {
            return Err(LayerError::Bomb { limit });
        }
    }
}

/// A panic in a stage is a panic of the whole.
fn join<T>(stage: ScopedJoinHandle<'_, T>) -> T {
    stage.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
