//! A real registry, and registries that misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};

use image::{FetchOptions, ImageName, LayerEvent, PullPolicy, fetch};

use crate::build::{Bench, Layer, Tar, chain, host, noise, run};
use crate::server::{Answer, Asked, DockerRegistry, Server, serve_layout};

fn layer(name: &str) -> Layer {
    Layer::gzip(&Tar::default().file(name, &noise(name.len() as u64, 100_000)).end())
}

fn push(bench: &Bench, registry: &DockerRegistry, tag: &str, options: &[&str]) -> String {
    let (from, to) =
        (format!("{}:{tag}", bench.layout()), format!("docker://{}/test/{tag}:v1", registry.host));
    let fixed = ["copy", "-q", "--dest-tls-verify=false", &from, &to];
    let _ = run("skopeo", &[&fixed[..], options].concat());
    format!("{}/test/{tag}:v1", registry.host)
}

#[test]
fn a_registry_serves_tags_digests_indexes_and_both_formats() {
    let mut bench = Bench::new();
    let registry = DockerRegistry::start(&bench.path(""), "");
    let plain = bench.image("plain", &[layer("one"), layer("second")]);
    let tar = Tar::default().file("zstd", &noise(9, 100_000)).end();
    let _ = bench.image("zstd", &[Layer::zstd(&tar)]);
    let builds: Vec<_> = ["mips", host()]
        .into_iter()
        .map(|architecture| {
            let mut manifest = bench.manifest(&[layer(architecture)], architecture);
            manifest["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
            manifest
        })
        .collect();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": builds}).to_string();
    let index = bench.typed(index.as_bytes(), "application/vnd.oci.image.index.v1+json");
    bench.tag(index, "many");

    let local = bench.fetch(&plain).unwrap();
    let name = push(&bench, &registry, "plain", &[]);
    let image = bench.fetch(&format!("docker://{name}")).unwrap();
    assert_eq!((image.id, &image.layers), (local.id, &local.layers));
    assert_eq!(image.name.as_deref(), Some(name.as_str()));
    let by_digest = format!("{}@{}", name.trim_end_matches(":v1"), image.id.digest());
    assert_eq!(bench.fetch(&by_digest).unwrap().id, image.id);

    let name = push(&bench, &registry, "plain", &["--format", "v2s2"]);
    let docker = bench.fetch(&name).unwrap();
    assert_ne!(docker.id, image.id);
    assert_eq!(docker.layers, image.layers, "the same layers in another format are the same trees");
    assert!(docker.oci().unwrap().0.config().media_type().to_string().contains("docker"));

    let name = push(&bench, &registry, "zstd", &[]);
    assert!(bench.fetch(&name).unwrap().layers[0].join("zstd").is_file());
    let name = push(&bench, &registry, "many", &["--all"]);
    assert!(bench.fetch(&name).unwrap().layers[0].join(host()).is_file());

    for (name, expected) in [
        (format!("{}/test/plain:none", registry.host), "no such image"),
        (format!("{}/none:v1", registry.host), "no such image"),
        (format!("{}/test/plain@{}", registry.host, image::Digest::of(b"")), "no such image"),
        ("127.0.0.1:1/x".to_owned(), "cannot reach http://127.0.0.1:1/"),
    ] {
        let error = chain(&bench.fetch(&name).expect_err(&name));
        assert!(error.contains(expected) && error.contains(&name), "{error}");
    }
    bench.assert_clean();
}

#[test]
fn a_damaged_registry_is_found_out() {
    let mut bench = Bench::new();
    let registry = DockerRegistry::start(&bench.path(""), "");
    type Damage = fn(&mut Vec<u8>);
    let kinds: [(&str, Damage, &str); 3] = [
        ("flipped", |bytes| bytes[50_000] ^= 1, "corrupt"),
        ("truncated", |bytes| bytes.truncate(50_000), "has 50000 bytes in the registry"),
        ("gone", |bytes| bytes.clear(), "bytes in the registry"),
    ];
    for (tag, change, expected) in kinds {
        let layer = layer(tag);
        let digest = image::Digest::of(&layer.bytes).to_string();
        let _ = bench.image(tag, &[layer]);
        let name = push(&bench, &registry, tag, &[]);
        let file = DockerRegistry::blob_file(&bench.path(""), &digest);
        let mut bytes = std::fs::read(&file).unwrap();
        change(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let error = chain(&bench.fetch(&name).expect_err(tag));
        assert!(error.contains(expected) && error.contains(&digest), "{tag}: {error}");
        bench.assert_clean();
        assert_eq!(bench.store().images().unwrap(), []);
    }
}

#[test]
fn the_pull_policy_decides_who_is_asked() {
    let mut bench = Bench::new();
    let _ = bench.image("v1", &[layer("one")]);
    let first = bench.manifest(&[layer("one")], host())["digest"].as_str().unwrap().to_owned();
    let server = Server::start(serve_layout(bench.path("oci/blobs/sha256"), first));
    let name: ImageName = format!("{}/x:v1", server.host).parse().unwrap();
    let get = |pull_policy| {
        let options = FetchOptions { pull_policy, ..FetchOptions::default() };
        fetch(&bench.store(), &name, &options, &())
    };
    let error = get(PullPolicy::Never).unwrap_err().to_string();
    assert!(error.contains("/x:v1 is not in the store"), "{error}");
    assert_eq!(server.asked().len(), 0);
    let image = get(PullPolicy::New).unwrap();
    let asked = server.asked().len();
    assert_eq!(get(PullPolicy::New).unwrap().id, image.id);
    assert_eq!(get(PullPolicy::Never).unwrap().id, image.id);
    assert_eq!(server.asked().len(), asked, "what is in the store needs no registry");
    assert_eq!(get(PullPolicy::Update).unwrap().id, image.id);
    let new = server.asked().split_off(asked);
    assert!(!new.iter().any(|asked| asked.path.contains("/blobs/")), "nothing is transferred again: {new:?}");
}

/// Serves one image, and lets the test answer what it likes for blobs.
fn odd_server(
    bench: &mut Bench,
    blob: impl Fn(usize, &Asked, Vec<u8>) -> Answer + Send + Sync + 'static,
) -> (Server, String) {
    let layer = Layer::plain(&Tar::default().file("f", &noise(5, 400_000)).end());
    let file = bench.path("oci/blobs/sha256").join(layer.diff_id.hex());
    let end = layer.diff_id.to_string();
    let manifest = bench.manifest(&[layer], host())["digest"].as_str().unwrap().to_owned();
    let good = serve_layout(bench.path("oci/blobs/sha256"), manifest);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        if asked.path.ends_with(&end) {
            return blob(count.fetch_add(1, Ordering::SeqCst), asked, std::fs::read(&file).unwrap());
        }
        good(asked)
    });
    let name = format!("{}/x:v1", server.host);
    (server, name)
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let mut bench = Bench::new();
    let (server, name) = odd_server(&mut bench, |count, asked, bytes| {
        let range = asked
            .header("range")
            .map(|range| range["bytes=".len()..range.len() - 1].parse::<usize>().unwrap());
        let from = range.unwrap_or(0);
        let left = bytes.len() - from;
        let send = if count < 2 { 100_000 } else { left };
        let mut answer = Answer::new(if range.is_some() { 206 } else { 200 }, &bytes[from..from + send]);
        answer.length = Some(left);
        answer.header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
    });
    let image = bench.fetch(&name).unwrap();
    assert_eq!(std::fs::read(image.layers[0].join("f")).unwrap(), noise(5, 400_000));
    let ranges: Vec<_> =
        server.asked().iter().filter_map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
}

#[test]
fn a_server_without_ranges_is_read_up_to_where_it_broke() {
    let mut bench = Bench::new();
    let (_server, name) = odd_server(&mut bench, |count, _, bytes| {
        let mut answer = Answer::new(200, &bytes[..if count == 0 { 150_000 } else { bytes.len() }]);
        answer.length = Some(bytes.len());
        answer
    });
    let image = bench.fetch(&name).unwrap();
    assert_eq!(std::fs::read(image.layers[0].join("f")).unwrap(), noise(5, 400_000));
}

#[test]
fn lies_about_lengths_are_refused() {
    type Lie = fn(Vec<u8>) -> Answer;
    let cases: [(&str, Lie, &str); 3] = [
        (
            "half, again and again",
            |bytes| {
                let mut answer = Answer::new(200, &bytes[..1000]);
                answer.length = Some(bytes.len());
                answer
            },
            "cannot download the layer",
        ),
        ("more", |bytes| Answer::new(200, [&bytes[..], b"more"].concat()), "the manifest says"),
        ("not found", |_| Answer::new(404, "{}"), "lacks sha256:"),
    ];
    for (case, answer, expected) in cases {
        let mut bench = Bench::new();
        let (_server, name) = odd_server(&mut bench, move |_, _, bytes| answer(bytes));
        let error = chain(&bench.fetch(&name).expect_err(case));
        assert!(error.contains(expected), "{case}: {error}");
        bench.assert_clean();
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let mut bench = Bench::new();
    let (server, name) = odd_server(&mut bench, |count, _, bytes| match count {
        0 => Answer::new(503, ""),
        1 => Answer::new(429, "").header("retry-after", "0"),
        _ => Answer::new(200, bytes),
    });
    let _ = bench.fetch(&name).unwrap();
    assert_eq!(server.asked().iter().filter(|asked| asked.path.contains("/blobs/")).count(), 4);
}

#[test]
fn a_manifest_that_is_not_the_one_asked_for_is_refused() {
    let bench = Bench::new();
    let other = bench.manifest(&[layer("x")], host())["digest"].as_str().unwrap().to_owned();
    let blobs = bench.path("oci/blobs/sha256");
    let bytes = std::fs::read(blobs.join(&other["sha256:".len()..])).unwrap();
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/v2/x/manifests/announced" => Answer::new(200, bytes.clone())
            .header("docker-content-digest", image::Digest::of(b"").to_string()),
        "/v2/x/manifests/endless" => Answer::new(200, vec![b' '; 5 << 20]),
        "/v2/x/manifests/old" => Answer::new(200, r#"{"schemaVersion":1}"#)
            .header("content-type", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        _ => Answer::new(200, bytes.clone()),
    });
    let digest = image::Digest::of(b"wanted");
    for (name, expected) in [
        (format!("x@{digest}"), "the manifest is corrupt"),
        ("x:announced".to_owned(), "the manifest is corrupt"),
        ("x:endless".to_owned(), "more than 4194304 bytes"),
        ("x:old".to_owned(), "schema 1"),
    ] {
        let error = chain(&bench.fetch(&format!("{}/{name}", server.host)).expect_err(&name));
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn progress_tells_what_happens() {
    let mut bench = Bench::new();
    let layers = [layer("one"), layer("another")];
    let digests: Vec<_> =
        layers.iter().map(|layer| (image::Digest::of(&layer.bytes), layer.bytes.len() as u64)).collect();
    let name = bench.image("x", &layers).parse().unwrap();
    #[derive(Default)]
    struct Log(std::sync::Mutex<Vec<(image::Digest, LayerEvent)>>);
    impl image::Progress for Log {
        fn layer(&self, layer: image::Digest, event: LayerEvent) {
            self.0.lock().unwrap().push((layer, event));
        }
    }
    let log = Log::default();
    let options = FetchOptions { pull_policy: PullPolicy::Update, ..FetchOptions::default() };
    let _ = fetch(&bench.store(), &name, &options, &log).unwrap();
    let events = std::mem::take(&mut *log.0.lock().unwrap());
    for (digest, size) in &digests {
        let of: Vec<_> =
            events.iter().filter(|(layer, _)| layer == digest).map(|(_, event)| *event).collect();
        assert_eq!(of.first(), Some(&LayerEvent::Started { size: *size }));
        assert_eq!(of.last(), Some(&LayerEvent::Done));
        let received: u64 =
            of.iter().map(|event| if let LayerEvent::Received { bytes } = event { *bytes } else { 0 }).sum();
        assert_eq!(received, *size);
    }
    let _ = fetch(&bench.store(), &name, &options, &log).unwrap();
    assert!(log.0.lock().unwrap().iter().all(|(_, event)| *event == LayerEvent::Present));
}

/// The program runs in a mount namespace where the host trusts another authority as well.
#[test]
fn tls_needs_a_certificate_that_the_host_trusts() {
    let mut bench = Bench::new();
    let file = |name: &str| bench.path(name).display().to_string();
    let (ca, ca_key, request) = (file("ca.pem"), file("ca.key"), file("request"));
    let (certificate, key, extension) = (file("leaf.pem"), file("leaf.key"), file("extension"));
    let new = ["req", "-newkey", "rsa:2048", "-nodes"];
    let _ = run(
        "openssl",
        &[&new[..], &["-x509", "-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca]].concat(),
    );
    let _ =
        run("openssl", &[&new[..], &["-subj", "/CN=registry", "-keyout", &key, "-out", &request]].concat());
    std::fs::write(&extension, "subjectAltName=IP:127.0.0.1").unwrap();
    let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
    let _ = run("openssl", &[&sign[..], &["-extfile", &extension, "-out", &certificate]].concat());
    let plain = DockerRegistry::start(&bench.path(""), "");
    let _ = bench.image("x", &[layer("one")]);
    let _ = push(&bench, &plain, "x", &[]);
    drop(plain);
    let tls = DockerRegistry::with_tls(&bench.path(""), &certificate, &key);
    let name = format!("{}/test/x:v1", tls.host);

    let error = chain(&bench.fetch(&name).unwrap_err());
    assert!(error.contains("cannot reach https://") && error.contains("certificate"), "{error}");
    let program = crate::build::fetch_program().display().to_string();
    let (all, store) = (bench.path("all.pem").display().to_string(), bench.path("cas").display().to_string());
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let trust = format!("cat {ca} {bundle} > {all} && mount --bind {all} {bundle}");
    let output = run("unshare", &["-m", "sh", "-c", &format!("{trust} && {program} {store} {name}")]);
    assert!(output.starts_with("sha256-"), "{output}");
}
