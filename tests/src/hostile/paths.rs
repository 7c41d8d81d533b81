//! Names that lead elsewhere, directly or through what an earlier entry left.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::archive::{Archive, Entry};
use super::{Case, OUTSIDE, harmless, refused};

/// Up to the root from anywhere.
const UP: &str = "../../../../../../../../../../../..";

/// Where a name that leads to [`OUTSIDE`] ends up: in the tree.
fn inside(root: &Path, name: &str) -> std::path::PathBuf {
    root.join(OUTSIDE.trim_start_matches('/')).join(name)
}

fn is_file(path: &Path) {
    assert!(path.symlink_metadata().is_ok_and(|m| m.is_file()), "{} is no file", path.display());
}

fn is_link(path: &Path) {
    assert!(path.is_symlink(), "{} is no link", path.display());
}

pub(super) fn cases() -> Vec<Case> {
    let new = Archive::default;
    vec![
        refused("dot-dot", new().file("../evil", b"x"), "\"..\""),
        refused("dot-dot-inside", new().file("a/b/../../../evil", b"x"), "\"..\""),
        refused("dot-dot-alone", new().dir(".."), "\"..\""),
        refused("dot-dot-at-the-end", new().dir("a/.."), "\"..\""),
        refused("dot-dot-to-the-machine", new().file(format!("{UP}{OUTSIDE}/file"), b"x"), "\"..\""),
        refused("dot-dot-in-a-record", new().add(Entry::new(b'0', "a").record("path", "../evil")), "\"..\""),
        refused("dot-dot-by-prefix", new().add(Entry::new(b'0', "evil").set("prefix", "a/..")), "\"..\""),
        refused(
            "dot-dot-by-a-long-name",
            new().add(Entry::new(b'L', "././@LongLink").data("../evil\0")).file("a", b""),
            "\"..\"",
        ),
        harmless("absolute", new().file(format!("{OUTSIDE}/new"), b"x"), |root| {
            is_file(&inside(root, "new"))
        }),
        harmless("absolute-by-slashes", new().file("////etc//hostile", b"x"), |root| {
            is_file(&root.join("etc/hostile"))
        }),
        harmless("dots-alone", new().dir("./././.").file("././a/./b", b"x"), |root| {
            is_file(&root.join("a/b"))
        }),
        harmless("three-dots", new().file(".../a", b"x").file("..a/b..", b"x"), |root| {
            is_file(&root.join(".../a"));
            is_file(&root.join("..a/b.."));
        }),
        harmless("through-a-link", new().symlink("s", OUTSIDE).file("s/new", b"x"), |root| {
            is_link(&root.join("s"));
            is_file(&inside(root, "new"));
        }),
        harmless(
            "through-a-link-up",
            new().symlink("s", format!("{UP}{OUTSIDE}")).file("s/new", b"x"),
            |root| is_file(&inside(root, "new")),
        ),
        harmless(
            "through-two-links",
            new().symlink("a", OUTSIDE).symlink("b", "a/dir").file("b/new", b"x"),
            |root| is_file(&inside(root, "dir/new")),
        ),
        harmless("directory-through-a-link", new().symlink("s", OUTSIDE).dir("s/dir/new"), |root| {
            assert!(inside(root, "dir/new").is_dir())
        }),
        harmless("over-a-link", new().symlink("s", format!("{OUTSIDE}/file")).file("s", b"x"), |root| {
            is_file(&root.join("s"))
        }),
        harmless("through-a-link-below", [new().symlink("s", OUTSIDE), new().file("s/new", b"x")], |root| {
            // Each layer has a tree of its own: the link below is no link here.
            is_file(&root.join("s/new"));
        }),
        harmless(
            "directory-becomes-a-link",
            new().dir("d").file("d/one", b"1").symlink("d", OUTSIDE).file("d/new", b"x"),
            |root| {
                is_link(&root.join("d"));
                is_file(&inside(root, "new"));
            },
        ),
        harmless(
            "link-becomes-a-directory",
            new().symlink("d", OUTSIDE).dir("d").file("d/new", b"x"),
            |root| is_file(&root.join("d/new")),
        ),
        harmless(
            "grandparent-becomes-a-link",
            new().file("a/b/c/one", b"1").symlink("a/b", OUTSIDE).file("a/b/c/new", b"x"),
            |root| is_file(&inside(root, "c/new")),
        ),
        harmless(
            "parent-becomes-a-link-and-back",
            new()
                .file("a/b/one", b"1")
                .symlink("a", OUTSIDE)
                .file("a/b/two", b"2")
                .dir("a")
                .file("a/b/three", b"3"),
            |root| {
                assert!(!root.join("a/b/one").exists() && !root.join("a/b/two").exists());
                is_file(&root.join("a/b/three"));
                is_file(&inside(root, "b/two"));
            },
        ),
        harmless(
            "mode-of-a-directory-that-became-a-link",
            new()
                .add(Entry::new(b'5', "d").number("mode", 0o7777).number("uid", 7))
                .add(Entry::new(b'5', "d/dir").number("mode", 0o7777))
                .symlink("d", OUTSIDE),
            |root| is_link(&root.join("d")),
        ),
        refused("file-as-a-directory", new().file("f", b"x").file("f/x", b"y"), "Not a directory"),
        refused("root-as-a-file", new().file("/", b"x").file(".", b"x"), "root must be a directory"),
        refused("root-as-a-link", new().symlink("./", OUTSIDE), "root must be a directory"),
        refused(
            "links-in-a-circle",
            new().symlink("a", "b").symlink("b", "a").file("a/x", b""),
            "symbolic link",
        ),
        refused("link-to-itself", new().symlink("a", "a").file("a/x", b""), "symbolic link"),
        refused("nul-in-a-record", new().add(Entry::new(b'0', "a").record("path", b"a\0b")), "malformed"),
        harmless("newline-and-escapes", new().file(b"a\nb\x1b[31m\x07c", b"x"), |root| {
            is_file(&root.join("a\nb\x1b[31m\x07c"))
        }),
        harmless("not-utf-8", new().file(b"\xff\xfe", b"x"), |root| {
            is_file(&root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")))
        }),
        harmless("blank", new().file(" ", b"x").file("-rf", b"x"), |root| is_file(&root.join(" "))),
        refused("component-of-256", new().file("n".repeat(256), b"x"), "too long"),
        harmless("component-of-255", new().file("n".repeat(255), b"x"), |root| {
            is_file(&root.join("n".repeat(255)))
        }),
        refused("path-of-5000", new().file("d/".repeat(2500) + "f", b"x"), "too long"),
        harmless("path-of-4000", new().file("d/".repeat(1990) + "f", b"x"), |root| {
            assert!(root.join("d/d").is_dir())
        }),
        refused(
            "name-of-4-gigabytes",
            new().add(Entry::new(b'L', "././@LongLink").set("size", base256(4 << 30))),
            "more than 1048576",
        ),
        refused(
            "record-of-4-gigabytes",
            new().add(Entry::new(b'x', "pax").set("size", base256(4 << 30))),
            "more than 1048576",
        ),
        refused(
            "name-of-a-megabyte",
            new().add(Entry::new(b'L', "././@LongLink").data("d/".repeat(500_000))).file("a", b""),
            "too long",
        ),
        harmless(
            "upper-and-lower-case",
            new().symlink("Dir", OUTSIDE).file("dir/new", b"x").file("DIR/new", b"x"),
            |root| {
                is_file(&root.join("dir/new"));
                is_file(&root.join("DIR/new"));
            },
        ),
        harmless(
            "the-same-file-again",
            (0..50).fold(new(), |archive, at| archive.file("f", format!("{at}"))),
            |root| {
                assert_eq!(std::fs::read(root.join("f")).ok().as_deref(), Some(&b"49"[..]));
            },
        ),
        harmless(
            "directory-over-a-file-below",
            [new().file("f", b"below"), new().file("f/x", b"above")],
            |root| is_file(&root.join("f/x")),
        ),
    ]
}

/// GNU's way to write large numbers.
pub(super) fn base256(value: u64) -> [u8; 12] {
    let mut field = [0x80; 12];
    for (to, from) in field.iter_mut().skip(1).zip([0; 3].into_iter().chain(value.to_be_bytes())) {
        *to = from;
    }
    field
}
