//! Recipes: what a layer's tar stream has besides the contents of the files in its tree.
//!
//! A tree and its recipe make the exact stream again whose digest is the layer's diff id. That is how a tree is verified
//! without keeping a copy of it, and how a layer is exported byte for byte. A recipe is written while the layer is
//! unpacked ([`Recording`]): whatever passes that does not become content of a file is recorded as it is. If a later
//! entry replaced a file, its content is put into the recipe at the end, where it is not in the tree any more
//! ([`settle`]). [`Rebuild`] makes the stream again.
//!
//! One zstd frame with a checksum; in it, after [`MAGIC`], records until the one that ends them. Numbers are unsigned
//! LEB128.
//!
//! ```text
//! 0                                    the end
//! 1  length  bytes                     bytes of the stream
//! 2  size  length  path  crc32 (4, LE) the next `size` bytes of the stream are the content of the file at `path`
//! ```
//!
//! Paths are relative to the tree's root and contain no links: they are where the file was made. The CRC is there to
//! tell which file is damaged when the stream's digest says that one is.

mod reader;
mod rebuild;
mod recording;
mod settle;
mod writer;

pub(crate) use rebuild::Rebuild;
pub use rebuild::{Difference, Wrong};
pub(crate) use recording::{RECIPE, Recording, create};
pub(crate) use settle::{keep, settle};

/// What every recipe begins with.
const MAGIC: &[u8; 8] = b"recipe1\n";
/// A path cannot be longer: the kernel would not have taken it.
const PATH_MAX: u64 = 4096;

const END: u8 = 0;
const RAW: u8 = 1;
const FILE: u8 = 2;

/// A file whose content is part of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Beneath the tree's root, without links.
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) crc: u32,
}
