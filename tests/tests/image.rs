//! Images of other people's tools: fetched, run and given back, and what those tools say of what we give them.

use serde_json::Value;
use tests::{Kind, Node, Output, Test};

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(output.ok()).unwrap_or(Value::Null)
}

/// A root file system with a shell in it, in `scratch/root`.
fn root(t: &Test<'_>) -> String {
    let root = format!("{}/root", t.scratch());
    let script = format!(
        "mkdir -p {root}/bin {root}/etc; cp /bin/busybox {root}/bin/; ln -s busybox {root}/bin/sh;
         ln {root}/bin/busybox {root}/bin/cat; echo hello > {root}/etc/greeting;
         echo root:x:0:0::/:/bin/sh > {root}/etc/passwd; chmod 4755 {root}/bin/busybox"
    );
    let _ = t.sh(&script).ok();
    root
}

/// podman with a storage of the test's own.
fn podman(t: &Test<'_>, words: &str) -> Output {
    let s = t.scratch();
    t.sh(&format!(
        "cd {s}; podman --root={s}/podman --runroot={s}/podman-run --storage-driver=vfs --cgroup-manager=cgroupfs {words}"
    ))
}

fn buildah(t: &Test<'_>, words: &str) -> String {
    let s = t.scratch();
    let command =
        format!("cd {s}; buildah --root={s}/podman --runroot={s}/podman-run --storage-driver=vfs {words}");
    t.sh(&command).ok().to_owned()
}

/// An image of `root`, built by buildah and called `localhost/box:1`.
fn build(t: &Test<'_>, format: &str) {
    let root = root(t);
    let container = buildah(t, "from scratch");
    let _ = buildah(t, &format!("copy -q {container} {root} /"));
    let _ = buildah(
        t,
        &format!("config --entrypoint '[\"/bin/sh\",\"-c\",\"cat /etc/greeting\"]' --label a=b {container}"),
    );
    let _ = buildah(t, &format!("commit -q --format {format} {container} localhost/box:1"));
}

/// Runs the image, which says hello.
#[track_caller]
fn runs(t: &Test<'_>, image: &str) {
    assert_eq!(t.rkt(&["run", image]).ok(), "hello", "{image}");
}

#[test]
fn images_of_buildah_and_podman_are_run_and_given_back() {
    for (format, archive) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let t = begin(&format!("image_{format}"));
        build(&t, format);
        let s = t.scratch();
        let _ = podman(&t, &format!("save -q --format {archive} -o {s}/saved.tar localhost/box:1")).ok();
        let source = format!("{archive}:{s}/saved.tar");
        let id = t.rkt(&["fetch", "--full", &source]).ok().to_owned();
        runs(&t, &source);
        let inspected = json(&t.rkt(&["image", "inspect", &id]));
        assert_eq!(inspected[0]["labels"]["a"], "b", "{inspected:#}");
        let expected = inspected[0]["config_digest"].as_str().unwrap_or_default().to_owned();
        // Everything that we write is taken back by podman, with the configuration as it was.
        let _ = podman(&t, "rmi -f localhost/box:1").ok();
        for (target, name) in [("docker-archive", "localhost/back:1"), ("oci-archive", "localhost/back:2")] {
            let file = format!("{s}/{target}.tar");
            let _ = t.rkt(&["image", "export", &id, &format!("{target}:{file}:{name}")]).ok();
            let _ = podman(&t, &format!("load -q -i {file}")).ok();
            let loaded = podman(&t, &format!("image inspect --format '{{{{.ID}}}}' {name}"));
            assert_eq!(format!("sha256:{}", loaded.ok()), expected, "{target}");
            let raw = t.run(&["skopeo", "inspect", "--config", &format!("{target}:{file}:{name}")]);
            assert_eq!(json(&raw)["config"]["Labels"]["a"], "b", "{raw}");
        }
        // To run it, podman's runtime would want a hierarchy of control groups that not every node has.
        let root = podman(&t, "image mount localhost/back:1");
        assert_eq!(t.sh(&format!("cat {}/etc/greeting", root.ok())).ok(), "hello");
    }
}

#[test]
fn layouts_of_umoci_and_skopeo_are_run_and_given_back() {
    let t = begin("image_umoci");
    let (root, s) = (root(&t), t.scratch());
    let script = format!(
        "cd {s}; umoci init --layout u; umoci new --image u:box; umoci unpack --image u:box bundle;
         cp -a {root}/. bundle/rootfs/; umoci repack --image u:box bundle;
         umoci config --image u:box --config.entrypoint /bin/sh --config.entrypoint -c --config.cmd 'cat /etc/greeting';
         skopeo copy -q --insecure-policy oci:u:box dir:d;
         skopeo copy -q --insecure-policy --dest-compress=false --format v2s2 oci:u:box oci:copied:box || true"
    );
    let _ = t.sh(&script).ok();
    let source = format!("oci:{s}/u:box");
    let id = t.rkt(&["fetch", "--full", &source]).ok().to_owned();
    runs(&t, &source);
    let out = format!("oci:{s}/out:box");
    let _ = t.rkt(&["image", "export", &id, &out]).ok();
    let raw = |source: &str| t.run(&["skopeo", "inspect", "--raw", source]).ok().to_owned();
    assert_eq!(raw(&out), raw(&source), "the manifest, byte by byte");
    let copied = t.run(&["skopeo", "copy", "-q", "--insecure-policy", &out, &format!("oci:{s}/again:box")]);
    let _ = copied.ok();
    assert_eq!(t.rkt(&["fetch", "--full", &out]).ok(), id);
    let _ = t.rkt(&["image", "export", &id, &format!("oci-archive:{s}/back.tar:box")]).ok();
    assert_eq!(raw(&format!("oci-archive:{s}/back.tar:box")), raw(&out));
    let again = t.rkt(&["image", "export", &id, &format!("oci-archive:{s}/back.tar")]);
    assert!(again.fails_with(254).contains("exists (try --overwrite)"), "{again}");
}

#[test]
fn a_root_file_system_is_imported_named_and_copied_out() {
    let t = begin("image_import");
    let (root, s) = (root(&t), t.scratch());
    let _ = t.sh(&format!("tar -C {root} -czf {s}/root.tar.gz .")).ok();
    let import = |file: &str| {
        let words = format!(
            "rkt --dir={} image import {file} example.com/box --exec=/bin/sh --env=A=B --label=x=y --user=7:8 --working-dir=/etc -- -c 'cat greeting; echo $A; id -u; id -g'",
            t.data()
        );
        t.sh(&words).ok().to_owned()
    };
    let id = import(&format!("{s}/root.tar.gz"));
    assert_eq!(import(&format!("- < {s}/root.tar.gz")), id);
    assert_eq!(t.rkt(&["run", "example.com/box"]).ok(), "hello\nB\n7\n8");
    let _ = t.rkt(&["image", "tag", "example.com/box", "example.com/other:2"]).ok();
    let names = |output: &Output| json(output)[0]["names"].clone();
    let both = serde_json::json!(["example.com/box:latest", "example.com/other:2"]);
    assert_eq!(names(&t.rkt(&["image", "inspect", &id])), both);
    let untagged = t.rkt(&["image", "untag", "example.com/box"]);
    assert!(untagged.ok().starts_with("example.com/box:latest no longer stands for image"), "{untagged}");
    assert_eq!(
        t.rkt(&["image", "untag", "example.com/box"]).fails_with(254),
        "untag: no image is called \"example.com/box\""
    );
    let copy = format!("{s}/copy");
    let _ = t.rkt(&["image", "extract", "example.com/other:2", &copy]).ok();
    assert_eq!(json(&t.run(&["cat", &format!("{copy}/manifest")]))["acKind"], "ImageManifest");
    let same = t.sh(&format!(
        "cd {copy}/rootfs && find . -printf '%P %m %U %G %n %l\\n' | sort > {s}/a; cd {root} && find . -printf '%P %m %U %G %n %l\\n' | sort > {s}/b; diff {s}/a {s}/b"
    ));
    assert_eq!(same.ok(), "");
    let again = t.rkt(&["image", "render", "example.com/other:2", &copy]);
    assert!(again.fails_with(254).contains("exists (try --overwrite)"), "{again}");
    let _ = t.rkt(&["image", "render", "--rootfs-only", "--overwrite", "example.com/other:2", &copy]).ok();
    assert_eq!(t.run(&["cat", &format!("{copy}/etc/greeting")]).ok(), "hello");
    let data = t.data();
    let refused = t.rkt(&["image", "render", "--overwrite", "example.com/other:2", &data]);
    assert!(refused.fails_with(254).contains("cannot be an output directory"), "{refused}");
}

#[test]
fn schema_1_is_refused_and_what_the_sentence_recommends_helps() {
    let t = begin("image_schema1");
    let (root, s) = (root(&t), t.scratch());
    let script = format!(
        "cd {s}; tar -C {root} -czf root.tar.gz .; rkt --dir={data} image import root.tar.gz example.com/box --exec=/bin/cat -- /etc/greeting;
         rkt --dir={data} image export example.com/box docker-archive:box.tar:example.com/box:1;
         skopeo copy -q --insecure-policy --format v2s1 docker-archive:box.tar dir:old;
         skopeo copy -q --insecure-policy --format oci dir:old oci:new:1;
         mkdir -p bad/blobs/sha256; cp old/manifest.json bad/; d=$(sha256sum < old/manifest.json | cut -d' ' -f1);
         cp old/manifest.json bad/blobs/sha256/$d; echo '{{\"imageLayoutVersion\":\"1.0.0\"}}' > bad/oci-layout;
         echo \"{{\\\"schemaVersion\\\":2,\\\"manifests\\\":[{{\\\"mediaType\\\":\\\"application/vnd.docker.distribution.manifest.v1+prettyjws\\\",\\\"digest\\\":\\\"sha256:$d\\\",\\\"size\\\":$(stat -c %s old/manifest.json)}}]}}\" > bad/index.json",
        data = t.data()
    );
    let _ = t.sh(&script).ok();
    let refused = t.rkt(&["fetch", &format!("oci:{s}/bad")]);
    assert!(
        refused.fails_with(254).contains("schema 1") && refused.stderr.contains("skopeo copy --format=oci"),
        "{refused}"
    );
    runs(&t, &format!("oci:{s}/new:1"));
}
