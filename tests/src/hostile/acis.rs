//! ACIs: what is beside the root file system, manifests that lie, and the tricks of layers where they mean something else.

use serde_json::{Value, json};

use super::archive::{Archive, Entry};
use super::layout::{Image, gzip};
use super::{Case, OUTSIDE, harmless, refused};

/// A manifest in order, with changes.
fn manifest(changes: &Value) -> Vec<u8> {
    let arch = if cfg!(target_arch = "aarch64") { "aarch64" } else { "amd64" };
    let mut manifest = json!({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/app",
        "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": arch}]});
    if let (Some(all), Some(changes)) = (manifest.as_object_mut(), changes.as_object()) {
        all.extend(changes.clone());
    }
    manifest.to_string().into_bytes()
}

fn begin() -> Archive {
    Archive::default().file("manifest", manifest(&json!({}))).dir("rootfs")
}

fn whole(archive: Archive) -> Image {
    let archive = archive.end();
    let file = gzip(&archive);
    Image::aci(&archive, file)
}

fn says(changes: &Value) -> Image {
    whole(Archive::default().file("manifest", manifest(changes)).file("rootfs/f", b"x"))
}

fn text(text: &str) -> Image {
    whole(Archive::default().file("manifest", text).file("rootfs/f", b"x"))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = archives();
    cases.extend(manifests());
    cases
}

fn archives() -> Vec<Case> {
    let new = Archive::default;
    let good = begin().file("rootfs/f", b"x").end();
    let cut = |end: usize| Image::aci(&good, gzip(good.get(..end).unwrap_or_default()));
    let packed = gzip(&good);
    vec![
        refused("without-a-manifest", whole(new().file("rootfs/f", b"x")), "\"manifest\""),
        refused("without-a-root", whole(new().file("manifest", manifest(&json!({})))), "\"rootfs\""),
        refused("nothing", whole(new()), "\"manifest\""),
        refused("two-manifests", whole(begin().file("manifest", manifest(&json!({})))), "one regular file"),
        refused(
            "manifest-is-a-link",
            whole(new().symlink("manifest", "/etc/passwd").dir("rootfs")),
            "one regular file",
        ),
        refused("manifest-is-a-directory", whole(new().dir("manifest").dir("rootfs")), "one regular file"),
        refused(
            "manifest-of-5-megabytes",
            whole(new().file("manifest", vec![b' '; 5 << 20]).dir("rootfs")),
            "manifest of 5242880 bytes",
        ),
        refused("a-third-thing", whole(begin().file("etc/passwd", b"x")), "\"etc/passwd\" is refused"),
        refused(
            "almost-the-root",
            whole(begin().file("rootfs-evil/f", b"x")),
            "\"rootfs-evil/f\" is refused",
        ),
        refused("dot-dot", whole(begin().file("rootfs/../../evil", b"x")), "\"..\""),
        refused("dot-dot-back-in", whole(begin().file("rootfs/../rootfs/f", b"x")), "\"..\""),
        refused(
            "root-is-a-link",
            whole(new().file("manifest", manifest(&json!({}))).symlink("rootfs", OUTSIDE)),
            "root must be a directory",
        ),
        refused(
            "root-is-a-file",
            whole(new().file("manifest", manifest(&json!({}))).file("rootfs", b"x")),
            "root must be a directory",
        ),
        refused(
            "hardlink-to-outside",
            whole(begin().hardlink("rootfs/h", format!("{OUTSIDE}/file"))),
            "is refused",
        ),
        refused(
            "hardlink-to-the-manifest",
            whole(begin().hardlink("rootfs/h", "manifest")),
            "cannot be linked",
        ),
        refused(
            "hardlink-through-a-link",
            whole(begin().symlink("rootfs/s", OUTSIDE).hardlink("rootfs/h", "rootfs/s/file")),
            "cannot link",
        ),
        refused("whiteout-device", whole(begin().add(Entry::new(b'3', "rootfs/d"))), "would be a whiteout"),
        refused(
            "opaque-by-attribute",
            whole(begin().add(Entry::new(b'5', "rootfs/d").attribute("trusted.overlay.opaque", "y"))),
            "obeys",
        ),
        refused("a-layer-of-another-image", whole(new().dir("etc").file("etc/passwd", b"x")), "is refused"),
        refused("cut-off", cut(2000), "ends in the middle of an entry"),
        refused(
            "compressed-and-cut-off",
            Image::aci(&good, packed.get(..packed.len() - 9).unwrap_or_default().to_vec()),
            "incomplete deflate stream",
        ),
        refused("garbage", Image::aci(&good, vec![0x5a; 4096]), "not a tar archive"),
        refused("empty", Image::aci(&good, Vec::new()), "\"manifest\""),
        refused("garbage-behind-it", Image::aci(&good, [&packed[..], b"garbage"].concat()), "cannot"),
        harmless(
            "a-whiteout-is-a-file",
            whole(begin().file("rootfs/.wh.f", b"").file("rootfs/.wh..wh..opq", b"")),
            |root| {
                assert!(root.join(".wh.f").is_file() && root.join(".wh..wh..opq").is_file());
            },
        ),
        harmless(
            "through-a-link",
            whole(begin().symlink("rootfs/s", OUTSIDE).file("rootfs/s/new", b"x")),
            |root| {
                assert!(root.join(OUTSIDE.trim_start_matches('/')).join("new").is_file());
            },
        ),
        harmless(
            "in-the-other-order",
            whole(new().file("rootfs/f", b"x").file("manifest", manifest(&json!({})))),
            |root| {
                assert!(root.join("f").is_file() && !root.join("manifest").exists());
            },
        ),
    ]
}

fn manifests() -> Vec<Case> {
    let label = |name: &str, value: &str| json!([{"name": name, "value": value}]);
    vec![
        refused("another-kind", says(&json!({"acKind": "PodManifest"})), "of kind \"PodManifest\""),
        refused("kind-for-a-terminal", says(&json!({"acKind": "\u{1b}[2J\u{7}"})), "of kind"),
        refused("name-for-a-terminal", says(&json!({"name": "\u{1b}[2J"})), "is not the name of an ACI"),
        refused("name-that-climbs", says(&json!({"name": "../../etc/passwd"})), "is not the name of an ACI"),
        refused(
            "name-of-a-megabyte",
            says(&json!({"name": "a".repeat(1 << 20)})),
            "is not the name of an ACI",
        ),
        refused("label-for-a-terminal", says(&json!({"labels": label("\u{1b}[2J", "x")})), "is not a label"),
        refused(
            "label-twice",
            says(&json!({"labels": [{"name": "os", "value": "linux"}, {"name": "os", "value": "linux"}]})),
            "is given twice",
        ),
        refused(
            "whitelist-that-climbs",
            says(&json!({"pathWhitelist": ["/../../etc/passwd"]})),
            "whitelists",
        ),
        refused("whitelist-of-a-relative-path", says(&json!({"pathWhitelist": ["f"]})), "whitelists"),
        harmless("whitelist-of-nothing-there", says(&json!({"pathWhitelist": ["/missing"]})), |root| {
            assert!(!root.join("missing").exists())
        }),
        refused(
            "key-given-twice",
            text(
                r#"{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/a","name":"example.com/b"}"#,
            ),
            "cannot parse the image manifest",
        ),
        refused("nested-a-million-times", text(&"[".repeat(1 << 20)), "cannot parse the image manifest"),
        refused("no-json", text("<html>"), "cannot parse the image manifest"),
        refused(
            "dependency-on-itself",
            says(&json!({"dependencies": [{"imageName": "example.com/app", "imageID": "sha512-0"}]})),
            "depends on itself",
        ),
        refused(
            "dependencies-without-end",
            says(&json!({"dependencies": vec![json!({"imageName": "example.com/base"}); 257]})),
            "more than 256 dependencies",
        ),
    ]
}
