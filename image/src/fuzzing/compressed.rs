//! What decompresses layers: four formats, of which two are read by libraries in Rust and two in C.

use std::io::{BufReader, Read as _};

use crate::compression::decoder;
use crate::digest::Digest;

/// A fuzzer's bomb need not be larger.
const MOST: u64 = 1 << 20;

/// Decompresses, from pieces of two sizes, which must not matter.
pub fn compressed(bytes: &[u8]) {
    let read = |size| {
        let mut found = Vec::new();
        let outcome = decoder(BufReader::with_capacity(size, bytes))
            .and_then(|decoder| decoder.take(MOST).read_to_end(&mut found));
        // How much comes before an error depends on the pieces.
        outcome.ok().map(|count| (count, Digest::of(&found)))
    };
    // As many bytes as are looked at to tell what it is must come at once.
    assert_eq!(read(16), read(64 << 10), "the size of pieces matters");
}
