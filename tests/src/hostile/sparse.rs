//! Sparse files, in the four ways in which GNU tar has written them: refused by name, because a reader that does not
//! know one of them takes the map of the holes for the file.

use super::archive::{Archive, Entry};
use super::{Case, refused};

pub(super) fn cases() -> Vec<Case> {
    let with = |records: &[(&str, &str)], data: &[u8]| {
        let entry = Entry::new(b'0', "GNUSparseFile.1/f").data(data);
        Archive::default().add(records.iter().fold(entry, |entry, (key, value)| entry.record(key, value)))
    };
    let old = Entry::new(b'S', "f").set("magic", b"ustar  \0").set("prefix", b"00000000000\0");
    let offsets = [
        ("GNU.sparse.size", "1048576"),
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.offset", "0"),
        ("GNU.sparse.numbytes", "5"),
    ];
    let map = [
        ("GNU.sparse.size", "1099511627776"),
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.map", "0,5"),
        ("GNU.sparse.name", "../evil"),
    ];
    let whole = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "/etc/evil"),
        ("GNU.sparse.realsize", "9223372036854775807"),
    ];
    vec![
        refused("old", Archive::default().add(old.clone()), "sparse"),
        refused(
            "old-with-a-size-beyond-measure",
            Archive::default().add(old.set("size", [0x7f; 12])),
            "size",
        ),
        refused("offsets", with(&offsets, b"hello"), "sparse"),
        refused("map", with(&map, b"hello"), "sparse"),
        refused("map-in-the-data", with(&whole, b"1\n0\n5\nhello"), "sparse"),
        refused("only-a-name", with(&[("GNU.sparse.name", "../evil")], b""), "sparse"),
    ]
}
