//! Archives that want out, or want too much. Each is fetched as a layer of an image, and a canary beside the store
//! must never notice.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use proptest::prelude::*;

use image::{FetchOptions, Limits, PullPolicy, fetch};

use crate::build::{Bench, Entry, Layer, Tar, chain, gzip};

/// A file outside everything, which no archive may change.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("image-canary").tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "alive").unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn assert_alive(&self, case: &str) {
        assert_eq!(std::fs::read(self.0.path().join("file")).unwrap(), b"alive", "{case}");
        assert_eq!(std::fs::metadata(self.0.path().join("file")).unwrap().nlink(), 1, "{case}");
        let names: Vec<_> =
            std::fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{case}: {names:?}");
        assert_eq!(std::fs::read_dir(self.0.path().join("dir")).unwrap().count(), 0, "{case}");
    }
}

#[test]
fn archives_that_are_refused() {
    let canary = Canary::new();
    let up = format!("../../../../../../../../../..{}", canary.path());
    let device = |flag, device| Entry { flag, name: b"dev", device, ..Entry::default() };
    let xattr = |xattrs| Entry { name: b"f", xattrs, ..Entry::default() };
    let long = "n".repeat(300);
    let deep = "d/".repeat(2500) + "f";
    let table = [
        ("dot dot", Tar::default().file("../evil", b"x"), ".."),
        ("dot dot inside", Tar::default().file("a/../../evil", b"x"), ".."),
        ("dot dot to the canary", Tar::default().file(&format!("{up}/file"), b"dead"), ".."),
        ("hardlink to dot dot", Tar::default().hardlink("l", &format!("{up}/file")), ".."),
        (
            "hardlink to outside",
            Tar::default().hardlink("l", &format!("{}/file", canary.path())),
            "cannot link",
        ),
        (
            "hardlink through a link",
            Tar::default().symlink("s", canary.path()).hardlink("l", "s/file"),
            "cannot link",
        ),
        ("hardlink to a directory", Tar::default().dir("d").hardlink("l", "d"), "cannot be linked"),
        ("hardlink to the root", Tar::default().hardlink("l", "/"), "cannot be linked"),
        ("hardlink to a whiteout", Tar::default().file(".wh.a", b"").hardlink("b", "a"), "cannot be linked"),
        ("hardlink to nothing", Tar::default().hardlink("l", "missing"), "No such file"),
        ("whiteout device", Tar::default().add(device(b'3', (0, 0))), "would be a whiteout"),
        ("device whose number is cut to 0:0", Tar::default().add(device(b'3', (4096, 0))), "device number"),
        ("the same with the minor", Tar::default().add(device(b'3', (0, 1 << 20))), "device number"),
        ("empty whiteout", Tar::default().file(".wh.", b""), "must name"),
        ("whiteout of itself", Tar::default().file("d/.wh..", b""), "must name"),
        ("whiteout of the parent", Tar::default().file("d/.wh...", b""), "must name"),
        ("inside a whiteout", Tar::default().file("d/.wh.x/y", b""), "within a whiteout"),
        ("opaque by attribute", Tar::default().add(xattr(&[("trusted.overlay.opaque", b"y")])), "obeys"),
        ("redirect by attribute", Tar::default().add(xattr(&[("trusted.overlay.redirect", b"/x")])), "obeys"),
        ("any trusted attribute", Tar::default().add(xattr(&[("trusted.x", b"y")])), "obeys"),
        (
            "overlay attribute of users",
            Tar::default().add(xattr(&[("user.overlay.whiteout", b"y")])),
            "obeys",
        ),
        ("root as a file", Tar::default().file("./", b"").file(".", b"x"), "must be a directory"),
        ("root as a link", Tar::default().symlink("/", "/etc"), "must be a directory"),
        ("long name", Tar::default().file(&long, b""), "too long"),
        ("deep path", Tar::default().file(&deep, b""), "too long"),
        ("file as a parent", Tar::default().file("f", b"").file("f/x", b""), "Not a directory"),
        (
            "links in a circle",
            Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", b""),
            "symbolic link",
        ),
        (
            "owner minus one",
            Tar::default().add(Entry { name: b"f", owner: (u32::MAX, 0), ..Entry::default() }),
            "owner",
        ),
        (
            "unknown type",
            Tar::default().add(Entry { flag: b'V', name: b"f", ..Entry::default() }),
            "not supported",
        ),
        ("sparse", Tar::default().add(Entry { flag: b'S', name: b"f", ..Entry::default() }), "sparse"),
        ("garbage", Tar::default().raw(&[0x5a; 2048]), "checksum"),
        ("link of 5000 bytes", Tar::default().symlink("l", &"x".repeat(5000)), "too long"),
    ];
    for (case, tar, expected) in table {
        let mut bench = Bench::new();
        let error = bench.unpack(&tar.end()).expect_err(case);
        assert!(error.contains(expected), "{case}: {error}");
        canary.assert_alive(case);
        bench.assert_clean();
        assert_eq!(std::fs::read_dir(bench.path("cas/tree")).unwrap().count(), 0, "{case} left a tree");
        assert_eq!(bench.store().images().unwrap(), [], "{case} left an image");
    }
}

/// Tricks whose lawful meaning stays within the tree.
#[test]
fn archives_that_stay_inside() {
    let canary = Canary::new();
    let outside = canary.path();
    let inside = outside.trim_start_matches('/');
    type Check = fn(&Path, &str);
    let has: Check = |root, path| assert!(root.join(path).is_file(), "{path} is not there");
    let table: [(&str, Tar, String, Check); 9] = [
        (
            "absolute name",
            Tar::default().file(&format!("{outside}/file"), b"x"),
            format!("{inside}/file"),
            has,
        ),
        (
            "through a link",
            Tar::default().symlink("s", outside).file("s/file", b"x"),
            format!("{inside}/file"),
            has,
        ),
        (
            "through a link with dots",
            Tar::default().symlink("a", "../../../../../../b").file("a/file", b"x"),
            "b/file".into(),
            has,
        ),
        (
            "over a link",
            Tar::default().symlink("s", &format!("{outside}/file")).file("s", b"x"),
            "s".into(),
            |root, path| assert!(root.join(path).symlink_metadata().unwrap().is_file()),
        ),
        (
            "directory over a link",
            Tar::default().symlink("s", outside).dir("s").file("s/file", b"x"),
            "s/file".into(),
            |root, path| {
                assert!(root.join("s").symlink_metadata().unwrap().is_dir());
                assert!(root.join(path).is_file());
            },
        ),
        (
            "parent replaced by a link while it is remembered",
            Tar::default().dir("d").file("d/one", b"1").symlink("d", outside).file("d/file", b"x"),
            format!("{inside}/file"),
            |root, path| {
                assert!(root.join("d").symlink_metadata().unwrap().is_symlink());
                assert!(root.join(path).is_file());
            },
        ),
        (
            "grandparent replaced",
            Tar::default().file("a/b/c/one", b"1").symlink("a/b", outside).file("a/b/c/file", b"x"),
            format!("{inside}/c/file"),
            has,
        ),
        (
            "hardlink to a link is the link",
            Tar::default().symlink("s", &format!("{outside}/file")).hardlink("h", "s").file("h", b"x"),
            "h".into(),
            |root, path| {
                assert!(root.join(path).symlink_metadata().unwrap().is_file());
                assert!(root.join("s").symlink_metadata().unwrap().is_symlink());
            },
        ),
        (
            "whiteout through a link",
            Tar::default().symlink("s", outside).file("s/.wh.file", b""),
            format!("{inside}/file"),
            |root, path| {
                let metadata = root.join(path).symlink_metadata().unwrap();
                assert_eq!((metadata.mode() & 0o170000, metadata.rdev()), (0o020000, 0));
            },
        ),
    ];
    for (case, tar, path, check) in table {
        let mut bench = Bench::new();
        let root = bench.unpack(&tar.end()).unwrap_or_else(|error| panic!("{case}: {error}"));
        check(&root, &path);
        canary.assert_alive(case);
        bench.assert_clean();
    }
}

#[test]
fn directory_metadata_does_not_go_through_a_link_that_took_its_place() {
    let canary = Canary::new();
    let before = std::fs::metadata(canary.0.path().join("dir")).unwrap().mode();
    let odd = |name| Entry { flag: b'5', name, mode: 0o777, owner: (9, 9), ..Entry::default() };
    let tar = Tar::default().add(odd(b"d")).add(odd(b"d/dir")).symlink("d", canary.path()).end();
    let _ = Bench::new().unpack(&tar).unwrap();
    let after = std::fs::metadata(canary.0.path().join("dir")).unwrap();
    assert_eq!((after.mode(), after.uid()), (before, 0));
}

#[test]
fn what_a_layer_uses_up_is_bounded() {
    let limits = Limits { entries: 10, bytes: 10_000, file: 6_000 };
    let many = (0..11).fold(Tar::default(), |tar, at| tar.file(&format!("f{at}"), b""));
    let big = Tar::default().file("a", &[0; 5000]).file("b", &[0; 5001]);
    let large = Tar::default().file("a", &[0; 6001]);
    let bomb = Tar::default().raw(&vec![0; 200_000]);
    let pax = |size: usize| {
        Tar::default().add(Entry { flag: b'x', name: b"p", data: &vec![b' '; size], ..Entry::default() })
    };
    let table = [
        ("entries", many, "10 entries"),
        ("bytes", big, "10000 bytes unpacked"),
        ("file", large, "6000 bytes in one file"),
        ("zeros after the end", bomb, "decompresses to more than"),
        ("extended header", pax(2 << 20), "extended headers"),
    ];
    for (case, tar, expected) in table {
        let mut bench = Bench::new();
        let name = bench.image("x", &[Layer::gzip(&tar.end())]).parse().unwrap();
        // Room in the stream for the one case that is about something else.
        let limits = if case == "extended header" { Limits { entries: 1000, ..limits } } else { limits };
        let options = FetchOptions { limits, pull_policy: PullPolicy::Update, ..FetchOptions::default() };
        let error = chain(&fetch(&bench.store(), &name, &options, &()).expect_err(case));
        assert!(error.contains(expected), "{case}: {error}");
        bench.assert_clean();
    }
}

#[test]
fn damaged_streams_are_called_damaged() {
    let tar = Tar::default().file("f", &crate::build::noise(1, 300_000)).end();
    let whole = gzip(&tar);
    let with = |bytes: Vec<u8>| Layer { bytes, ..Layer::gzip(&tar) };
    let flipped = {
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let table = [
        ("gzip cut off", with(whole[..whole.len() / 2].to_vec()), "decompress"),
        ("gzip without its end", with(whole[..whole.len() - 4].to_vec()), "decompress"),
        ("a bit of gzip", with(flipped), "decompress"),
        ("garbage after gzip", with([&whole[..], b"garbage"].concat()), "decompress"),
        (
            "zstd cut off",
            {
                let zstd = Layer::zstd(&tar);
                Layer { bytes: zstd.bytes[..zstd.bytes.len() / 2].to_vec(), ..zstd }
            },
            "decompress",
        ),
        ("tar cut off", Layer::plain(&tar[..100_000]), "middle of an entry"),
        (
            "a lie about the diff id",
            Layer { bytes: gzip(&Tar::default().end()), ..Layer::gzip(&tar) },
            "configuration says",
        ),
    ];
    for (case, layer, expected) in table {
        let mut bench = Bench::new();
        let name = bench.image("x", &[layer]);
        let error = chain(&bench.fetch(&name).expect_err(case));
        assert!(error.contains(expected), "{case}: {error}");
        bench.assert_clean();
    }
    let mut bench = Bench::new();
    let half = tar.len() / 2;
    let members = [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    let name = bench.image("x", &[with(members)]);
    let image = bench.fetch(&name).expect("gzip may have several members");
    assert!(image.layers[0].join("f").is_file());
}

#[test]
fn bytes_that_do_not_match_their_descriptor_are_refused() {
    let tar = Tar::default().file("f", &crate::build::noise(2, 300_000)).end();
    for (case, change, expected) in [
        ("a flipped bit", (|bytes| bytes[1000] ^= 1) as fn(&mut Vec<u8>), "corrupt"),
        ("too short", |bytes| bytes.truncate(1000), "bytes"),
        ("too long", |bytes| bytes.push(0), "bytes"),
    ] {
        for layer in [Layer::gzip(&tar), Layer::plain(&tar), Layer::zstd(&tar)] {
            let mut bench = Bench::new();
            let file = bench.path("oci/blobs/sha256").join(image::Digest::of(&layer.bytes).hex());
            let name = bench.image("x", &[layer]);
            let mut bytes = std::fs::read(&file).unwrap();
            change(&mut bytes);
            std::fs::write(&file, bytes).unwrap();
            let error = chain(&bench.fetch(&name).expect_err(case));
            assert!(error.contains(expected) && error.contains("layer sha256:"), "{case}: {error}");
            bench.assert_clean();
        }
    }
}

/// An entry made of a few names that are likely to meet.
#[derive(Clone, Debug)]
struct Random {
    flag: u8,
    name: Vec<&'static str>,
    link: Vec<&'static str>,
}

fn random() -> impl Strategy<Value = Random> {
    let name = prop_oneof![
        12 => Just("a"), 12 => Just("b"), 6 => Just("c"), 2 => Just(".wh.a"), 2 => Just(".wh.b"),
        1 => Just(".wh..wh..opq"), 1 => Just("."), 1 => Just(""),
    ];
    let target = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 3 => Just(".."), 2 => Just("CANARY"), 1 => Just("dir"), 1 => Just("file"), 1 => Just(""),
    ];
    let flag =
        prop_oneof![4 => Just(b'0'), 4 => Just(b'5'), 5 => Just(b'2'), 3 => Just(b'1'), 1 => Just(b'6')];
    let (names, targets) = (prop::collection::vec(name, 1..4), prop::collection::vec(target, 1..5));
    (flag, names, targets).prop_map(|(flag, name, link)| Random { flag, name, link })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever entries do to each other, nothing outside notices, and what is refused leaves nothing.
    #[test]
    fn no_sequence_of_entries_leaves_the_tree(entries in prop::collection::vec(random(), 1..14)) {
        let canary = Canary::new();
        let tar = entries.iter().fold(Tar::default(), |tar, entry| {
            let link = entry.link.join("/").replace("CANARY", canary.path());
            let name = entry.name.join("/");
            let data: &[u8] = if entry.flag == b'0' { b"dead" } else { b"" };
            let (name, link) = (name.as_bytes(), link.as_bytes());
            tar.add(Entry { flag: entry.flag, name, link, mode: 0o777, owner: (9, 9), data, ..Entry::default() })
        });
        let mut bench = Bench::new();
        let outcome = bench.unpack(&tar.end());
        canary.assert_alive("random");
        for path in [canary.0.path().to_owned(), canary.0.path().join("file"), canary.0.path().join("dir")] {
            let metadata = std::fs::metadata(path).unwrap();
            prop_assert_eq!((metadata.uid(), metadata.mtime() > 1_000_000_000), (0, true));
        }
        bench.assert_clean();
        prop_assert_eq!(std::fs::read_dir(bench.path("cas/tree")).unwrap().count(), usize::from(outcome.is_ok()));
    }
}
