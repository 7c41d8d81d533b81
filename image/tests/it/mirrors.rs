//! Where `registries.conf` sends a reference.

use image::{Registries, RegistryConfig, RegistryOptions};

use crate::build::{Bench, Layer, Tar, chain, host, noise};
use crate::server::{Answer, Asked, Server, serve_layout};

fn configured(bench: &Bench, text: &str) -> RegistryConfig {
    let file = bench.path("registries.conf");
    std::fs::write(&file, text).unwrap();
    RegistryConfig { registries: Registries::read(&[file]).unwrap(), ..RegistryConfig::default() }
}

fn options(config: &RegistryConfig) -> RegistryOptions<'_> {
    RegistryOptions { config, ..RegistryOptions::default() }
}

/// A registry with one image, whose repository's name does not matter.
fn good(bench: &Bench) -> (impl Fn(&Asked) -> Answer + use<>, String) {
    let layer = Layer::gzip(&Tar::default().file("f", &noise(3, 50_000)).end());
    let manifest = bench.manifest(&[layer], host())["digest"].as_str().unwrap().to_owned();
    (serve_layout(bench.path("oci/blobs/sha256"), manifest.clone()), manifest)
}

#[test]
fn mirrors_are_asked_in_order_and_the_registry_last() {
    let bench = Bench::new();
    let (serve, _) = good(&bench);
    let (origin_serve, _) = good(&bench);
    let empty = Server::start(|asked| Answer::new(if asked.path == "/v2/" { 200 } else { 404 }, "{}"));
    // It has the documents, and nothing else.
    let half = Server::start(move |asked| match asked.path.contains("/blobs/") {
        true => Answer::new(404, "{}"),
        false => serve(asked),
    });
    let origin = Server::start(origin_serve);
    let config = configured(
        &bench,
        &format!(
            "[[registry]]\nprefix='r.example/ns'\nlocation='{}/inner'\n[[registry.mirror]]\nlocation='{}/one'\n[[registry.mirror]]\nlocation='{}/two'\n",
            origin.host, empty.host, half.host
        ),
    );
    let image = bench.fetch_with("r.example/ns/x:v1", options(&config)).unwrap();
    assert_eq!(image.name.as_deref(), Some("r.example/ns/x:v1"), "a mirror does not change the name");
    let paths = |server: &Server| server.asked().into_iter().map(|asked| asked.path).collect::<Vec<_>>();
    assert!(paths(&empty).contains(&"/v2/one/x/manifests/v1".to_owned()), "{:?}", paths(&empty));
    assert!(paths(&half).contains(&"/v2/two/x/manifests/v1".to_owned()), "{:?}", paths(&half));
    let last = paths(&origin);
    assert!(last.iter().any(|path| path.starts_with("/v2/inner/x/blobs/")), "{last:?}");
    assert!(!last.iter().any(|path| path.contains("/manifests/")), "the second mirror had it: {last:?}");
}

#[test]
fn what_a_mirror_makes_up_is_not_believed() {
    let bench = Bench::new();
    let (serve, manifest) = good(&bench);
    let liar = Server::start(|asked| match asked.path.as_str() {
        "/v2/" => Answer::new(200, "{}"),
        _ => Answer::new(200, r#"{"schemaVersion":2,"manifests":[]}"#),
    });
    let origin = Server::start(serve);
    let mirrored = |location: &str, options: &str| {
        format!(
            "[[registry]]\nprefix='r.example'\nlocation='{}'\n{options}\n[[registry.mirror]]\nlocation='{location}'\n",
            origin.host
        )
    };
    let config = configured(&bench, &mirrored(&liar.host, ""));
    let image = bench.fetch_with(&format!("r.example/x@{manifest}"), options(&config)).unwrap();
    assert_eq!(image.id.digest().to_string(), manifest);
    assert!(!liar.asked().is_empty());

    // By tag, a mirror that is for digests only is not asked at all.
    let config = configured(&bench, &mirrored(&liar.host, "mirror-by-digest-only = true"));
    let asked = liar.asked().len();
    assert_eq!(bench.fetch_with("r.example/x:v1", options(&config)).unwrap().id, image.id);
    assert_eq!(liar.asked().len(), asked);
}

#[test]
fn the_failure_of_every_place_is_told() {
    let bench = Bench::new();
    let empty = Server::start(|asked| Answer::new(if asked.path == "/v2/" { 200 } else { 404 }, "{}"));
    let closed =
        Server::start(|_| Answer::new(403, r#"{"errors":[{"code":"DENIED","message":"go\u0007 away"}]}"#));
    let config = configured(
        &bench,
        &format!(
            "[[registry]]\nprefix='r.example'\nlocation='{}'\n[[registry.mirror]]\nlocation='127.0.0.1:1'\n[[registry.mirror]]\nlocation='{}'\n",
            closed.host, empty.host
        ),
    );
    let error = chain(&bench.fetch_with("r.example/x:v1", options(&config)).unwrap_err());
    for expected in [
        "127.0.0.1:1/x:v1: cannot reach http://127.0.0.1:1/v2/: Connection refused",
        &format!("{}/x:v1: the registry {} has no such image", empty.host, empty.host),
        "refuses access (HTTP 403)",
        "it says: DENIED go  away",
    ] {
        assert!(error.contains(expected), "{expected:?} is not in {error}");
    }
}

#[test]
fn what_is_blocked_is_not_asked_for() {
    let bench = Bench::new();
    let server = Server::start(|_| Answer::new(200, "{}"));
    let text = format!("[[registry]]\nlocation='{}/bad'\nblocked=true", server.host);
    let config = configured(&bench, &text);
    let name = format!("{}/bad/x:v1", server.host);
    let error = chain(&bench.fetch_with(&name, options(&config)).unwrap_err());
    assert!(error.contains("is blocked by the entry") && error.contains("registries.conf"), "{error}");
    assert_eq!(server.asked().len(), 0);
}
