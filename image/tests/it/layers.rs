//! What a lawful archive becomes.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::build::{Bench, Entry, Layer, Tar, noise};

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

#[test]
fn metadata_is_kept() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let all = |flag, name: &'static [u8]| Entry { flag, name, owner: (7, 8), mtime: 77, ..Entry::default() };
    let tar = Tar::default()
        .add(Entry { mode: 0o2775, ..all(b'5', b"setgid/") })
        .add(Entry {
            mode: 0o4755,
            data: b"x",
            xattrs: &[("security.capability", capability)],
            ..all(b'0', b"setgid/suid")
        })
        .add(Entry {
            mode: 0o666,
            xattrs: &[("user.a", b"1\n2"), ("security.selinux", b"no")],
            ..all(b'0', b"setgid/plain")
        })
        .add(Entry { link: b"plain", ..all(b'2', b"setgid/link") })
        .add(Entry { mode: 0o666, device: (1, 3), ..all(b'3', b"null") })
        .add(Entry { mode: 0o620, ..all(b'6', b"fifo") })
        .hardlink("hard", "setgid/suid")
        .add(Entry { mode: 0o700, ..all(b'5', b"./") })
        .end();
    let mut bench = Bench::new();
    let root = bench.unpack(&tar).unwrap();
    let stat = |name: &str| root.join(name).symlink_metadata().unwrap();
    let table = [
        ("", 0o40700),
        ("setgid", 0o42775),
        ("setgid/suid", 0o104755),
        ("setgid/plain", 0o100666),
        ("setgid/link", 0o120777),
        ("null", 0o20666),
        ("fifo", 0o10620),
    ];
    for (name, mode) in table {
        let found = stat(name);
        assert_eq!(format!("{:o}", found.mode()), format!("{mode:o}"), "{name}");
        assert_eq!((found.uid(), found.gid(), found.mtime()), (7, 8, 77), "{name}");
    }
    assert_eq!(stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!((stat("hard").ino(), stat("hard").nlink()), (stat("setgid/suid").ino(), 2));
    assert_eq!(xattr(&root.join("hard"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&root.join("setgid/plain"), "user.a").as_deref(), Some(&b"1\n2"[..]));
    assert_eq!(xattr(&root.join("setgid/plain"), "security.selinux"), None);
}

#[test]
fn whiteouts_are_what_overlayfs_expects() {
    let tar = Tar::default()
        .file("etc/.wh.gone", b"")
        .dir("opaque/")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        // This layer hides lower directories and has its own: in either order, and without an entry for it.
        .file(".wh.first", b"")
        .dir("first")
        .dir("second")
        .file(".wh.second", b"")
        .file(".wh.third", b"")
        .file("third/file", b"")
        // A file of this layer needs no whiteout.
        .file(".wh.file", b"")
        .file("file", b"x")
        .file("other", b"x")
        .file(".wh.other", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .end();
    let mut bench = Bench::new();
    let root = bench.unpack(&tar).unwrap();
    let opaque = |name: &str| xattr(&root.join(name), "trusted.overlay.opaque").as_deref() == Some(b"y");
    assert!(is_whiteout(&root.join("etc/gone")));
    for name in ["opaque", "first", "second", "third"] {
        assert!(opaque(name), "{name} must be opaque");
    }
    assert!(!opaque("etc"));
    assert!(root.join("opaque/new").is_file() && root.join("third/file").is_file());
    assert!(root.join("file").is_file() && root.join("other").is_file());
    let names: Vec<_> =
        std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.starts_with(".wh")), "{names:?}");
}

/// The kernel's own opinion of the trees.
#[test]
fn overlayfs_shows_what_the_layers_mean() {
    let lower =
        Tar::default().file("a/one", b"1").file("a/two", b"2").file("b/three", b"3").file("c", b"c").end();
    let upper =
        Tar::default().file("a/.wh.one", b"").dir("b").file("b/.wh..wh..opq", b"").file("c", b"C").end();
    let mut bench = Bench::new();
    let name = bench.image("x", &[Layer::gzip(&lower), Layer::zstd(&upper)]);
    let image = bench.fetch(&name).unwrap();
    let layers: Vec<_> = image.layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    std::fs::create_dir(bench.path("merged")).unwrap();
    let merged = bench.path("merged").display().to_string();
    let script = format!(
        "mount -t overlay overlay -o lowerdir={} {merged} && cd {merged} && find . -type f | sort && cat c",
        layers.join(":")
    );
    let shown = crate::build::run("unshare", &["-m", "sh", "-c", &script]);
    assert_eq!(shown, "./a/two\n./c\nC");
}

#[test]
fn a_layer_that_hides_everything_below_is_the_lowest() {
    let layers = [
        Layer::gzip(&Tar::default().file("low", b"").end()),
        Layer::gzip(&Tar::default().file(".wh..wh..opq", b"").file("middle", b"").end()),
        Layer::gzip(&Tar::default().file("high", b"").end()),
    ];
    let mut bench = Bench::new();
    let name = bench.image("x", &layers);
    let image = bench.fetch(&name).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert!(image.layers[0].join("middle").exists() && image.layers[1].join("high").exists());
}

/// nginx's image, for one, has its logs as links to /dev/stdout, which cannot be opened when it is a socket.
#[test]
fn images_that_open_their_output_by_name_are_known() {
    let link = |target| Entry { flag: b'2', name: b"var/log/access.log", link: target, ..Entry::default() };
    for (target, expected) in [(&b"/dev/stdout"[..], true), (b"/proc/self/fd/2", true), (b"/dev/null", false)]
    {
        let mut bench = Bench::new();
        let upper = Layer::gzip(&Tar::default().add(link(target)).end());
        let name = bench.image("x", &[Layer::gzip(&Tar::default().file("a", b"").end()), upper]);
        assert_eq!(bench.fetch(&name).unwrap().opens_outputs, expected, "{target:?}");
    }
}

#[test]
fn later_entries_win() {
    let tar = Tar::default()
        .file("f", b"old and long")
        .file("f", b"new")
        .dir("d")
        .file("d/in/deep/file", b"")
        .file("d", b"was a directory")
        .file("g", b"was a file")
        .dir("g")
        .file("g/in", b"")
        .dir("kept")
        .file("kept/in", b"")
        .add(Entry { flag: b'5', name: b"kept", mode: 0o711, ..Entry::default() })
        .file("h", b"1")
        .hardlink("i", "h")
        .file("i", b"2")
        .hardlink("h", "h")
        .end();
    let mut bench = Bench::new();
    let root = bench.unpack(&tar).unwrap();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(
        (read("f"), read("d"), read("h"), read("i")),
        ("new".into(), "was a directory".into(), "1".into(), "2".into())
    );
    assert!(root.join("g/in").is_file() && root.join("kept/in").is_file());
    assert_eq!(root.join("kept").metadata().unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn dangling_links_lead_to_where_they_will() {
    let tar = Tar::default()
        .symlink("var/run", "/run")
        .file("var/run/pid", b"1")
        .symlink("lib", "usr/lib")
        .file("lib/so", b"")
        .end();
    let mut bench = Bench::new();
    let root = bench.unpack(&tar).unwrap();
    assert!(root.join("run/pid").is_file() && root.join("usr/lib/so").is_file());
    assert!(root.join("var/run").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn every_compression_gives_the_same_tree() {
    let data = noise(3, 2_000_000);
    let tar = Tar::default().file("data", &data).dir("empty").end();
    for layer in [Layer::gzip(&tar), Layer::zstd(&tar), Layer::plain(&tar)] {
        let mut bench = Bench::new();
        let name = bench.image("x", &[layer]);
        let image = bench.fetch(&name).unwrap();
        assert_eq!(std::fs::read(image.layers[0].join("data")).unwrap(), data);
        assert!((2_000_000..2_010_000).contains(&image.size), "{} bytes", image.size);
    }
}

#[test]
fn neither_the_umask_nor_the_data_directorys_group_shows_in_a_tree() {
    let tar = Tar::default()
        .file("implied/file", b"")
        .dir("dir")
        .add(Entry { mode: 0o666, name: b"dir/open", ..Entry::default() })
        .add(Entry { flag: b'6', mode: 0o666, name: b"dir/fifo", ..Entry::default() })
        .end();
    let mut bench = Bench::new();
    let name = bench.image("x", &[Layer::gzip(&tar)]);
    let program = crate::build::fetch_program().display().to_string();
    let data = bench.path("data").display().to_string();
    let script = format!(
        "mkdir {data} && chgrp 50 {data} && chmod 2750 {data} && umask 077 && {program} {data}/cas {name}"
    );
    let output = crate::build::run("sh", &["-c", &script]);
    let root = Path::new(output.lines().nth(1).unwrap());
    for (name, mode) in [
        ("", 0o40755),
        ("implied", 0o40755),
        ("implied/file", 0o100644),
        ("dir", 0o40755),
        ("dir/open", 0o100666),
        ("dir/fifo", 0o10666),
    ] {
        let found = root.join(name).symlink_metadata().unwrap();
        assert_eq!((format!("{:o}", found.mode()), found.gid()), (format!("{mode:o}"), 0), "{name}");
    }
}
