//! Damage on the disk: found, named and repaired.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use image::{
    Digest, FetchOptions, GcPlan, Image, ImageId, InUse, LayerCheck, Store, Verdict, Verified, VerifyOptions,
    fetch, verify,
};

use crate::build::{Bench, Entry, Layer, Tar, chain, noise};

fn tar() -> Vec<u8> {
    Tar::default()
        .dir("./")
        .dir("dir")
        .file("dir/one", b"one")
        .file("implicit/two", &noise(3, 20_000))
        .hardlink("hard", "dir/one")
        .symlink("link", "dir/one")
        .file("dir/.wh.gone", b"")
        .file("implicit/.wh..wh..opq", b"")
        .add(Entry { name: b"caps", xattrs: &[("user.x", b"y")], data: b"caps", ..Entry::default() })
        .add(Entry { flag: b'6', name: b"fifo", ..Entry::default() })
        .end()
}

fn check(store: &Store, tree: Digest) -> String {
    match store.check_layer(tree).unwrap() {
        LayerCheck::Sound => String::new(),
        LayerCheck::Rendered => panic!("a layer is not rendered"),
        LayerCheck::Broken(damage) => damage.iter().map(|damage| chain(damage) + "; ").collect(),
    }
}

fn verified(store: &Store, id: ImageId, mounted: &dyn Fn() -> BTreeSet<Digest>) -> Verified {
    let options = VerifyOptions { fetch: FetchOptions::default(), mounted: &|| Ok(mounted()) };
    verify(store, id, &options, &()).unwrap()
}

fn nothing() -> BTreeSet<Digest> {
    BTreeSet::new()
}

fn fetched(bench: &mut Bench) -> Image {
    let name = bench.image("x", &[Layer::gzip(&tar())]);
    bench.fetch(&name).unwrap()
}

fn set_mtime(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

/// Without a trace in its times.
fn damage_content(root: &Path) {
    std::fs::write(root.join("implicit/two"), noise(4, 20_000)).unwrap();
    set_mtime(&root.join("implicit/two"));
}

#[test]
fn every_kind_of_damage_is_named() {
    type Damage = (fn(&Path), &'static str);
    let damages: [Damage; 14] = [
        (damage_content, "\"implicit/two\" has other content; "),
        (
            |root| std::fs::set_permissions(root.join("dir"), PermissionsExt::from_mode(0o4755)).unwrap(),
            "\"dir\" the mode is 4755, not 0755; ",
        ),
        (
            |root| std::os::unix::fs::chown(root.join("caps"), Some(7), None).unwrap(),
            "\"caps\" the owner is 7:0, not 0:0; ",
        ),
        (
            |root| set_time(&root.join("hard")),
            "the time of modification is 5.000000000, not 1000000000.000000000; ",
        ),
        (
            |root| {
                rustix::fs::setxattr(root.join("caps"), "user.x", b"z", rustix::fs::XattrFlags::empty())
                    .unwrap();
            },
            "\"caps\" the extended attributes is user.x=z, not user.x=y; ",
        ),
        (
            |root| rustix::fs::removexattr(root.join("implicit"), "trusted.overlay.opaque").unwrap(),
            "\"implicit\" the extended attributes is none, not trusted.overlay.opaque=y; ",
        ),
        (
            |root| std::fs::write(root.join("implicit/three"), "").unwrap(),
            "\"implicit/three\" does not belong there; ",
        ),
        (|root| std::fs::remove_file(root.join("implicit/two")).unwrap(), "\"implicit/two\" is missing; "),
        (|root| std::fs::remove_file(root.join("dir/gone")).unwrap(), "\"dir/gone\" is missing; "),
        (
            |root| {
                std::fs::remove_file(root.join("link")).unwrap();
                symlink("/etc/passwd", root.join("link")).unwrap();
            },
            "\"link\" the target is /etc/passwd, not dir/one; ",
        ),
        (
            |root| {
                std::fs::remove_file(root.join("fifo")).unwrap();
                std::fs::create_dir(root.join("fifo")).unwrap();
            },
            "\"fifo\" the type is Directory, not Fifo; ",
        ),
        (
            |root| std::fs::remove_file(root.join("hard")).unwrap(),
            "\"dir/one\" the number of hard links is 1, not 2; ",
        ),
        (
            |root| std::fs::write(root.with_file_name("recipe"), "nonsense").unwrap(),
            "its recipe is damaged: ",
        ),
        (
            |root| std::fs::remove_file(root.with_file_name("recipe")).unwrap(),
            "it was stored by a version that ",
        ),
    ];
    for (damage, expected) in damages {
        let mut bench = Bench::new();
        let image = fetched(&mut bench);
        let (store, tree) = (bench.store(), image.trees[0]);
        assert_eq!(check(&store, tree), "");
        damage(&image.layers[0]);
        let found = check(&store, tree);
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");

        // Where the image came from is gone: only the kept copy can repair it.
        std::fs::remove_dir_all(bench.path("oci")).unwrap();
        let id = image.id;
        drop(image);
        let verified = verified(&store, id, &nothing);
        let [(layer, Verdict::Repaired { from, .. })] = verified.layers.as_slice() else {
            panic!("{expected:?}: {verified:?}");
        };
        assert!(*layer == tree && from.contains("kept"), "{from}");
        assert_eq!(check(&store, tree), "");
        bench.assert_clean();
    }
}

fn set_time(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(5)).unwrap();
}

#[test]
fn a_layer_without_a_copy_is_fetched_again_and_says_so_if_it_cannot_be() {
    let mut bench = Bench::new();
    let name = bench.image("x", &[Layer::gzip(&tar())]);
    let options = FetchOptions { keep_blobs: false, ..FetchOptions::default() };
    let image = fetch(&bench.store(), &name.parse().unwrap(), &options, &()).unwrap();
    let (store, id, tree, root) = (bench.store(), image.id, image.trees[0], image.layers[0].clone());
    drop(image);
    assert!(store.layer_blob(tree).unwrap().is_none());
    damage_content(&root);
    let found = verified(&store, id, &nothing);
    assert!(
        matches!(found.layers.as_slice(), [(_, Verdict::Repaired { from, .. })] if *from == name),
        "{found:?}"
    );
    // By default, copies are kept; this one turns out to be damaged, too.
    let blob = root.with_file_name("blob");
    std::fs::write(&blob, noise(1, 1000)).unwrap();
    damage_content(&root);
    let found = verified(&store, id, &nothing);
    assert!(
        matches!(found.layers.as_slice(), [(_, Verdict::Repaired { from, .. })] if *from == name),
        "{found:?}"
    );
    std::fs::remove_file(&blob).unwrap();
    std::fs::remove_dir_all(bench.path("oci")).unwrap();
    damage_content(&root);
    let found = verified(&store, id, &nothing);
    let [(_, Verdict::Broken { reasons, .. })] = found.layers.as_slice() else { panic!("{found:?}") };
    assert!(reasons.iter().any(|reason| chain(reason).contains(&name)), "{reasons:?}");
    assert!(check(&store, tree).contains("implicit/two"), "what is there stays");
    bench.assert_clean();
}

#[test]
fn a_tree_that_a_pod_has_mounted_is_left_alone() {
    let mut bench = Bench::new();
    let image = fetched(&mut bench);
    let (store, id, tree, root) = (bench.store(), image.id, image.trees[0], image.layers[0].clone());
    drop(image);
    damage_content(&root);
    let found = verified(&store, id, &|| [tree].into());
    assert!(matches!(found.layers.as_slice(), [(_, Verdict::Mounted { .. })]), "{found:?}");
    assert!(check(&store, tree).contains("implicit/two"));

    // A pod that starts while the tree is made again may have the old one: it is kept for it.
    let open = std::fs::File::open(root.join("implicit/two")).unwrap();
    let calls = Cell::new(0);
    let starts = || {
        calls.set(calls.get() + 1);
        if calls.get() > 1 { [tree].into() } else { BTreeSet::new() }
    };
    let found = verified(&store, id, &starts);
    assert!(matches!(found.layers.as_slice(), [(_, Verdict::Repaired { .. })]), "{found:?}");
    assert_eq!(check(&store, tree), "");
    let links = || std::os::unix::fs::MetadataExt::nlink(&open.metadata().unwrap());
    let pod = || Ok(InUse { trees: [tree].into(), ..InUse::default() });
    let _ = store.gc(&GcPlan::default(), pod).unwrap();
    assert_eq!(links(), 1, "a pod needs it");
    let _ = store.gc(&GcPlan::default(), || Ok(InUse::default())).unwrap();
    assert_eq!(links(), 0, "nobody needs it");
    bench.assert_clean();
    assert_eq!(check(&store, tree), "");
}

#[test]
fn damaged_documents_are_fetched_again() {
    let mut bench = Bench::new();
    let image = fetched(&mut bench);
    let (store, id) = (bench.store(), image.id);
    drop(image);
    let blob = bench.path("cas/blob/sha256").join(id.digest().hex());
    std::fs::write(&blob, "{}").unwrap();
    let found = verified(&store, id, &nothing);
    assert!(found.documents.is_some() && found.layers.is_empty(), "{found:?}");
    assert_eq!(Digest::of(&std::fs::read(&blob).unwrap()), id.digest());

    // The tag means another image meanwhile: that one is of no use.
    std::fs::write(&blob, "{}").unwrap();
    std::fs::remove_dir_all(bench.path("oci")).unwrap();
    let mut other = Bench::new();
    let _ = other.image("x", &[Layer::gzip(&Tar::default().file("other", b"").end())]);
    std::fs::rename(other.path("oci"), bench.path("oci")).unwrap();
    let options = VerifyOptions { fetch: FetchOptions::default(), mounted: &|| Ok(nothing()) };
    let error = chain(&verify(&store, id, &options, &()).unwrap_err());
    assert!(error.contains("is another image now"), "{error}");
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn layers_are_kept_as_they_came_unless_they_came_plain() {
    let mut bench = Bench::new();
    let (compressed, plain) = (Layer::zstd(&tar()), Layer::plain(&Tar::default().file("p", b"p").end()));
    let (bytes, ids) = (compressed.bytes.clone(), [compressed.diff_id, plain.diff_id]);
    let media_type = compressed.media_type;
    let name = bench.image("x", &[compressed, plain]);
    let _image = bench.fetch(&name).unwrap();
    let mut blob = bench.store().layer_blob(ids[0]).unwrap().unwrap();
    assert_eq!((blob.digest, blob.size), (Digest::of(&bytes), bytes.len() as u64));
    assert_eq!(blob.media_type, media_type);
    let mut found = Vec::new();
    let _ = blob.read_to_end(&mut found).unwrap();
    assert_eq!(found, bytes);
    assert!(
        bench.store().layer_blob(ids[1]).unwrap().is_none(),
        "the tree and its recipe are the same bytes"
    );
    assert!(bench.store().layer_blob(Digest::of(b"")).unwrap().is_none());
}

#[test]
fn layers_beneath_one_that_hides_them_stay_with_the_image() {
    let mut bench = Bench::new();
    let hidden = Layer::gzip(&Tar::default().file("hidden", b"").end());
    let hiding = Layer::gzip(&Tar::default().file(".wh..wh..opq", b"").file("top", b"").end());
    let ids = [hidden.diff_id, hiding.diff_id];
    let name = bench.image("x", &[hidden, hiding]);
    let image = bench.fetch(&name).unwrap();
    assert_eq!(image.trees, [ids[1]]);
    let id = image.id;
    drop(image);
    let store = bench.store();
    assert_eq!(store.trees_of(id).unwrap(), ids.into());
    assert_eq!(store.gc(&GcPlan::default(), || Ok(InUse::default())).unwrap().trees, []);
    assert!(ids.iter().all(|layer| store.layer_tar(*layer).is_ok()));
}
