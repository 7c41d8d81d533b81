//! Servers that stall, send nonsense, or lead astray.

use std::time::Duration;

use image::{Patience, RegistryOptions};

use crate::build::{Bench, Layer, Tar, chain, host, noise};
use crate::server::{Answer, Asked, ConnectProxy, Server, serve_layout};

/// Impatient, so that the tests are quick.
fn options() -> RegistryOptions<'static> {
    let patience = Patience {
        connect: Duration::from_millis(400),
        idle: Duration::from_millis(400),
        pause: Duration::from_millis(10),
        ..Patience::default()
    };
    RegistryOptions { patience, ..RegistryOptions::default() }
}

fn refusal(bench: &Bench, server: &Server) -> String {
    let name = format!("{}/x:v1", server.host);
    let error = chain(&bench.fetch_with(&name, options()).unwrap_err());
    assert_eq!(error.matches(&name).count(), 1, "the image is named once: {error}");
    assert!(error.starts_with("cannot fetch "), "{error}");
    error
}

/// Answers the manifest as it likes, and greets as a registry does.
fn manifests(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |asked| if asked.path == "/v2/" { Answer::new(200, "{}") } else { answer() })
}

fn good(bench: &Bench) -> impl Fn(&Asked) -> Answer + use<> {
    let layer = Layer::plain(&Tar::default().file("f", &noise(5, 400_000)).end());
    let manifest = bench.manifest(&[layer], host())["digest"].as_str().unwrap().to_owned();
    serve_layout(bench.path("oci/blobs/sha256"), manifest)
}

#[test]
fn who_stalls_before_an_answer_is_not_asked_again() {
    let bench = Bench::new();
    for stall_at in [0, 20] {
        let server = manifests(move || Answer { stall_at: Some(stall_at), ..Answer::new(200, "{}") });
        let error = refusal(&bench, &server);
        assert!(error.contains("stalls") && error.contains("nothing came for 0.4 seconds"), "{error}");
        assert_eq!(server.asked().len(), 2, "a greeting and a manifest: {:?}", server.asked());
    }
}

#[test]
fn who_stalls_within_a_layer_is_asked_once_more() {
    let bench = Bench::new();
    let serve = good(&bench);
    let server = Server::start(move |asked| {
        let answer = serve(asked);
        let stall = answer.body.len() > 300_000;
        Answer { stall_at: stall.then_some(200_000), ..answer }
    });
    let error = refusal(&bench, &server);
    assert!(
        error.contains("stalls: after 199") && error.contains("nothing came for 0.4 seconds, twice"),
        "{error}"
    );
    let blobs = server.asked().into_iter().filter(|asked| asked.header("range").is_some()).count();
    assert_eq!(blobs, 1, "{:?}", server.asked());
    bench.assert_clean();
}

#[test]
fn who_never_connects_is_told() {
    let bench = Bench::new();
    // A proxy that takes a connection to a server that does not speak TLS, and no more.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = ConnectProxy::start(&silent.local_addr().unwrap().to_string(), None);
    let variable = |name: &str| (name == "https_proxy").then(|| format!("http://{}", proxy.host));
    let config = image::RegistryConfig {
        proxies: image::Proxies::from_variables(&variable).unwrap(),
        ..image::RegistryConfig::default()
    };
    let options = RegistryOptions { config: &config, ..options() };
    let error = chain(&bench.fetch_with("r.test/x:v1", options).unwrap_err());
    assert!(error.contains("no connection within 0.4 seconds"), "{error}");
}

#[test]
fn a_web_server_is_no_registry() {
    let bench = Bench::new();
    let page = "<!DOCTYPE html><title>Welcome</title>";
    let typed = manifests(move || Answer::new(200, page).header("content-type", "Text/HTML; charset=utf-8"));
    let untyped = manifests(move || Answer::new(200, format!("\n {page}")));
    let other = Server::start(|_| Answer::new(404, "not here"));
    for server in [typed, untyped, other] {
        let error = refusal(&bench, &server);
        assert!(error.contains("does not look like a registry"), "{error}");
    }
    let nonsense = manifests(|| Answer::new(200, "OK").header("content-type", "text/plain"));
    let _ = refusal(&bench, &nonsense);
}

#[test]
fn registries_that_refuse_are_quoted() {
    let bench = Bench::new();
    for (status, expected) in [
        (
            401,
            "refuses access (HTTP 401): the image does not exist, or needs credentials, and none are configured",
        ),
        (403, "refuses access (HTTP 403): the image does not exist, or needs credentials"),
        (404, "has no such image"),
        (418, "unexpected answer, HTTP 418"),
    ] {
        let server = manifests(move || {
            Answer::new(status, r#"{"errors":[{"code":"CODE","message":"because\u001b[2J"}]}"#)
        });
        let error = refusal(&bench, &server);
        assert!(error.contains(expected) && error.ends_with("; it says: CODE because [2J"), "{error}");
    }
}

#[test]
fn a_registry_that_wants_an_hour_is_not_waited_for() {
    let bench = Bench::new();
    let server = manifests(|| Answer::new(429, "").header("retry-after", "3600"));
    let error = refusal(&bench, &server);
    assert!(error.contains("cannot answer now (HTTP 429); try again later"), "{error}");
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
    // One that only says that it is broken is asked as often as patience has it.
    let server = manifests(|| Answer::new(500, ""));
    assert!(refusal(&bench, &server).contains("HTTP 500"));
    assert_eq!(server.asked().len(), 5, "{:?}", server.asked());
}

#[test]
fn redirects_lead_neither_to_files_nor_into_the_open() {
    let bench = Bench::new();
    for (target, expected) in [
        ("file:///etc/passwd", "it is not an http address"),
        ("ftp://r.test/x", "it is not an http address"),
        ("http://r.test/x?signature=secret", "it would use plain http"),
        ("//r.test/x", "it would use plain http"),
        ("", "too many redirects"),
    ] {
        let server = manifests(move || Answer::new(307, "").header("location", target));
        let error = refusal(&bench, &server);
        assert!(error.contains(expected) && !error.contains("secret"), "{target}: {error}");
    }
}

#[test]
fn endless_headers_end() {
    let bench = Bench::new();
    let server = manifests(|| Answer::new(200, "{}").header("x-long", "x".repeat(1 << 20)));
    let error = refusal(&bench, &server);
    assert!(error.contains("cannot reach"), "{error}");
}
