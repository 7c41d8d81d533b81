//! Images from directories and files, made by us and by the tools that people use.

use serde_json::json;

use crate::build::{Bench, Layer, Tar, chain, host, run};

fn layer(name: &str) -> Layer {
    Layer::gzip(&Tar::default().file(name, name.as_bytes()).end())
}

#[test]
fn a_layout_is_read_by_tag_and_platform() {
    let mut bench = Bench::new();
    let one = bench.image("one", &[layer("one")]);
    let _ = bench.image("two", &[layer("two")]);
    // An index with builds for two platforms, inside another index.
    let mut builds = Vec::new();
    for architecture in ["mips", host()] {
        let mut manifest = bench.manifest(&[layer(architecture)], architecture);
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
        builds.push(manifest);
    }
    let index = |entries: &[serde_json::Value]| json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let kind = "application/vnd.oci.image.index.v1+json";
    let inner = bench.typed(index(&builds).as_bytes(), kind);
    let outer = bench.typed(index(&[inner]).as_bytes(), kind);
    bench.tag(outer, "many");
    let foreign = bench.typed(index(&builds[..1]).as_bytes(), kind);
    bench.tag(foreign, "foreign");
    let wrong = bench.manifest(&[layer("x")], "mips");
    bench.tag(wrong, "wrong");

    let oci = bench.layout();
    let image = bench.fetch(&one).unwrap();
    let again =
        image::fetch(&bench.store(), &one.parse().unwrap(), &image::FetchOptions::default(), &()).unwrap();
    assert_eq!(again.id, image.id);
    assert!(image.layers[0].join("one").is_file());
    assert_eq!(image.name.as_deref(), Some(one.as_str()));
    assert_eq!(image.oci().unwrap().1.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/bin/true"]);
    assert!(bench.fetch(&format!("{oci}:many")).unwrap().layers[0].join(host()).is_file());
    for (name, expected) in [
        (format!("{oci}:none"), "no image named \"none\""),
        (
            oci.clone(),
            "holds 5 images: say which by adding :NAME to the path; it has: foreign, many, one, two, wrong",
        ),
        (format!("{oci}:foreign"), "it has linux/mips"),
        (format!("{oci}:wrong"), "is for linux/mips"),
        ("oci:/nonexistent".to_owned(), "cannot read /nonexistent/oci-layout"),
    ] {
        let error = chain(&bench.fetch(&name).expect_err(&name));
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// Files, and how tar makes them.
const PACKED: [(&str, &str); 5] = [
    ("x.tar", "--no-acls"),
    ("x.tar.gz", "--gzip"),
    ("x.tar.zst", "--zstd"),
    ("x.tar.xz", "--xz"),
    ("x.tar.bz2", "--bzip2"),
];

fn tar_of(directory: &std::path::Path, file: &std::path::Path, how: &str) {
    let (directory, file) = (directory.display().to_string(), file.display().to_string());
    let _ = run("tar", &["-C", &directory, how, "-cf", &file, "."]);
}

#[test]
fn a_layout_in_a_tar_file_is_the_same_image() {
    let mut bench = Bench::new();
    let one = bench.image("one", &[layer("one"), layer("two")]);
    let _ = bench.image("example.com/box:2", &[layer("two")]);
    let wanted = bench.fetch(&one).unwrap();
    for (file, how) in PACKED {
        tar_of(&bench.path("oci"), &bench.path(file), how);
        let again = Bench::new();
        let name = format!("oci-archive:{}", bench.path(file).display());
        let image = again.fetch(&format!("{name}:one")).expect(file);
        assert_eq!((image.id, &image.trees), (wanted.id, &wanted.trees), "{file}");
        assert!(image.layers[1].join("two").is_file());
        assert!(again.fetch(&format!("{name}:example.com/box:2")).is_ok());
        let several = chain(&again.fetch(&name).unwrap_err());
        assert!(
            several.contains("holds 2 images") && several.contains("example.com/box:2, one"),
            "{several}"
        );
        again.assert_clean();
    }
}

#[test]
fn half_an_archive_is_refused_and_leaves_nothing() {
    let mut bench = Bench::new();
    let _ = bench.image("one", &[Layer::plain(&Tar::default().file("big", &[7; 70_000]).end())]);
    for (file, how) in PACKED {
        let path = bench.path(file);
        tar_of(&bench.path("oci"), &path, how);
        let whole = std::fs::read(&path).unwrap();
        for keep in [1, 5, 9] {
            std::fs::write(&path, &whole[..whole.len() * keep / 10]).unwrap();
            let again = Bench::new();
            let _ = again.fetch(&format!("oci-archive:{}", path.display())).expect_err(file);
            again.assert_clean();
            assert!(again.store().images().unwrap().is_empty());
        }
    }
    for (name, expected) in [
        (format!("oci-archive:{}", bench.path("oci").display()), "not a regular file"),
        ("oci-archive:/nonexistent.tar".to_owned(), "No such file"),
        ("oci-archive:/etc/passwd".to_owned(), "not a usable tar archive"),
    ] {
        let error = chain(&bench.fetch(&name).expect_err(&name));
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn images_without_a_name_go_by_their_digest() {
    let mut bench = Bench::new();
    let _ = bench.image("one", &[layer("one")]);
    let _ = bench.image("two", &[layer("two")]);
    let path = bench.path("oci/index.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("ref.name", "ref.nothing")).unwrap();
    let error = chain(&bench.fetch(&bench.layout()).unwrap_err());
    let digest = &error[error.find("sha256:").unwrap()..][..71];
    assert!(error.contains("holds 2 images"), "{error}");
    assert!(bench.fetch(&format!("{}:{digest}", bench.layout())).is_ok());
}

#[test]
fn what_accompanies_an_image_in_its_index_is_passed_over() {
    let mut bench = Bench::new();
    let mut image = bench.manifest(&[layer("one")], host());
    image["platform"] = json!({"os": "linux", "architecture": host()});
    let mut proof = bench.manifest(&[layer("proof")], host());
    proof["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    proof["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let mut signature = bench.manifest(&[layer("signature")], host());
    signature["artifactType"] = "application/vnd.example.signature".into();
    signature["platform"] = image["platform"].clone();
    let index = json!({"schemaVersion": 2, "manifests": [signature, proof, image]}).to_string();
    let index = bench.typed(index.as_bytes(), "application/vnd.oci.image.index.v1+json");
    bench.tag(index, "x");
    let image = bench.fetch(&format!("{}:x", bench.layout())).unwrap();
    assert!(image.layers[0].join("one").is_file());
}

#[test]
fn an_image_may_have_no_layers_or_empty_ones() {
    let mut bench = Bench::new();
    let empty = Tar::default().end();
    let name = bench.image("empty", &[Layer::plain(&empty), Layer::gzip(&empty), Layer::zstd(&empty)]);
    assert_eq!(bench.fetch(&name).unwrap().layers.len(), 3);
    // As Go programs write a list that has nothing in it.
    for nothing in ["null", "[]"] {
        let config = format!(
            r#"{{"os":"linux","architecture":"{}","config":{{"Cmd":["x"]}},"rootfs":{{"type":"layers","diff_ids":{nothing}}},"history":null}}"#,
            host()
        );
        let config = bench.typed(config.as_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":{nothing}}}"#);
        let manifest = bench.typed(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json");
        bench.tag(manifest, &format!("no-{nothing}"));
        let image = bench.fetch(&format!("{}:no-{nothing}", bench.layout())).unwrap();
        assert!(image.layers.is_empty() && image.trees.is_empty());
    }
}

#[test]
fn indexes_that_never_end_are_refused() {
    let mut bench = Bench::new();
    let mut entry = bench.manifest(&[layer("x")], host());
    for _ in 0..20 {
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        entry = bench.typed(index.as_bytes(), "application/vnd.oci.image.index.v1+json");
    }
    bench.tag(entry, "deep");
    let error = chain(&bench.fetch(&format!("{}:deep", bench.layout())).unwrap_err());
    assert!(error.contains("nested"), "{error}");
}

#[test]
fn documents_that_are_not_what_their_digest_says_are_refused() {
    for (case, find) in [("manifest", "schemaVersion"), ("configuration", "rootfs")] {
        let mut bench = Bench::new();
        let name = bench.image("x", &[layer("x")]);
        for entry in std::fs::read_dir(bench.path("oci/blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            if let Ok(text) = String::from_utf8(bytes)
                && text.contains(find)
            {
                std::fs::write(
                    &path,
                    text.replacen("linux", "linuy", 1).replacen(
                        "\"schemaVersion\":2",
                        "\"schemaVersion\":3",
                        1,
                    ),
                )
                .unwrap();
            }
        }
        let error = chain(&bench.fetch(&name).unwrap_err());
        assert!(error.contains("corrupt") && error.contains(case), "{error}");
    }
}

#[test]
fn manifests_that_are_not_images_are_refused() {
    let mut bench = Bench::new();
    let good = bench.manifest(&[layer("x")], host());
    let digest = good["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let text = std::fs::read_to_string(bench.path("oci/blobs/sha256").join(digest)).unwrap();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    for (case, changed, expected) in [
        ("config", text.replace("image.config.v1+json", "empty.v1+json"), "not part of a container image"),
        (
            "artifact",
            text.replace("image.config.v1+json", "empty.v1+json").replacen(
                '{',
                "{\"artifactType\":\"application/vnd.example.sbom\",",
                1,
            ),
            "an artifact of the type \"application/vnd.example.sbom\", not a container image",
        ),
        (
            "foreign",
            text.replace(
                "\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\"",
                "\"urls\":[\"https://example.com/layer\"],\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\"",
            ),
            "not distributed with the image, but by https://example.com/layer",
        ),
        ("layer type", text.replace("layer.v1.tar+gzip", "thing"), "not part of a container image"),
        ("schema 1", r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "skopeo copy"),
        ("size", text.replace("\"size\":", "\"size\":-"), "cannot parse the manifest: config.size is wrong"),
        ("sha512", text.replacen("sha256:", "sha512:00", 1), "cannot parse"),
        ("layer count", text.replace("\"layers\":[", "\"layers\":[],\"x\":["), "has 0 layers"),
        ("json", "{".to_owned(), "cannot parse"),
    ] {
        let descriptor = bench.typed(changed.as_bytes(), kind);
        bench.tag(descriptor, case);
        let name = format!("{}:{}", bench.layout(), case);
        let error = chain(&bench.fetch(&name).expect_err(case));
        assert!(error.contains(expected), "{case}: {error}");
    }
}

#[test]
fn an_archive_of_skopeo_is_read_and_always_has_the_same_id() {
    let mut bench = Bench::new();
    let name = bench.image("one", &[layer("one"), layer("two")]);
    let file = bench.path("image.tar").display().to_string();
    let _ = run("skopeo", &["copy", "-q", &name, &format!("docker-archive:{file}:busybox:1")]);
    let image = bench.fetch(&format!("docker-archive:{file}")).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert!(image.layers[0].join("one").is_file() && image.layers[1].join("two").is_file());
    let again = bench.fetch(&format!("docker-archive:{file}:docker.io/library/busybox:1")).unwrap();
    assert_eq!(again.id, image.id);
    // The trees are those of the layout.
    assert_eq!(bench.fetch(&name).unwrap().layers, image.layers);
    let error = chain(&bench.fetch(&format!("docker-archive:{file}:other")).unwrap_err());
    assert!(error.contains("docker.io/library/busybox:1") || error.contains("busybox:1"), "{error}");
}

#[test]
fn archives_of_older_and_other_tools_are_read() {
    let (one, two) = (layer("one"), layer("two"));
    let tar = Tar::default().file("one", b"one").end();
    let config = json!({
        "os": "linux", "architecture": host(),
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id.to_string(), two.diff_id.to_string(), one.diff_id.to_string()]},
    });
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]);
    let archive = |two: &[u8]| {
        Tar::default()
            .dir("a")
            .file("a/layer.tar", &tar)
            .file("b/layer.tar", two)
            .symlink("c/layer.tar", "../a/layer.tar")
            .file("./c.json", config.to_string().as_bytes())
            .file("manifest.json", manifest.to_string().as_bytes())
            .end()
    };
    let bench = Bench::new();
    let file = bench.path("image.tar");
    let name = format!("docker-archive:{}", file.display());
    std::fs::write(&file, archive(&two.bytes)).unwrap();
    let image = bench.fetch(&name).unwrap();
    assert_eq!(image.layers.len(), 3);
    assert!(image.layers[1].join("two").is_file(), "the compressed layer is unpacked");

    let bench = Bench::new();
    for (case, bytes, expected) in [
        ("damaged layer", archive(&crate::build::gzip(&tar)), "configuration says"),
        ("compressed and another", crate::build::gzip(&tar), "lacks \"manifest.json\""),
        ("compressed and cut off", crate::build::gzip(&archive(&two.bytes))[..200].to_vec(), "cannot read"),
        ("cut off", archive(&two.bytes)[..1100].to_vec(), "in the middle of \"a/layer.tar\""),
        ("not an archive", vec![7; 4096], "not a tar archive"),
        ("another archive", tar.clone(), "lacks \"manifest.json\""),
        ("link to itself", Tar::default().symlink("manifest.json", "manifest.json").end(), "lacks"),
    ] {
        std::fs::write(&file, "").unwrap_or_default();
        let file = bench.path("bad.tar");
        std::fs::write(&file, bytes).unwrap();
        let error = chain(&bench.fetch(&format!("docker-archive:{}", file.display())).expect_err(case));
        assert!(error.contains(expected), "{case}: {error}");
    }
}

#[test]
fn a_layout_of_umoci_with_busybox_is_read() {
    let bench = Bench::new();
    let (layout, bundle) =
        (bench.path("umoci").display().to_string(), bench.path("bundle").display().to_string());
    let image = format!("{layout}:box");
    let _ = run("umoci", &["init", "--layout", &layout]);
    let _ = run("umoci", &["new", "--image", &image]);
    let _ = run("umoci", &["unpack", "--image", &image, &bundle]);
    std::fs::create_dir_all(bench.path("bundle/rootfs/bin")).unwrap();
    let _ = std::fs::copy("/bin/busybox", bench.path("bundle/rootfs/bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", bench.path("bundle/rootfs/bin/sh")).unwrap();
    let _ = run("umoci", &["repack", "--image", &image, &bundle]);
    let _ = run("umoci", &["config", "--image", &image, "--config.cmd", "/bin/sh"]);
    let image = bench.fetch(&format!("oci:{layout}:box")).unwrap();
    let root = image.layers.last().unwrap().display().to_string();
    assert_eq!(run("chroot", &[&root, "/bin/sh", "-c", "echo hello"]), "hello\n");
}
