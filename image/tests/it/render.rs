//! Copies of images' file systems: compared with what overlayfs shows, which is what apps see.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use image::{Existing, Image, NewDirectory};

use crate::build::{Bench, Entry, Layer, Tar, chain, run};

fn render(image: &Image, to: &Path) {
    let new = NewDirectory::create(to, Existing::Refuse).unwrap();
    image::render(&image.layers, new.directory()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    new.publish().unwrap();
}

/// Everything that can be seen of a tree, in a mount namespace where `mount` was called before.
fn listing(mount: &str, root: &Path) -> Vec<String> {
    let find = "find . -printf '%P|%y|%m|%U|%G|%T@|%l|' -type d -printf '\\n' -o -printf '%n|%s\\n' | sort";
    let script = format!("{mount} && cd {} && {find}", root.display());
    let text = run("unshare", &["--mount", "sh", "-euc", &script]);
    text.lines().map(str::to_owned).collect()
}

fn layers() -> Vec<Vec<u8>> {
    let node = |flag, name: &'static str, device| Entry {
        flag,
        name: name.as_bytes(),
        mode: 0o660,
        owner: (0, 6),
        device,
        ..Entry::default()
    };
    let base = Tar::default()
        .add(Entry { flag: b'5', name: b"./", mode: 0o755, mtime: 5, ..Entry::default() })
        .add(Entry { flag: b'5', name: b"etc", mode: 0o751, owner: (3, 4), mtime: 77, ..Entry::default() })
        .file("etc/kept", b"kept")
        .file("etc/gone", b"gone")
        .file("etc/replaced", b"old")
        .dir("hidden")
        .file("hidden/below", b"x")
        .dir("turned")
        .file("turned/inside", b"x")
        .file("file-then-dir", b"x")
        .hardlink("etc/second-name", "etc/kept")
        .symlink("link", "/etc/kept")
        .symlink("out", "../../../../etc/shadow")
        .add(node(b'3', "null", (1, 3)))
        .add(node(b'4', "disk", (8, 1)))
        .add(node(b'6', "pipe", (0, 0)))
        .add(Entry { name: b"su", mode: 0o4755, owner: (0, 50), data: b"su", ..Entry::default() })
        .add(Entry {
            name: b"cap",
            mode: 0o755,
            xattrs: &[("security.capability", CAP)],
            ..Entry::default()
        });
    let middle = Tar::default()
        .file("etc/.wh.gone", b"")
        .file("etc/replaced", b"new")
        .file("hidden/.wh..wh..opq", b"")
        .file("hidden/above", b"y")
        .file("turned", b"now a file")
        .dir("file-then-dir")
        .file("file-then-dir/inside", b"z")
        .add(Entry { flag: b'5', name: b"deep/er", mode: 0o1777, mtime: 99, ..Entry::default() });
    let top = Tar::default()
        .file(".wh.turned", b"")
        .dir("turned")
        .file("turned/again", b"q")
        .file("deep/er/x", b"");
    [base, middle, top].into_iter().map(Tar::end).collect()
}

/// cap_net_raw, permitted and effective.
const CAP: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_copy_is_what_overlayfs_shows() {
    let mut bench = Bench::new();
    let layers: Vec<Layer> = layers().iter().map(|tar| Layer::gzip(tar)).collect();
    let name = bench.image("x", &layers);
    let image = bench.fetch(&name).unwrap();
    let copy = bench.path("copy");
    render(&image, &copy);
    let lower: Vec<String> = image.layers.iter().rev().map(|path| path.display().to_string()).collect();
    let merged = bench.path("merged");
    std::fs::create_dir(&merged).unwrap();
    let mount = format!("mount -t overlay overlay -o lowerdir={} {}", lower.join(":"), merged.display());
    let (shown, copied) = (listing(&mount, &merged), listing("true", &copy));
    assert_eq!(shown, copied);
    assert!(copied.len() > 20 && copied.iter().any(|line| line.starts_with("etc/second-name|f|644|0|0|")));
    let inode = |name: &str| copy.join(name).symlink_metadata().unwrap().ino();
    assert_eq!(inode("etc/kept"), inode("etc/second-name"));
    let file = std::fs::File::open(copy.join("cap")).unwrap();
    let mut value = [0; 64];
    let length = rustix::fs::fgetxattr(file.as_fd(), "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], CAP);
    assert!(!copy.join("etc/gone").exists() && !copy.join("hidden/below").exists());
    bench.assert_clean();
}

#[test]
fn a_single_layer_keeps_no_whiteouts() {
    let mut bench = Bench::new();
    let tar = Tar::default().file(".wh.nothing", b"").file("d/.wh..wh..opq", b"").file("d/x", b"").end();
    let name = bench.image("x", &[Layer::gzip(&tar)]);
    let copy = bench.path("copy");
    render(&bench.fetch(&name).unwrap(), &copy);
    assert_eq!(listing("true", &copy).len(), 3);
    let dir = std::fs::File::open(copy.join("d")).unwrap();
    let mut names = [0; 1000];
    let count = rustix::fs::flistxattr(dir.as_fd(), &mut names).unwrap();
    assert!(!String::from_utf8_lossy(&names[..count]).contains("overlay"));
}

#[test]
fn a_tree_deeper_than_any_path_is_copied() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let bench = Bench::new();
    let (tree, copy) = (bench.path("tree"), bench.path("copy"));
    std::fs::create_dir(&tree).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(&tree, flags, Mode::empty()).unwrap();
    for _ in 0..300 {
        mkdirat(&dir, "directory-of-a-long-name", Mode::RWXU).unwrap();
        dir = openat(&dir, "directory-of-a-long-name", flags, Mode::empty()).unwrap();
    }
    mkdirat(&dir, "x", Mode::RWXU).unwrap();
    let new = NewDirectory::create(&copy, Existing::Refuse).unwrap();
    image::render(&[tree], new.directory()).unwrap();
    new.publish().unwrap();
    assert_eq!(run("find", &[copy.to_str().unwrap(), "-name", "x", "-printf", "%d"]), "301");
}

#[test]
fn nothing_is_left_of_a_copy_that_fails() {
    let bench = Bench::new();
    let to = bench.path("copy");
    let new = NewDirectory::create(&to, Existing::Refuse).unwrap();
    let missing = [PathBuf::from("/nonexistent/layer")];
    let error = chain(&image::render(&missing, new.directory()).unwrap_err());
    assert!(error.contains("cannot open the layer /nonexistent/layer"), "{error}");
    drop(new);
    assert!(!to.exists() && std::fs::read_dir(bench.path(".")).unwrap().count() == 1);
}
