//! Hard links: to outside, through links, to what is not there.

use std::os::unix::fs::MetadataExt as _;

use super::archive::{Archive, Entry};
use super::{Case, OUTSIDE, harmless, refused};

pub(super) fn cases() -> Vec<Case> {
    let new = Archive::default;
    vec![
        refused(
            "to-dot-dot",
            new().hardlink("h", format!("../../../../../../../..{OUTSIDE}/file")),
            "\"..\"",
        ),
        refused("to-outside", new().hardlink("h", format!("{OUTSIDE}/file")), "cannot link"),
        refused(
            "through-a-link-to-outside",
            new().symlink("s", OUTSIDE).hardlink("h", "s/file"),
            "cannot link",
        ),
        refused(
            "through-a-parent-that-became-a-link",
            new().file("d/other", b"x").symlink("d", OUTSIDE).hardlink("h", "d/file"),
            "cannot link",
        ),
        refused("to-a-lower-layer", [new().file("f", b"x"), new().hardlink("h", "f")], "No such file"),
        refused("to-nothing", new().hardlink("h", "missing"), "No such file"),
        refused("to-a-directory", new().dir("d").hardlink("h", "d"), "cannot be linked"),
        refused("to-the-root", new().hardlink("h", "/"), "cannot be linked"),
        refused("to-no-name", new().hardlink("h", ""), "cannot be linked"),
        refused("to-a-whiteout", new().file(".wh.w", b"").hardlink("h", "w"), "cannot be linked"),
        refused("over-the-root", new().file("f", b"x").hardlink(".", "f"), "root must be a directory"),
        refused("to-a-long-name", new().file("f", b"x").hardlink("h", "n".repeat(300)), "too long"),
        refused(
            "to-a-name-with-nul",
            new().file("f", b"x").add(Entry::new(b'1', "h").record("linkpath", b"f\0x")),
            "malformed",
        ),
        harmless(
            "to-a-link-is-the-link",
            new().symlink("s", format!("{OUTSIDE}/file")).hardlink("h", "s").file("h", b"x"),
            |root| {
                assert!(root.join("s").is_symlink() && !root.join("h").is_symlink());
            },
        ),
        harmless(
            "writing-to-one-leaves-the-other",
            new().file("a", b"old").hardlink("b", "a").file("b", b"new"),
            |root| {
                assert_eq!(std::fs::read(root.join("a")).ok().as_deref(), Some(&b"old"[..]));
            },
        ),
        harmless("to-itself", new().file("a", b"x").hardlink("a", "a").hardlink("./a", "/a"), |root| {
            assert_eq!(root.join("a").metadata().map(|m| (m.nlink(), m.len())).ok(), Some((1, 1)));
        }),
        harmless(
            "with-data",
            new().file("a", b"x").add(Entry::new(b'1', "b").link("a").number("size", 4)).file("c", b""),
            |root| {
                // Old tools give a link its target's size; data never follows.
                assert!(root.join("c").exists());
            },
        ),
        refused("symlink-of-5000", new().symlink("s", "x".repeat(5000)), "too long"),
        refused("symlink-to-nothing", new().symlink("s", ""), "create"),
        harmless(
            "symlink-to-a-descriptor",
            new().symlink("s", "/proc/self/fd/7").symlink("t", "/proc/self/cwd").file("u/x", b""),
            |root| {
                assert!(root.join("s").is_symlink() && root.join("t").is_symlink());
            },
        ),
        harmless(
            "through-a-magic-link",
            new().symlink("s", "/proc/self/root/etc").file("s/hostile", b"x"),
            |root| {
                assert!(root.join("proc/self/root/etc/hostile").is_file());
            },
        ),
    ]
}
