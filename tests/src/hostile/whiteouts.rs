//! Whiteouts that hide what they must not, and what looks like one to overlayfs.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::archive::{Archive, Entry};
use super::{Case, OUTSIDE, harmless, refused};

fn is_whiteout(path: &Path) {
    let metadata = path.symlink_metadata();
    let whiteout = metadata.is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0);
    assert!(whiteout, "{} is no whiteout", path.display());
}

pub(super) fn cases() -> Vec<Case> {
    let new = Archive::default;
    vec![
        refused("of-nothing", new().file(".wh.", b""), "must name"),
        refused("of-the-directory", new().file("d/.wh..", b""), "must name"),
        refused("of-the-parent", new().file("d/.wh...", b""), "must name"),
        refused("of-dot-dot-slash", new().file("d/.wh.../x", b""), "within a whiteout"),
        refused("inside-a-whiteout", new().file("d/.wh.x/y", b""), "within a whiteout"),
        refused("climbs", new().file("../.wh.file", b""), "\"..\""),
        refused("opaque-climbs", new().file("../.wh..wh..opq", b""), "\"..\""),
        refused("device-0-0", new().add(Entry::new(b'3', "d")), "would be a whiteout"),
        refused(
            "device-cut-to-0-0",
            new().add(Entry::new(b'3', "d").set("major", b"\x80\0\0\0\0\0\x10\0")),
            "device number",
        ),
        refused(
            "minor-cut-to-0",
            new().add(Entry::new(b'3', "d").set("minor", b"\x80\0\0\0\0\x10\0\0")),
            "device number",
        ),
        refused(
            "opaque-by-attribute",
            new().add(Entry::new(b'5', "d").attribute("trusted.overlay.opaque", "y")),
            "obeys",
        ),
        refused(
            "whiteout-by-attribute",
            new().add(Entry::new(b'0', "f").attribute("user.overlay.whiteout", "")),
            "obeys",
        ),
        refused("hardlink-multiplies-one", new().file(".wh.a", b"").hardlink("b", "a"), "cannot be linked"),
        harmless("through-a-link", new().symlink("s", OUTSIDE).file("s/.wh.file", b""), |root| {
            is_whiteout(&root.join(OUTSIDE.trim_start_matches('/')).join("file"));
        }),
        harmless("opaque-through-a-link", new().symlink("s", OUTSIDE).file("s/.wh..wh..opq", b""), |root| {
            assert!(root.join(OUTSIDE.trim_start_matches('/')).is_dir());
        }),
        harmless("of-what-the-layer-has", new().file("f", b"x").file(".wh.f", b""), |root| {
            assert!(root.join("f").is_file())
        }),
        harmless("of-a-directory-it-has", new().file("d/f", b"x").file(".wh.d", b""), |root| {
            assert!(root.join("d/f").is_file())
        }),
        harmless("and-then-a-file", new().file(".wh.f", b"").file("f", b"x"), |root| {
            assert!(root.join("f").is_file())
        }),
        harmless("and-then-inside", new().file(".wh.d", b"").file("d/f", b"x"), |root| {
            assert!(root.join("d/f").is_file())
        }),
        harmless("as-a-link", new().symlink(".wh.f", OUTSIDE), |root| is_whiteout(&root.join("f"))),
        harmless("as-a-directory", new().dir(".wh.f"), |root| is_whiteout(&root.join("f"))),
        harmless("as-a-hardlink", new().hardlink(".wh.f", "missing"), |root| is_whiteout(&root.join("f"))),
        harmless("with-data", new().file(".wh.f", b"not nothing").file("g", b""), |root| {
            is_whiteout(&root.join("f"))
        }),
        harmless(
            "bookkeeping",
            new().file(".wh..wh.plnk/1.2", b"x").file("d/.wh..wh.aufs", b"x").file("f", b""),
            |root| {
                assert!(!root.join(".wh..wh.plnk").exists() && root.join("f").exists());
            },
        ),
        harmless(
            "opaque-root",
            [new().file("below", b"x"), new().file(".wh..wh..opq", b"").file("f", b"")],
            |root| assert!(root.join("f").exists()),
        ),
        harmless("file-over-a-directory-below", [new().file("d/f", b"x"), new().file("d", b"y")], |root| {
            assert!(root.join("d").is_file())
        }),
    ]
}
