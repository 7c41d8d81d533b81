//! What a fetch tells whoever is watching.

use crate::digest::Digest;

/// Something that happened to a layer, which is named by the digest of what is downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerEvent {
    /// The store has it: nothing to do.
    Present,
    /// Another process is fetching it; this one waits for the result.
    Waiting,
    /// The download begins.
    Started {
        /// Bytes to come, compressed.
        size: u64,
    },
    /// More of it has come.
    Received {
        /// Bytes since the last report, compressed.
        bytes: u64,
    },
    /// Verified and unpacked; now it is being made durable.
    Unpacked,
    /// In the store.
    Done,
    /// It failed; the fetch will return the reason.
    Failed,
}

/// Watches a fetch. Called from several threads at once, often: it must be quick.
pub trait Progress: Sync {
    /// `event` happened to `layer`.
    fn layer(&self, layer: Digest, event: LayerEvent);
}

/// Nobody watches.
impl Progress for () {
    fn layer(&self, _: Digest, _: LayerEvent) {}
}
