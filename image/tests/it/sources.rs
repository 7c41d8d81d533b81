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
        (oci.clone(), "holds 5 images"),
        (format!("{oci}:foreign"), "it has linux/mips"),
        (format!("{oci}:wrong"), "is for linux/mips"),
        ("oci:/nonexistent".to_owned(), "cannot read /nonexistent/oci-layout"),
    ] {
        let error = chain(&bench.fetch(&name).expect_err(&name));
        assert!(error.contains(expected), "{name}: {error}");
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
        ("artifact", text.replace("image.config.v1+json", "empty.v1+json"), "not part of a container image"),
        ("layer type", text.replace("layer.v1.tar+gzip", "thing"), "not part of a container image"),
        ("schema 1", r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
        ("size", text.replace("\"size\":", "\"size\":-"), "cannot parse"),
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
        ("compressed", crate::build::gzip(&tar), "is compressed"),
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
