//! Exports, with the programs that take them on the other side, and what becomes of names and files on the way.

use std::path::Path;

use image::{
    Digest, Existing, Exported, FetchOptions, Image, ImageName, PullPolicy, export_docker_archive,
    export_oci, export_oci_archive, import_archive, import_rootfs,
};
use oci_spec::image::ConfigBuilder;
use serde_json::Value;

use crate::build::{Bench, Layer, Tar, chain, gzip, run};

fn tar(name: &str) -> Vec<u8> {
    Tar::default().dir("d").file(&format!("d/{name}"), name.as_bytes()).symlink("link", "d").end()
}

fn raw_manifest(source: &str) -> Vec<u8> {
    run("skopeo", &["inspect", "--raw", source]).into_bytes()
}

fn config_digest(image: &Image) -> String {
    image.oci().unwrap().0.config().digest().to_string()
}

fn layout(bench: &Bench, image: &Image, tag: Option<&str>, existing: Existing) -> Result<Exported, String> {
    export_oci(&bench.store(), image, &bench.path("out"), tag, existing).map_err(|error| chain(&error))
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn an_image_keeps_its_manifest_where_the_store_has_its_layers() {
    let mut bench = Bench::new();
    let name = bench.image(
        "x",
        &[
            Layer::gzip(&tar("one")),
            Layer::zstd(&tar("two")),
            Layer::plain(&tar("three")),
            Layer::gzip(&tar("one")),
        ],
    );
    let image = bench.fetch(&name).unwrap();
    let exported = layout(&bench, &image, Some("x"), Existing::Refuse).unwrap();
    assert_eq!(exported, Exported { manifest: Some(image.id.digest()), own_manifest: true });
    let out = format!("oci:{}:x", bench.path("out").display());
    assert_eq!(raw_manifest(&out), bench.store().manifest(image.id).unwrap());
    let archive = bench.path("x.tar");
    let export =
        |path: &Path| export_oci_archive(&bench.store(), &image, path, Some("x"), Existing::Refuse).unwrap();
    assert!(export(&archive).own_manifest);
    assert_eq!(raw_manifest(&format!("oci-archive:{}:x", archive.display())), raw_manifest(&out));
    assert!(export(&bench.path("y.tar")).manifest.is_some());
    assert!(std::fs::read(&archive).unwrap() == std::fs::read(bench.path("y.tar")).unwrap());
    let again = Bench::new();
    assert_eq!(again.fetch(&out).unwrap().id, image.id);
    assert_eq!(again.fetch(&format!("oci-archive:{}", archive.display())).unwrap().id, image.id);
    let copy = format!("oci:{}:x", bench.path("copy").display());
    let _ = run("skopeo", &["copy", "-q", "--insecure-policy", "--preserve-digests", &out, &copy]);
    assert_eq!(raw_manifest(&copy), raw_manifest(&out));
}

#[test]
fn layers_that_were_not_kept_are_written_from_their_trees() {
    let mut bench = Bench::new();
    let name = bench.image("x", &[Layer::gzip(&tar("one")), Layer::zstd(&tar("two"))]);
    let image = bench.fetch(&name).unwrap();
    for tree in &image.layers {
        std::fs::remove_file(tree.with_file_name("blob")).unwrap();
    }
    let exported = layout(&bench, &image, Some("x"), Existing::Refuse).unwrap();
    assert!(!exported.own_manifest && exported.manifest != Some(image.id.digest()));
    let out = format!("oci:{}:x", bench.path("out").display());
    let back = Bench::new().fetch(&out).map(|back| (config_digest(&back), back.trees)).unwrap();
    assert_eq!(back, (config_digest(&image), image.trees.clone()));
    let copy = format!("oci:{}:x", bench.path("copy").display());
    let _ = run("skopeo", &["copy", "-q", "--insecure-policy", &out, &copy]);
}

#[test]
fn a_kept_layer_that_is_damaged_is_not_exported() {
    let mut bench = Bench::new();
    let name = bench.image("x", &[Layer::gzip(&tar("one"))]);
    let image = bench.fetch(&name).unwrap();
    let blob = image.layers[0].with_file_name("blob");
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let refused = layout(&bench, &image, None, Existing::Refuse).unwrap_err();
    assert!(refused.contains("is damaged; `rkt image verify` repairs it"), "{refused}");
    assert!(!bench.path("out/index.json").exists());
}

#[test]
fn dockers_archive_has_the_same_configuration_and_layers() {
    let mut bench = Bench::new();
    let name =
        bench.image("x", &[Layer::gzip(&tar("one")), Layer::zstd(&tar("two")), Layer::gzip(&tar("one"))]);
    let image = bench.fetch(&name).unwrap();
    let (archive, reference) = (bench.path("x.tar"), "example.com/box:1".parse().unwrap());
    let store = bench.store();
    let _ = export_docker_archive(&store, &image, &archive, Some(&reference), Existing::Refuse).unwrap();
    let again = Bench::new();
    let source = format!("docker-archive:{}:example.com/box:1", archive.display());
    let back = again.fetch(&source).unwrap();
    assert_eq!((config_digest(&back), &back.trees), (config_digest(&image), &image.trees));
    let seen: Value = serde_json::from_slice(&raw_manifest(&source)).unwrap();
    assert_eq!(seen["config"]["digest"], config_digest(&image));
    assert_eq!(seen["layers"][1]["digest"], image.trees[1].to_string());
}

#[test]
fn a_layout_is_added_to() {
    let mut bench = Bench::new();
    let names = ["one", "two"].map(|name| bench.image(name, &[Layer::plain(&tar(name))]));
    let [one, two] = names.map(|name| bench.fetch(&name).unwrap());
    let _ = layout(&bench, &one, Some("a"), Existing::Refuse).unwrap();
    let _ = layout(&bench, &two, Some("b"), Existing::Refuse).unwrap();
    let _ = layout(&bench, &one, None, Existing::Refuse).unwrap();
    let refused = layout(&bench, &two, Some("a"), Existing::Refuse).unwrap_err();
    assert_eq!(refused, "\"a\" stands for another image there (try --overwrite)");
    // The same again is no trouble.
    let _ = layout(&bench, &one, Some("a"), Existing::Refuse).unwrap();
    let index: Value = serde_json::from_slice(&std::fs::read(bench.path("out/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    let _ = layout(&bench, &two, Some("a"), Existing::Replace).unwrap();
    let out = bench.path("out").display().to_string();
    assert_eq!(bench.fetch(&format!("oci:{out}:a")).unwrap().id, two.id);
    assert_eq!(count(&bench.path("out")), 3);
    // What is something else is not made a layout.
    std::fs::create_dir(bench.path("other")).unwrap();
    std::fs::write(bench.path("other/file"), "").unwrap();
    let refused =
        export_oci(&bench.store(), &one, &bench.path("other"), None, Existing::Replace).unwrap_err();
    assert!(chain(&refused).contains("cannot read") && count(&bench.path("other")) == 1, "{refused:?}");
    let file = bench.path("other/file");
    let refused = export_oci_archive(&bench.store(), &one, &file, None, Existing::Refuse).unwrap_err();
    assert!(chain(&refused).ends_with("exists (try --overwrite)"), "{refused:?}");
}

#[test]
fn nothing_is_left_of_an_export_of_a_damaged_image() {
    let mut bench = Bench::new();
    let name = bench.image("x", &[Layer::plain(&tar("one"))]);
    let image = bench.fetch(&name).unwrap();
    std::fs::write(image.layers[0].join("d/one"), "two").unwrap();
    std::fs::create_dir(bench.path("to")).unwrap();
    let to = bench.path("to/x.tar");
    let refused = export_docker_archive(&bench.store(), &image, &to, None, Existing::Refuse).unwrap_err();
    assert!(chain(&refused).contains("damaged"), "{}", chain(&refused));
    assert_eq!(count(&bench.path("to")), 0);
}

#[test]
fn a_root_file_system_becomes_an_image() {
    let bench = Bench::new();
    let root = tar("one");
    let file = bench.path("root.tar").display().to_string();
    std::fs::write(&file, &root).unwrap();
    let _ = run("sh", &["-c", &format!("gzip -k {file}; zstd -q {file}; xz -k {file}; bzip2 -k {file}")]);
    let mut images = Vec::new();
    for ending in ["", ".gz", ".zst", ".xz", ".bz2"] {
        let name = format!("example.com/box:v{}", ending.trim_start_matches('.')).parse().unwrap();
        let config = ConfigBuilder::default().cmd(vec!["/bin/sh".to_owned()]).build().unwrap();
        let path = format!("{file}{ending}");
        let options = FetchOptions::default();
        let make = || import_rootfs(&bench.store(), Path::new(&path), &name, config.clone(), (&options, &()));
        let image = make().unwrap_or_else(|error| panic!("{path}: {}", chain(&error)));
        assert_eq!(make().unwrap().id, image.id, "the same file is the same image");
        assert_eq!(image.trees, [Digest::of(&root)], "{path}");
        assert!(image.layers[0].join("d/one").is_file());
        images.push(image.id);
    }
    // xz and bzip2 are no formats of layers: what they decompress to is the plain archive.
    assert_eq!((images[3], images[4]), (images[0], images[0]));
    assert!(images[1] != images[0] && images[2] != images[0]);
    bench.assert_clean();
}

#[test]
fn archives_are_imported_under_their_names() {
    let mut bench = Bench::new();
    let name = bench.image("x", &[Layer::gzip(&tar("one"))]);
    let image = bench.fetch(&name).unwrap();
    let (docker, oci) = (bench.path("docker.tar"), bench.path("oci.tar"));
    let reference = "example.com/box:1".parse().unwrap();
    let _ =
        export_docker_archive(&bench.store(), &image, &docker, Some(&reference), Existing::Refuse).unwrap();
    let _ = export_oci_archive(&bench.store(), &image, &oci, Some("example.com/box:2"), Existing::Refuse)
        .unwrap();
    let again = Bench::new();
    let options = FetchOptions::default();
    let import = |path: &Path| import_archive(&again.store(), path, (&options, &()));
    for path in [&docker, &oci] {
        assert_eq!(import(path).unwrap()[0].trees, image.trees);
    }
    let mut names: Vec<String> =
        again.store().images().unwrap().into_iter().flat_map(|image| image.names).collect();
    names.sort();
    assert_eq!(names, ["example.com/box:1", "example.com/box:2"]);
    let bad = bench.path("bad");
    for (case, bytes, expected) in [
        ("text", b"not an archive".to_vec(), "holds no images"),
        ("root file system", tar("x"), "say what to call the image"),
        ("half", std::fs::read(&docker).unwrap()[..2000].to_vec(), "in the middle of"),
        ("ACI", Tar::default().file("manifest", b"{}").file("rootfs/x", b"").end(), "is an ACI"),
        ("compressed root", gzip(&tar("x")), "say what to call the image"),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        let error = chain(&import(&bad).expect_err(case));
        assert!(error.contains(expected), "{case}: {error}");
    }
    again.assert_clean();
}

#[test]
fn a_name_given_by_hand_is_never_pulled_over() {
    let mut bench = Bench::new();
    let source = bench.image("x", &[Layer::gzip(&tar("one"))]);
    let image = bench.fetch(&source).unwrap();
    // Nothing answers there: a fetch that asks fails otherwise.
    let name: ImageName = "127.0.0.1:1/box:1".parse().unwrap();
    let store = bench.store();
    store.tag(image.id, &name).unwrap();
    let fetch = |policy| {
        image::fetch(&store, &name, &FetchOptions { pull_policy: policy, ..FetchOptions::default() }, &())
    };
    assert_eq!(fetch(PullPolicy::New).unwrap().id, image.id);
    std::fs::rename(&image.layers[0], bench.path("aside")).unwrap();
    let error = chain(&fetch(PullPolicy::New).unwrap_err());
    assert!(error.contains("is incomplete"), "{error}");
    std::fs::rename(bench.path("aside"), &image.layers[0]).unwrap();
    assert!(!chain(&fetch(PullPolicy::Update).unwrap_err()).contains("incomplete"));
    assert_eq!(store.untag(&name).unwrap(), Some(image.id));
    assert_eq!(store.untag(&name).unwrap(), None);
    assert!(store.find(&name).unwrap().is_none() && store.image(image.id).is_ok());
}
