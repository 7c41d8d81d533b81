//! Devices, pipes, special modes, owners.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::archive::{Archive, Entry};
use super::{Case, harmless, refused};

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().map_or(0, |metadata| metadata.mode() & 0o7777)
}

pub(super) fn cases() -> Vec<Case> {
    let new = Archive::default;
    vec![
        // Kept as they are: what they may do is decided where the tree is mounted (nodev, nosuid in pods).
        harmless(
            "disk",
            new().add(Entry::new(b'4', "sda").number("major", 8).number("mode", 0o666)),
            |root| {
                assert!(root.join("sda").symlink_metadata().is_ok_and(|m| m.file_type().is_block_device()));
            },
        ),
        harmless(
            "memory",
            new().add(Entry::new(b'3', "mem").number("major", 1).number("minor", 1)),
            |root| {
                assert!(root.join("mem").symlink_metadata().is_ok_and(|m| m.file_type().is_char_device()));
            },
        ),
        harmless("pipe", new().add(Entry::new(b'6', "pipe").number("mode", 0o7777)).file("f", b""), |root| {
            assert!(root.join("pipe").symlink_metadata().is_ok_and(|m| m.file_type().is_fifo()));
        }),
        harmless("writing-to-a-pipe", new().add(Entry::new(b'6', "pipe")).file("pipe", b"x"), |root| {
            assert!(root.join("pipe").is_file())
        }),
        harmless(
            "writing-to-a-device",
            new().add(Entry::new(b'3', "null").number("major", 1).number("minor", 3)).file("null", b"x"),
            |root| {
                assert!(root.join("null").symlink_metadata().is_ok_and(|m| m.is_file()));
            },
        ),
        refused(
            "below-a-device",
            new().add(Entry::new(b'3', "d").number("major", 1).number("minor", 3)).file("d/x", b""),
            "Not a directory",
        ),
        refused(
            "device-number-beyond-measure",
            new().add(Entry::new(b'3', "d").set("major", [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
            "device number",
        ),
        refused("socket", new().add(Entry::new(b's', "s")), "not supported"),
        refused("volume-header", new().add(Entry::new(b'V', "v")), "not supported"),
        refused("multi-volume", new().add(Entry::new(b'M', "m")), "not supported"),
        refused("dump-directory", new().add(Entry::new(b'D', "d")), "not supported"),
        refused("type-nobody-knows", new().add(Entry::new(0xff, "f")), "not supported"),
        harmless(
            "setuid",
            new().add(Entry::new(b'0', "su").number("mode", 0o6755).number("uid", 5).data(b"x")),
            |root| {
                assert_eq!(mode(&root.join("su")), 0o6755);
            },
        ),
        harmless(
            "setuid-directory",
            new().add(Entry::new(b'5', "d").number("mode", 0o7777)).file("d/f", b""),
            |root| {
                assert_eq!((mode(&root.join("d")), mode(&root.join("d/f"))), (0o7777, 0o644));
            },
        ),
        harmless(
            "setgid-is-not-passed-on",
            new()
                .add(Entry::new(b'5', "d").number("mode", 0o2777).number("gid", 9))
                .dir("d/e")
                .file("d/f", b""),
            |root| {
                assert_eq!(root.join("d/f").metadata().map(|m| m.gid()).ok(), Some(0));
                assert_eq!(mode(&root.join("d/e")), 0o755);
            },
        ),
        harmless("mode-of-more-bits", new().add(Entry::new(b'0', "f").set("mode", "7777777\0")), |root| {
            assert_eq!(mode(&root.join("f")), 0o7777)
        }),
        harmless(
            "unreadable-root",
            new().add(Entry::new(b'5', "./").number("mode", 0)).file("f", b""),
            |root| assert_eq!(mode(root), 0),
        ),
        refused(
            "owner-minus-one",
            new().add(Entry::new(b'0', "f").set("uid", [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
            "owner",
        ),
        refused("owner-of-33-bits", new().add(Entry::new(b'0', "f").record("gid", "4294967296")), "owner"),
        refused("owner-below-zero", new().add(Entry::new(b'0', "f").set("uid", [0xff; 8])), "\"uid\""),
        harmless("highest-owner", new().add(Entry::new(b'0', "f").record("uid", "4294967294")), |root| {
            assert_eq!(root.join("f").metadata().map(|m| m.uid()).ok(), Some(u32::MAX - 1));
        }),
        harmless(
            "a-file-becomes-everything",
            new()
                .file("x", b"")
                .dir("x")
                .symlink("x", "y")
                .add(Entry::new(b'6', "x"))
                .add(Entry::new(b'3', "x").number("minor", 7))
                .dir("x")
                .file("x/f", b"x"),
            |root| {
                assert!(root.join("x/f").is_file());
            },
        ),
    ]
}
