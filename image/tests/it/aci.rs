//! ACIs: archives, what lies beneath them, what they show, what they are called.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use image::{
    AciOptions, AciTrust, FetchError, FetchOptions, Format, Image, ImageName, PullPolicy, Store, fetch,
};
use serde_json::{Value, json};

use crate::build::{self, Entry, Layer, Tar, chain};

/// A store, and files beside it.
struct Bench(build::Bench, Store);

/// The manifest of `example.com/NAME` with more in it.
pub(crate) fn manifest(name: &str, version: &str, more: Value) -> Vec<u8> {
    let mut value = json!({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": format!("example.com/{name}"),
        "labels": [{"name": "version", "value": version}, {"name": "os", "value": "linux"},
        {"name": "arch", "value": "amd64"}]});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value.to_string().into_bytes()
}

/// An archive with some files, each of which holds its own name and `mark`.
pub(crate) fn archive(manifest: &[u8], mark: &str, files: &[&str]) -> Vec<u8> {
    let mut tar = Tar::default().file("manifest", manifest).dir("rootfs");
    for file in files {
        tar = tar.file(&format!("rootfs/{file}"), format!("{file} {mark}").as_bytes());
    }
    tar.end()
}

fn beneath(names: &[&str]) -> Value {
    json!({"dependencies": names.iter().map(|name| {
        let (name, version) = name.split_once(':').unwrap();
        json!({"imageName": format!("example.com/{name}"), "labels": [{"name": "version", "value": version}]})
    }).collect::<Vec<_>>()})
}

impl Bench {
    fn new() -> Self {
        let bench = build::Bench::new();
        let store = bench.store();
        Self(bench, store)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn fetch_word(&self, word: &str, pull_policy: PullPolicy) -> Result<Image, FetchError> {
        let name: ImageName = word.parse().unwrap();
        let aci = AciOptions { trust: AciTrust::Waived, ..AciOptions::default() };
        fetch(&self.1, &name, &FetchOptions { aci, pull_policy, ..FetchOptions::default() }, &())
    }

    fn bring(&self, bytes: &[u8]) -> Result<Image, FetchError> {
        let path = self.write("image.aci", bytes);
        self.fetch_word(path.to_str().unwrap(), PullPolicy::New)
    }

    fn refusal(&self, bytes: &[u8]) -> String {
        let error = self.bring(bytes).map(|image| image.id).unwrap_err();
        let report = chain(&error);
        assert!(self.1.images().unwrap().is_empty(), "left an image: {report}");
        let trees = std::fs::read_dir(self.0.path("cas/tree")).unwrap().count();
        assert_eq!(trees, 0, "left a tree: {report}");
        report
    }
}

/// Every file as an app would see it.
fn files(image: &Image) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for layer in &image.layers {
        walk(layer, layer, &mut found);
    }
    found
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("/{}", path.strip_prefix(root).unwrap().display());
        if path.is_dir() {
            let _ = found.insert(format!("{name}/"), String::new());
            walk(root, &path, found);
        } else {
            let _ = found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn an_aci_becomes_an_image_whatever_compressed_it() {
    let bench = Bench::new();
    let app = json!({"app": {"exec": ["/bin/app"], "user": "0", "group": "0"}});
    let tar = Tar::default()
        .dir("rootfs")
        .file("rootfs/bin/app", b"program")
        // It may come last, and names have no meaning of their own.
        .file("rootfs/etc/.wh.hidden", b"plain")
        .hardlink("rootfs/bin/link", "rootfs/bin/app")
        .file("./manifest", &manifest("app", "1", app))
        .end();
    let id = format!("sha512-{}", tool(&["sha512sum"], &tar)[..128].to_vec().escape_ascii());
    for command in [&["cat"][..], &["gzip"], &["bzip2"], &["xz"], &["zstd", "-q"]] {
        let image = bench.bring(&tool(command, &tar)).unwrap();
        assert_eq!((image.id.to_string(), image.content.format()), (id.clone(), Format::Aci), "{command:?}");
        assert_eq!(image.aci().unwrap().app.as_ref().unwrap().exec, ["/bin/app"]);
        assert_eq!(image.platform.to_string(), "linux/amd64");
        let root = &image.layers[0];
        assert_eq!(std::fs::read(root.join("etc/.wh.hidden")).unwrap(), b"plain");
        let inode = |name: &str| std::fs::metadata(root.join(name)).unwrap().ino();
        assert_eq!(inode("bin/app"), inode("bin/link"));
        assert!(!root.join("manifest").exists() && !root.join("rootfs").exists());
    }
    assert_eq!(bench.1.images().unwrap().len(), 1);
    let kept = bench.1.manifest(id.parse().unwrap()).unwrap();
    assert!(serde_json::from_slice::<Value>(&kept).unwrap()["name"] == "example.com/app");
}

fn tool(command: &[&str], input: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input");
    std::fs::write(&file, input).unwrap();
    let input = std::fs::File::open(file).unwrap();
    let output = std::process::Command::new(command[0]).args(&command[1..]).stdin(input).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

#[test]
fn what_is_no_aci_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let good = manifest("app", "1", json!({}));
    let table: Vec<(Vec<u8>, &str)> = vec![
        (b"nonsense".repeat(200), "no usable tar archive"),
        (tool(&["gzip"], b"nonsense"), "no usable tar archive"),
        (Vec::new(), "it has no \"manifest\""),
        (Tar::default().dir("rootfs").end(), "it has no \"manifest\""),
        (Tar::default().file("manifest", &good).end(), "it has no \"rootfs\""),
        (
            Tar::default().file("manifest", &good).dir("rootfs").file("etc/passwd", b"").end(),
            "\"etc/passwd\" is refused: an ACI has nothing but",
        ),
        (
            Tar::default().file("manifest", &good).dir("rootfs").file("manifest", &good).end(),
            "must be one regular file",
        ),
        (Tar::default().symlink("manifest", "rootfs/m").dir("rootfs").end(), "must be one regular file"),
        (Tar::default().file("manifest", &good).symlink("rootfs", "/").end(), "the root must be a directory"),
        (archive(&good, "", &["../../x"]), "its name contains \"..\""),
        (
            Tar::default().file("manifest", &good).dir("rootfs").hardlink("rootfs/x", "manifest").end(),
            "cannot be linked to",
        ),
        (
            Tar::default().file("manifest", &good).dir("rootfs").hardlink("rootfs/x", "/etc/passwd").end(),
            "nothing but",
        ),
        (
            Tar::default()
                .file("manifest", &good)
                .dir("rootfs")
                .add(Entry { flag: b'3', name: b"rootfs/x", ..Entry::default() })
                .end(),
            "would be a whiteout",
        ),
        (archive(b"{", "", &[]), "cannot parse the image manifest"),
        (archive(&manifest("Bad", "1", json!({})), "", &[]), "not the name of an ACI"),
        (
            archive(&manifest("app", "1", json!({"acKind": "PodManifest"})), "", &[]),
            "of kind \"PodManifest\"",
        ),
        (archive(&manifest("app", "1", json!({"pathWhitelist": ["../x"]})), "", &[]), "whitelists \"../x\""),
        (archive(&vec![b' '; (5 << 20) as usize], "", &[]), "has a manifest of 5242880 bytes"),
    ];
    for (bytes, sentence) in table {
        let report = bench.refusal(&bytes);
        assert!(report.contains(sentence), "{sentence:?} is not in {report:?}");
    }
    // Half an archive, with and without compression.
    let whole = archive(&good, "", &["a", "b", "c"]);
    let half = |bytes: &[u8]| bench.refusal(&bytes[..bytes.len() / 2 + 100]);
    assert!(half(&whole[..2800]).contains("ends in the middle"), "{}", half(&whole));
    assert!(half(&tool(&["xz"], &whole)).contains("no usable tar archive"));
}

#[test]
fn an_archive_that_explodes_is_stopped() {
    let bench = Bench::new();
    let tar = archive(&manifest("app", "1", json!({})), "", &[]);
    let mut bomb = tar[..tar.len() - 1024].to_vec();
    bomb = Tar::default().raw(&bomb).file("rootfs/zeros", &vec![0; 64 << 20]).end();
    let path = bench.write("bomb.aci", &tool(&["xz", "-1"], &bomb));
    let limits = image::Limits { entries: 10, bytes: 1 << 20, file: 1 << 20 };
    let aci = AciOptions { trust: AciTrust::Waived, ..AciOptions::default() };
    let name: ImageName = path.to_str().unwrap().parse().unwrap();
    let error =
        fetch(&bench.1, &name, &FetchOptions { aci, limits, ..FetchOptions::default() }, &()).unwrap_err();
    let report = chain(&error);
    assert!(report.contains("decompresses to more than"), "{report}");
}

#[test]
fn an_image_lies_on_what_it_depends_on() {
    let bench = Bench::new();
    let bring = |name: &str, version: &str, more: Value, files: &[&str]| {
        bench.bring(&archive(&manifest(name, version, more), name, files)).unwrap()
    };
    let base = bring("base", "1", json!({}), &["a", "b", "c", "d"]);
    let _ = bring("left", "1", beneath(&["base:1"]), &["b", "c"]);
    let _ = bring("right", "2", beneath(&["base:1"]), &["c"]);
    let image = bring("top", "1", beneath(&["left:1", "right:2"]), &["d"]);
    // The second dependency lies over the first one; base lies under the second one, and so hides the first.
    assert_eq!(image.layers.len(), 4);
    let found = files(&image);
    let expected = [("/a", "a base"), ("/b", "b base"), ("/c", "c right"), ("/d", "d top")];
    assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    // Each tree is there once, and stays as long as something stands on it.
    let _ = bench.1.remove(base.id).unwrap();
    drop((base, image));
    let _ = bench.1.gc(&image::GcPlan::default(), || Ok(image::InUse::default())).unwrap();
    let again = bench.fetch_word("aci:example.com/top:1", PullPolicy::Never).unwrap();
    assert_eq!(files(&again)["/b"], "b base");
}

#[test]
fn the_topmost_whitelist_decides_what_is_there() {
    let bench = Bench::new();
    let with = |mut more: Value, paths: &[&str]| {
        more["pathWhitelist"] = json!(paths);
        more
    };
    let bring = |name: &str, more: Value, files: &[&str]| {
        bench.bring(&archive(&manifest(name, "1", more), name, files)).unwrap()
    };
    let _ = bring("base", json!({}), &["etc/a", "etc/b", "usr/bin/x", "usr/lib/y", "gone"]);
    let middle = bring("middle", with(beneath(&["base:1"]), &["/etc/a", "/usr/bin/x", "/m"]), &["m", "n"]);
    assert_eq!(
        files(&middle).into_keys().collect::<Vec<_>>(),
        ["/etc/", "/etc/a", "/m", "/usr/", "/usr/bin/", "/usr/bin/x"]
    );
    // On top of it, the whitelist beneath no longer counts.
    let paths = ["/etc/b", "/n", "/top", "/empty/dir/", "/usr/lib/", "/not/there", "/etc/b/below"];
    let top = bring("top", with(beneath(&["middle:1"]), &paths), &["top", "etc/b"]);
    let expected = ["/empty/", "/empty/dir/", "/etc/", "/etc/b", "/n", "/top", "/usr/", "/usr/lib/"];
    assert_eq!(files(&top).into_keys().collect::<Vec<_>>(), expected);
    assert_eq!(files(&top)["/etc/b"], "etc/b top");
    // Without one of its own, an image shows what each beneath it shows.
    let plain = bring("plain", beneath(&["middle:1"]), &["p"]);
    assert_eq!(plain.layers.len(), 2);
    assert_eq!(
        files(&plain).into_keys().collect::<Vec<_>>(),
        ["/etc/", "/etc/a", "/m", "/p", "/usr/", "/usr/bin/", "/usr/bin/x"]
    );
    // The rendered tree costs no space: its files are those of the trees it was made from.
    assert!(std::fs::metadata(middle.layers[0].join("etc/a")).unwrap().nlink() >= 2);
    // It is collected with the last image that shows it, and what it was made from as well.
    let ids = [middle.id, top.id, plain.id];
    drop((middle, top, plain));
    let everything = image::GcPlan { candidates: image::Candidates::Unused, ..image::GcPlan::default() };
    let in_use = image::InUse { images: [ids[1]].into(), ..image::InUse::default() };
    let _ = bench.1.gc(&everything, || Ok(in_use.clone())).unwrap();
    assert_eq!(files(&bench.1.image(ids[1]).unwrap()).len(), 8);
    let _ = bench.1.gc(&everything, || Ok(image::InUse::default())).unwrap();
    assert_eq!(std::fs::read_dir(bench.0.path("cas/tree")).unwrap().count(), 0);
}

#[test]
fn metadata_and_links_survive_a_whitelist() {
    let bench = Bench::new();
    let more = json!({"pathWhitelist": ["/d/run", "/d/link", "/through/x"]});
    let tar = Tar::default()
        .file("manifest", &manifest("app", "1", more))
        .add(Entry { flag: b'5', name: b"rootfs", mode: 0o711, owner: (7, 8), ..Entry::default() })
        .add(Entry { flag: b'5', name: b"rootfs/d", mode: 0o2750, owner: (70, 80), ..Entry::default() })
        .add(Entry { name: b"rootfs/d/run", mode: 0o4755, owner: (1, 2), data: b"x", ..Entry::default() })
        .symlink("rootfs/d/link", "/etc/passwd")
        // No archive has an entry of this name: links are not followed.
        .symlink("rootfs/through", "d")
        .file("rootfs/d/x", b"x")
        .end();
    let image = bench.bring(&tar).unwrap();
    let root = &image.layers[0];
    let look = |name: &str| {
        let metadata = std::fs::symlink_metadata(root.join(name)).unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime())
    };
    assert_eq!(look(""), (0o711, 7, 8, 1_000_000_000));
    assert_eq!(look("d"), (0o2750, 70, 80, 1_000_000_000));
    assert_eq!(look("d/run"), (0o4755, 1, 2, 1_000_000_000));
    assert_eq!(std::fs::read_link(root.join("d/link")).unwrap(), Path::new("/etc/passwd"));
    assert!(std::fs::symlink_metadata(root.join("through")).is_err());
    assert!(std::fs::symlink_metadata(root.join("d/x")).is_err());
}

#[test]
fn dependencies_must_be_what_the_manifest_says() {
    let bench = Bench::new();
    let base = bench.bring(&archive(&manifest("base", "1", json!({})), "", &["a"])).unwrap();
    let top = |dependency: Value| {
        let bytes = archive(&manifest("top", "1", json!({"dependencies": [dependency]})), "", &["t"]);
        bench.bring(&bytes).map_err(|error| chain(&error))
    };
    let named = |more: Value| {
        let mut value = json!({"imageName": "example.com/base"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    let label = |name: &str, value: &str| json!({"labels": [{"name": name, "value": value}]});
    let id = base.id.to_string();
    drop(base);
    assert_eq!(top(named(json!({"imageID": id}))).unwrap().layers.len(), 2);
    let itself = top(json!({"imageName": "example.com/top"})).unwrap_err();
    assert!(itself.contains("depends on itself"), "{itself}");
    for (dependency, sentence) in [
        (json!({"imageName": "Bad"}), "a dependency that is none"),
        (named(label("version", "a b")), "a dependency that is none"),
    ] {
        let report = top(dependency).unwrap_err();
        assert!(report.contains(sentence), "{report}");
    }
}

#[test]
fn an_image_is_found_by_each_of_its_names() {
    let bench = Bench::new();
    let one = bench.bring(&archive(&manifest("app", "1", json!({})), "one", &["a"])).unwrap();
    let two = bench.bring(&archive(&manifest("app", "2", json!({})), "two", &["a"])).unwrap();
    let found = |word: &str| bench.fetch_word(word, PullPolicy::Never).map(|image| image.id).ok();
    let path = bench.0.path("image.aci");
    let half = &one.id.to_string()[..7 + 64];
    for (word, expected) in [
        ("aci:example.com/app:1", Some(one.id)),
        ("aci:example.com/app:2", Some(two.id)),
        ("aci:example.com/app:1,os=linux", Some(one.id)),
        ("cimd:appc:v=0:example.com/app?version=1&os=linux", Some(one.id)),
        ("aci:example.com/app:1,os=plan9", None),
        ("aci:example.com/app:3", None),
        // The one that came last.
        ("aci:example.com/app", Some(two.id)),
        (path.to_str().unwrap(), Some(two.id)),
        (half, Some(one.id)),
    ] {
        assert_eq!(found(word), expected, "{word}");
    }
}

#[test]
fn a_signature_is_required_unless_waived() {
    let bench = Bench::new();
    let path = bench.write("image.aci", &archive(&manifest("app", "1", json!({})), "", &["a"]));
    let name: ImageName = path.to_str().unwrap().parse().unwrap();
    let unsigned = fetch(&bench.1, &name, &FetchOptions::default(), &()).unwrap_err();
    let report = chain(&unsigned);
    assert!(report.contains("error opening signature file") && report.contains("image.aci.asc"), "{report}");
    std::fs::write(path.with_extension("aci.asc"), "signature").unwrap();
    let unknown = fetch(&bench.1, &name, &FetchOptions::default(), &()).unwrap_err();
    let report = chain(&unknown);
    assert!(report.contains("no key may sign images called \"example.com/app\""), "{report}");
    assert!(bench.1.images().unwrap().is_empty());
}

/// An archive has one digest. What its names mean depends on the format of the image that it is part of.
#[test]
fn a_tree_of_one_format_is_not_used_for_the_other() {
    let mut bench = Bench::new();
    let bytes = archive(&manifest("app", "1", json!({})), "", &["a"]);
    let image = bench.bring(&bytes).unwrap();
    let diff_id = image::Algorithm::Sha512.digest(&bytes);
    let name = bench.0.image("x", &[Layer { diff_id, ..Layer::plain(&bytes) }]);
    let report = chain(&bench.0.fetch(&name).unwrap_err());
    assert!(report.contains("for an image of another format"), "{report}");
    assert_eq!(files(&image)["/a"], "a ");
}
