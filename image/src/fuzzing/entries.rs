//! Archives of a few names that meet: the fuzzer chooses entries, not bytes.
//!
//! Chance seldom makes two entries speak of the same file. Here every byte of the input is a choice: what kind of
//! entry, which of a few names, which of a few targets, so that directories replace links that replace directories.

use std::path::Path;

use super::archive::{BLOCK, fix_checksums, tar};

/// Parts of names and of the targets of links. `OUTSIDE` is where the canary is.
const PARTS: [&str; 16] = [
    "a",
    "a",
    "b",
    "b",
    "c",
    ".wh.a",
    ".wh.b",
    ".wh..wh..opq",
    ".",
    "",
    "..",
    "OUTSIDE",
    "dir",
    "file",
    ".wh.",
    "d",
];
const FLAGS: &[u8; 16] = b"0005555222211113";
const ATTRIBUTES: [&str; 8] = [
    "user.x",
    "security.capability",
    "trusted.overlay.opaque",
    "user.overlay.opaque",
    "trusted.x",
    "system.posix_acl_access",
    "security.selinux",
    "user.",
];

/// Makes an archive of what the bytes choose, and does with it as [`tar`] does.
pub fn entries(choices: &[u8], place: &Path) {
    let mut choices = choices.iter().copied();
    let mut archive = Vec::new();
    for _ in 0..60 {
        let Some(first) = choices.next() else { break };
        entry(first, &mut choices, place, &mut archive);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    fix_checksums(&mut archive);
    tar(&archive, place);
}

fn entry(first: u8, choices: &mut impl Iterator<Item = u8>, place: &Path, archive: &mut Vec<u8>) {
    let flag = FLAGS.get(usize::from(first % 16)).copied().unwrap_or(b'0');
    let path = name(usize::from(first >> 4) % 4 + 1, choices, place);
    let link = match flag {
        b'1' | b'2' => name(usize::from(choices.next().unwrap_or_default()) % 5, choices, place),
        _ => String::new(),
    };
    if first >> 6 == 3 {
        let attribute = usize::from(choices.next().unwrap_or_default());
        let attribute = ATTRIBUTES.get(attribute % ATTRIBUTES.len()).copied().unwrap_or_default();
        extended(&format!("SCHILY.xattr.{attribute}=y"), archive);
    }
    // Names that do not fit into a header have a record of their own.
    for (key, text) in [("path", &path), ("linkpath", &link)] {
        if text.len() > 100 {
            extended(&format!("{key}={text}"), archive);
        }
    }
    let data: &[u8] = if flag == b'0' { b"dead" } else { b"" };
    block(flag, &path, &link, data, archive);
}

fn name(parts: usize, choices: &mut impl Iterator<Item = u8>, place: &Path) -> String {
    let part = |choice: u8| PARTS.get(usize::from(choice % 16)).copied().unwrap_or_default();
    let parts: Vec<&str> = choices.take(parts).map(part).collect();
    parts.join("/").replace("OUTSIDE", &place.join("outside").to_string_lossy())
}

/// One record: its length counts itself.
fn extended(record: &str, archive: &mut Vec<u8>) {
    let rest = record.len() + 2;
    let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap_or_default();
    block(b'x', "pax", "", format!("{length} {record}\n").as_bytes(), archive);
}

/// A header and its data. The checksum comes later.
fn block(flag: u8, name: &str, link: &str, data: &[u8], archive: &mut Vec<u8>) {
    let cut = |text: &str, size: usize| {
        let mut field: Vec<u8> = text.bytes().take(size).collect();
        field.resize(size, 0);
        field
    };
    archive.extend(cut(name, 100));
    archive.extend_from_slice(b"0007777\x000000011\x000000011\0");
    archive.extend(format!("{:011o}\x0000000000007\x00        ", data.len()).bytes());
    archive.push(flag);
    archive.extend(cut(link, 100));
    archive.extend_from_slice(b"ustar\x0000");
    archive.extend(cut("", 64));
    archive.extend_from_slice(b"0000001\x000000003\0");
    archive.extend(cut("", 167));
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}
