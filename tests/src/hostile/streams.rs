//! Compression, and what surrounds an archive: cut off, damaged, wrong about itself, larger than memory.

use super::archive::Archive;
use super::layout::{Image, Layer, digest, gzip};
use super::{Case, harmless, refused};

/// A frame of zstd that wants 2 TiB of memory to be read, and holds nothing.
const ZSTD_WINDOW: &[u8] = b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00";
/// `xz --lzma2=dict=1536MiB` of the word hello.
const XZ_DICTIONARY: &[u8] =
    b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0\x21\x01\x25\0\0\0\x3b\x78\x7b\x41\x01\0\x04hello\0\0\0\0";

pub(super) fn cases() -> Vec<Case> {
    let archive = Archive::default().file("f", noise(100_000)).end();
    let whole = gzip(&archive);
    let part = |end: usize| whole.get(..end).unwrap_or_default().to_vec();
    let layer = |bytes: Vec<u8>| Layer { bytes, diff_id: digest(&archive) };
    let with = |end: &[u8]| layer([&whole, end].concat());
    let mut flipped = whole.clone();
    flipped.iter_mut().skip(whole.len() / 2).take(1).for_each(|byte| *byte ^= 1);
    let (first, second) = archive.split_at(archive.len() / 2);
    vec![
        refused("empty", layer(Vec::new()), "configuration says"),
        refused("cut-off", layer(part(whole.len() / 2)), "decompress"),
        refused("without-its-checksum", layer(part(whole.len() - 4)), "decompress"),
        refused("header-only", layer(part(10)), "decompress"),
        refused("magic-only", layer(part(2)), "decompress"),
        refused("a-bit-is-wrong", layer(flipped), "decompress"),
        refused("garbage-behind-it", with(b"garbage"), "decompress"),
        refused("half-a-member-behind-it", with(&part(100)), "decompress"),
        refused("another-member-behind-it", with(&gzip(b"more")), "configuration says"),
        harmless(
            "empty-members-behind-it",
            layer([whole.clone(), gzip(b"").repeat(1000)].concat()),
            |root| assert!(root.join("f").is_file()),
        ),
        harmless("in-two-members", layer([gzip(first), gzip(second)].concat()), |root| {
            assert!(root.join("f").is_file())
        }),
        harmless("not-compressed", Layer::plain(&archive), |root| assert!(root.join("f").is_file())),
        refused(
            "compressed-twice",
            Layer { bytes: gzip(&whole), diff_id: digest(&archive) },
            "configuration says",
        ),
        refused(
            "compressed-twice-and-honest",
            Layer { bytes: gzip(&whole), diff_id: digest(&whole) },
            "checksum",
        ),
        refused(
            "archive-cut-off",
            Layer::gzip(archive.get(..50_000).unwrap_or_default()),
            "middle of an entry",
        ),
        refused("header-cut-off", Layer::gzip(archive.get(..300).unwrap_or_default()), "middle of an entry"),
        refused("no-archive", Layer::gzip(&noise(5000)), "checksum"),
        harmless("nothing", Layer::gzip(b""), |root| {
            assert_eq!(std::fs::read_dir(root).map(Iterator::count).ok(), Some(0))
        }),
        harmless("zeros", Layer::gzip(&[0; 1 << 20]), |root| {
            assert_eq!(std::fs::read_dir(root).map(Iterator::count).ok(), Some(0))
        }),
        harmless("garbage-after-the-end", Layer::gzip(&[&archive[..], &noise(70_000)].concat()), |root| {
            assert!(root.join("f").is_file())
        }),
        refused("window-of-2-terabytes", layer(ZSTD_WINDOW.to_vec()), "decompress"),
        refused("zstd-magic-only", layer(ZSTD_WINDOW.get(..4).unwrap_or_default().to_vec()), "decompress"),
        refused("dictionary-of-1536-megabytes", layer(XZ_DICTIONARY.to_vec()), "decompress"),
        refused("bzip2-magic-only", layer(b"BZh9".to_vec()), "decompress"),
        refused(
            "diff-id-lies",
            Layer { bytes: gzip(&archive), diff_id: digest(b"something else") },
            "configuration says",
        ),
        refused(
            "second-layer-lies",
            Image::new(vec![Layer::gzip(&archive), Layer { bytes: gzip(b""), diff_id: digest(second) }]),
            "configuration says",
        ),
        refused(
            "bytes-differ-from-the-digest",
            Image::from(layer(whole.clone())).blob(&digest(&whole), noise(whole.len())),
            "corrupt",
        ),
        refused(
            "fewer-bytes-than-announced",
            Image::from(layer(whole.clone())).blob(&digest(&whole), part(1000)),
            "1000 bytes",
        ),
        refused(
            "more-bytes-than-announced",
            Image::from(layer(whole.clone())).blob(&digest(&whole), [&whole[..], b"x"].concat()),
            "bytes, the manifest",
        ),
        refused(
            "no-bytes",
            Image::from(layer(whole.clone())).blob(&digest(&whole), b""),
            "bytes, the manifest",
        ),
    ]
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}
