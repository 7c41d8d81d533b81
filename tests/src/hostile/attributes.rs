//! Extended attributes: those that a kernel or overlayfs obeys, and too much of them.

use std::path::Path;

use super::archive::{Archive, Entry};
use super::{Case, harmless, refused};

/// `cap_net_raw+ep`, as setcap writes it.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Names of a file's extended attributes.
fn names(path: &Path) -> Vec<String> {
    let mut buffer = vec![0; 64 << 10];
    let count = rustix::fs::llistxattr(path, &mut buffer).unwrap_or_default();
    let names = buffer.get(..count).unwrap_or_default().split(|byte| *byte == 0);
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names
}

fn with(name: &str, value: impl AsRef<[u8]>) -> Archive {
    Archive::default().add(Entry::new(b'0', "f").attribute(name, value).data(b"x"))
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        refused("trusted-overlay-redirect", with("trusted.overlay.redirect", "/etc"), "obeys"),
        refused("trusted-overlay-metacopy", with("trusted.overlay.metacopy", ""), "obeys"),
        refused("trusted-overlay-origin", with("trusted.overlay.origin", "x"), "obeys"),
        refused("trusted-of-anybody", with("trusted.x", "y"), "obeys"),
        refused("user-overlay-opaque", with("user.overlay.opaque", "y"), "obeys"),
        refused(
            "user-overlay-on-a-directory",
            Archive::default().add(Entry::new(b'5', "d").attribute("user.overlay.redirect", "/etc")),
            "obeys",
        ),
        refused(
            "on-the-root",
            Archive::default().add(Entry::new(b'5', "./").attribute("trusted.overlay.opaque", "y")),
            "obeys",
        ),
        harmless("capability-is-kept", with("security.capability", CAPABILITY), |root| {
            let mut value = [0; 64];
            let count = rustix::fs::lgetxattr(root.join("f"), "security.capability", &mut value);
            assert_eq!(count.ok().and_then(|count| value.get(..count)), Some(CAPABILITY));
        }),
        harmless("users-own-are-kept", with("user.note", b"a\nb=\0"), |root| {
            assert_eq!(names(&root.join("f")), ["user.note"])
        }),
        harmless("lists-of-rights-are-dropped", with("system.posix_acl_access", [2, 0, 0, 0]), |root| {
            assert_eq!(names(&root.join("f")), [""; 0])
        }),
        harmless("labels-are-dropped", with("security.selinux", "system_u:object_r:etc_t:s0\0"), |root| {
            assert_eq!(names(&root.join("f")), [""; 0])
        }),
        harmless("integrity-is-dropped", with("security.ima", [3; 40]), |root| {
            assert_eq!(names(&root.join("f")), [""; 0])
        }),
        harmless(
            "other-key-of-libarchive",
            Archive::default()
                .add(Entry::new(b'0', "f").record("LIBARCHIVE.xattr.trusted.overlay.opaque", "eQ==")),
            |root| {
                assert_eq!(names(&root.join("f")), [""; 0]);
            },
        ),
        harmless(
            "of-a-hardlink-are-not-its-targets",
            Archive::default().file("f", b"x").add(Entry::new(b'1', "g").link("f").attribute("user.x", "y")),
            |root| {
                assert_eq!(names(&root.join("f")), [""; 0]);
            },
        ),
        refused("capability-that-is-none", with("security.capability", "nonsense"), "extended attribute"),
        refused("value-beyond-the-kernels", with("user.big", vec![b'x'; 100_000]), "extended attribute"),
        refused(
            "name-beyond-the-kernels",
            with(&format!("user.{}", "n".repeat(300)), "x"),
            "extended attribute",
        ),
        refused("name-without-a-name", with("user.", "x"), "extended attribute"),
        refused("name-with-nul", with("user.a\0b", "x"), "extended attribute"),
        refused("a-megabyte-of-them", with("user.big", vec![b'x'; 2 << 20]), "more than 1048576"),
    ]
}
