//! Sizes, times and lengths that lie, in every dialect that has numbers.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::archive::{Archive, Entry, record};
use super::paths::base256;
use super::{Case, harmless, refused};

fn mtime(root: &Path) -> Option<(i64, i64)> {
    root.join("f").metadata().map(|m| (m.mtime(), m.mtime_nsec())).ok()
}

fn file() -> Entry {
    Entry::new(b'0', "f")
}

/// An extended header of exactly these bytes before a file.
fn extended(kind: u8, bytes: impl AsRef<[u8]>) -> Archive {
    Archive::default().add(Entry::new(kind, "pax").data(bytes)).file("f", b"hello")
}

pub(super) fn cases() -> Vec<Case> {
    let add = |entry| Archive::default().add(entry);
    vec![
        refused("size-below-zero", add(file().set("size", [0xff; 12])), "\"size\""),
        refused("size-beyond-64-bits", add(file().set("size", [0xbf; 12])), "\"size\""),
        refused("size-in-letters", add(file().set("size", "0000000000x")), "\"size\""),
        refused("size-of-an-exabyte", add(file().set("size", base256(1 << 60))), "in one file"),
        refused("size-of-40-gigabytes", add(file().record("size", "42949672960")), "in one file"),
        refused("size-of-all-bits", add(file().record("size", "18446744073709551615")), "in one file"),
        refused("size-beyond-all-bits", add(file().record("size", "18446744073709551616")), "\"size\""),
        refused("size-minus-one", add(file().record("size", "-1")), "\"size\""),
        refused("size-that-is-not-there", Archive::default().raw(file_without_data()), "middle of an entry"),
        harmless(
            "size-overridden-by-a-record",
            add(file().number("size", 0).record("size", "5")).raw(padded(b"hello")),
            |root| {
                assert_eq!(std::fs::read(root.join("f")).ok().as_deref(), Some(&b"hello"[..]));
            },
        ),
        harmless(
            "size-of-a-directory",
            add(Entry::new(b'5', "d").number("size", 1 << 30)).file("f", b""),
            |root| assert!(root.join("f").is_file()),
        ),
        harmless("time-before-1970", add(file().record("mtime", "-1.25")), |root| {
            assert_eq!(mtime(root), Some((-2, 750_000_000)))
        }),
        harmless("time-before-1970-in-base-256", add(file().set("mtime", [0xff; 12])), |root| {
            assert_eq!(mtime(root), Some((-1, 0)))
        }),
        harmless("time-of-all-bits", add(file().record("mtime", "9223372036854775807.999999999")), |root| {
            assert!(mtime(root).is_some())
        }),
        harmless(
            "time-below-all-bits",
            add(file().record("mtime", "-9223372036854775807.999999999")),
            |root| assert!(mtime(root).is_some()),
        ),
        refused("time-beyond-all-bits", add(file().record("mtime", "9223372036854775808")), "\"mtime\""),
        refused("time-with-an-exponent", add(file().record("mtime", "1e9")), "\"mtime\""),
        refused("checksum-wrong", add(file().damaged().set("checksum", "000001\0 ")), "checksum"),
        refused("checksum-below-zero", add(file().damaged().set("checksum", [0xff; 8])), "checksum"),
        harmless("record-taken-back", add(file().record("path", "other").record("path", "")), |root| {
            assert!(root.join("f").is_file() && !root.join("other").exists())
        }),
        harmless(
            "record-given-twice",
            add(file().record("path", "first").record("path", "second")),
            |root| {
                assert!(root.join("second").is_file() && !root.join("first").exists());
            },
        ),
        refused("record-longer-than-its-header", extended(b'x', "99 path=evil\n"), "malformed"),
        refused("record-shorter-than-itself", extended(b'x', "5 path=evil\n"), "malformed"),
        refused("record-of-length-zero", extended(b'x', "0 path=evil\n"), "malformed"),
        refused("record-without-an-end", extended(b'x', "12 path=evilX"), "malformed"),
        refused("record-without-a-value", extended(b'x', "8 path\n\n"), "malformed"),
        refused(
            "record-of-a-length-beyond-measure",
            extended(b'x', "99999999999999999999 path=x\n"),
            "malformed",
        ),
        refused("record-of-a-length-below-zero", extended(b'x', "-12 path=x\n"), "malformed"),
        harmless("global-header-changes-nothing", extended(b'g', record(b"path", b"../evil")), |root| {
            assert!(root.join("f").is_file())
        }),
        harmless("global-header-is-not-even-read", extended(b'g', "0 nonsense"), |root| {
            assert!(root.join("f").is_file())
        }),
        refused("headers-without-an-entry", Archive::default().raw(headers_only()), "middle of an entry"),
        harmless(
            "archive-without-an-end",
            super::Image::new(vec![super::Layer::gzip(&Archive::default().file("f", b"hello").open())]),
            |root| {
                assert!(root.join("f").is_file());
            },
        ),
        harmless(
            "entries-after-the-end",
            Archive::default().file("f", b"x").raw([0; 1024]).file("hidden", b"x"),
            |root| {
                assert!(root.join("f").is_file() && !root.join("hidden").exists());
            },
        ),
    ]
}

/// The data of an entry that is written by hand.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(super::archive::BLOCK), 0);
    bytes
}

fn file_without_data() -> Vec<u8> {
    Archive::default().add(file().number("size", 1 << 20)).open()
}

/// An extended header, and the archive is cut off in the middle of it.
fn headers_only() -> Vec<u8> {
    Archive::default().add(Entry::new(b'x', "pax").number("size", 5000)).open()
}
