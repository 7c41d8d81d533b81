//! Tokens: refresh tokens, scopes, servers that are never content, and who gets to see what.

use std::sync::atomic::{AtomicUsize, Ordering};

use image::{Credential, Credentials, Proxies, RegistryConfig, RegistryOptions};

use crate::build::{Bench, Layer, Tar, chain, host, noise};
use crate::server::{Answer, Asked, ConnectProxy, Server, serve_layout};

fn good(bench: &Bench, layers: u64) -> impl Fn(&Asked) -> Answer + use<> {
    let layer = |seed| Layer::gzip(&Tar::default().file("f", &noise(seed, 10_000)).end());
    let layers: Vec<Layer> = (1..=layers).map(|seed| layer(seed * 1000)).collect();
    let manifest = bench.manifest(&layers, host())["digest"].as_str().unwrap().to_owned();
    serve_layout(bench.path("oci/blobs/sha256"), manifest)
}

fn knowing(registry: &str, credential: Credential) -> Credentials {
    let mut credentials = Credentials::new();
    credentials.add(registry, credential);
    credentials
}

fn with(credentials: &Credentials) -> RegistryOptions<'_> {
    RegistryOptions { credentials, ..RegistryOptions::default() }
}

fn bearer(asked: &Asked, more: &str) -> Answer {
    let realm = format!("http://{}/token", asked.header("host").unwrap());
    Answer::new(401, "{}").header("www-authenticate", format!(r#"Bearer realm="{realm}",service="s"{more}"#))
}

#[test]
fn a_refresh_token_is_posted_and_goes_nowhere_else() {
    let bench = Bench::new();
    let serve = good(&bench, 1);
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/token" => {
            let fields: Vec<&str> = asked.body.split('&').collect();
            let expected = [
                "service=s",
                "scope=repository:x:pull",
                "grant_type=refresh_token",
                "client_id=rkt",
                "refresh_token=long%20lived",
            ];
            let right = asked.method == "POST" && expected.iter().all(|field| fields.contains(field));
            Answer::new(if right { 200 } else { 400 }, r#"{"access_token":"short","expires_in":300}"#)
        }
        _ if asked.header("authorization") == Some("Bearer short") => serve(asked),
        _ => bearer(asked, ""),
    });
    let credentials = knowing(&server.host, Credential::RefreshToken("long lived".into()));
    let _ = bench.fetch_with(&format!("{}/x:v1", server.host), with(&credentials)).unwrap();
    let elsewhere =
        server.asked().iter().filter(|a| a.path != "/token").all(|a| !format!("{a:?}").contains("lived"));
    assert!(elsewhere, "the refresh token is for the token server only");
}

#[test]
fn a_token_without_enough_scope_is_replaced_by_one_with_the_scope_that_is_wanted() {
    let bench = Bench::new();
    let serve = good(&bench, 1);
    let server = Server::start(move |asked| {
        let wide = "scope=repository:x:pull%2Cpush&scope=repository:base:pull";
        match (asked.path.as_str(), asked.header("authorization")) {
            (path, _) if path.starts_with("/token") => {
                let token = if path.ends_with(wide) { "wide" } else { "narrow" };
                Answer::new(200, format!(r#"{{"token":"{token}"}}"#))
            }
            (_, Some("Bearer wide")) => serve(asked),
            ("/v2/", Some("Bearer narrow")) => serve(asked),
            (_, Some("Bearer narrow")) => bearer(
                asked,
                r#",error="insufficient_scope",scope="repository:x:pull,push repository:base:pull""#,
            ),
            _ => bearer(asked, ""),
        }
    });
    let _ = bench.fetch_with(&format!("{}/x:v1", server.host), RegistryOptions::default()).unwrap();
}

#[test]
fn a_registry_that_no_token_contents_is_not_asked_for_ever() {
    let bench = Bench::new();
    let made = AtomicUsize::new(0);
    let server = Server::start(move |asked| match asked.path.starts_with("/token") {
        true => Answer::new(200, format!(r#"{{"token":"{}"}}"#, made.fetch_add(1, Ordering::SeqCst))),
        false => bearer(asked, ""),
    });
    let error =
        chain(&bench.fetch_with(&format!("{}/x:v1", server.host), RegistryOptions::default()).unwrap_err());
    assert!(
        error.contains("refuses access (HTTP 401): the image does not exist, or needs credentials"),
        "{error}"
    );
    assert!(server.asked().len() <= 8, "{:?}", server.asked());
}

#[test]
fn one_token_serves_all_threads() {
    let bench = Bench::new();
    let serve = good(&bench, 6);
    let made = AtomicUsize::new(0);
    let blobs = AtomicUsize::new(0);
    // Layers need a newer token than the manifest and the configuration: every thread is refused at first.
    let server = Server::start(move |asked| match asked.header("authorization") {
        _ if asked.path.starts_with("/token") => {
            Answer::new(200, format!(r#"{{"token":"{}"}}"#, made.fetch_add(1, Ordering::SeqCst)))
        }
        Some("Bearer 1") => serve(asked),
        Some("Bearer 0") if !asked.path.contains("/blobs/") => serve(asked),
        Some("Bearer 0") if blobs.fetch_add(1, Ordering::SeqCst) == 0 => serve(asked),
        _ => bearer(asked, ""),
    });
    let _ = bench.fetch_with(&format!("{}/x:v1", server.host), RegistryOptions::default()).unwrap();
    let tokens = server.asked().iter().filter(|asked| asked.path.starts_with("/token")).count();
    assert_eq!(tokens, 2, "one at first, one for all layers");
}

#[test]
fn credentials_are_not_sent_in_the_open() {
    let bench = Bench::new();
    let server = Server::start(|asked| match asked.path.starts_with("/token") {
        true => Answer::new(403, ""),
        false => Answer::new(401, "{}").header("www-authenticate", "Basic realm=x"),
    });
    // A name that is not this machine's, which the proxy leads here.
    let proxy = ConnectProxy::start(&server.host, None);
    let variable = |name: &str| (name == "http_proxy").then(|| format!("http://{}", proxy.host));
    let proxies = Proxies::from_variables(&variable).unwrap();
    let config = RegistryConfig { proxies, ..RegistryConfig::default() };
    let credentials =
        knowing("r.test", Credential::Password { user: "ali".into(), password: "sesame".into() });
    let options = RegistryOptions { allow_http: true, config: &config, ..with(&credentials) };
    let error = chain(&bench.fetch_with("r.test/x:v1", options).unwrap_err());
    assert!(error.contains("which are not sent over plain http") && !error.contains("sesame"), "{error}");
    let asked = server.asked();
    assert!(!asked.is_empty() && asked.iter().all(|a| a.header("authorization").is_none()), "{asked:?}");
}

#[test]
fn a_broken_helper_matters_only_to_those_who_need_it() {
    let bench = Bench::new();
    let serve = good(&bench, 1);
    let open = Server::start(serve);
    let closed = Server::start(|asked| bearer(asked, ""));
    let file = bench.path("config.json");
    std::fs::write(&file, r#"{"credsStore":"that-is-nowhere"}"#).unwrap();
    let mut credentials = Credentials::new();
    credentials.add_docker_config(&file).unwrap();
    let _ = bench.fetch_with(&format!("{}/x:v1", open.host), with(&credentials)).unwrap();
    let error = chain(&bench.fetch_with(&format!("{}/x:v1", closed.host), with(&credentials)).unwrap_err());
    assert!(error.contains("docker-credential-that-is-nowhere") && error.contains("config.json"), "{error}");
}
