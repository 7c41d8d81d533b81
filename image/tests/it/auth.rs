//! Who gets to see a password.

use image::{Credential, Credentials, FetchError, FetchOptions, Image, PullPolicy, RegistryOptions, fetch};

use crate::build::{Bench, Layer, Tar, chain, host, run};
use crate::server::{Answer, Asked, DockerRegistry, Server, serve_layout};

/// bcrypt of "open sesame".
const HTPASSWD: &str = "ali:$2b$04$/Tn22NwJoKTOsF1CVotx/uEAfK/y2YCOu45vK9AdI3wQVyv1bM1f.\n";
/// base64 of "ali:open sesame".
const BASIC: &str = "Basic YWxpOm9wZW4gc2VzYW1l";

fn fetch_as(bench: &Bench, name: &str, password: Option<&str>) -> Result<Image, FetchError> {
    let mut credentials = Credentials::new();
    if let Some(password) = password {
        let registry = name.split('/').next().unwrap();
        credentials.add(registry, Credential::Password { user: "ali".into(), password: password.into() });
    }
    let options = FetchOptions {
        pull_policy: PullPolicy::Update,
        registry: RegistryOptions { credentials: &credentials, ..RegistryOptions::default() },
        ..FetchOptions::default()
    };
    fetch(&bench.store(), &name.parse().unwrap(), &options, &())
}

fn layer() -> Layer {
    Layer::gzip(&Tar::default().file("f", b"f").end())
}

#[test]
fn a_registry_with_passwords_wants_the_right_one() {
    let mut bench = Bench::new();
    std::fs::write(bench.path("htpasswd"), HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", bench.path("htpasswd").display());
    let registry = DockerRegistry::start(&bench.path(""), &auth);
    let from = bench.image("x", &[layer()]);
    let to = format!("docker://{}/a/x:v1", registry.host);
    let _ = run(
        "skopeo",
        &["copy", "-q", "--dest-tls-verify=false", "--dest-creds", "ali:open sesame", &from, &to],
    );
    let name = format!("{}/a/x:v1", registry.host);
    let error = chain(&fetch_as(&bench, &name, None).unwrap_err());
    assert!(error.contains("HTTP 401") && error.contains("none are configured"), "{error}");
    let error = chain(&fetch_as(&bench, &name, Some("guess")).unwrap_err());
    assert!(error.contains("HTTP 401") && error.contains("do not suffice"), "{error}");
    assert!(!error.contains("guess"), "a password was displayed: {error}");
    let _ = fetch_as(&bench, &name, Some("open sesame")).unwrap();
}

/// A registry that wants tokens and makes them itself.
fn token_server(bench: &Bench, anonymous: bool) -> Server {
    let manifest = bench.manifest(&[layer()], host())["digest"].as_str().unwrap().to_owned();
    let good = serve_layout(bench.path("oci/blobs/sha256"), manifest);
    Server::start(move |asked: &Asked| {
        let host = asked.header("host").unwrap();
        if asked.path.starts_with("/token") {
            assert_eq!(asked.path, "/token?service=the%20service&scope=repository:x:pull");
            return match asked.header("authorization") {
                Some(BASIC) => Answer::new(200, r#"{"token":"secret"}"#),
                None if anonymous => Answer::new(200, r#"{"access_token":"secret"}"#),
                _ => Answer::new(401, "{}"),
            };
        }
        match asked.header("authorization") {
            Some("Bearer secret") => good(asked),
            _ => Answer::new(401, "{}").header(
                "www-authenticate",
                format!(r#"Bearer realm="http://{host}/token",service="the service""#),
            ),
        }
    })
}

#[test]
fn tokens_are_fetched_with_and_without_a_password() {
    let bench = Bench::new();
    let server = token_server(&bench, true);
    let _ = fetch_as(&bench, &format!("{}/x:v1", server.host), None).unwrap();
    let tokens = server.asked().iter().filter(|asked| asked.path.starts_with("/token")).count();
    assert_eq!(tokens, 1, "one token is enough");

    let bench = Bench::new();
    let server = token_server(&bench, false);
    let name = format!("{}/x:v1", server.host);
    let error = chain(&fetch_as(&bench, &name, None).unwrap_err());
    assert!(error.contains("refuses a token (HTTP 401)"), "{error}");
    let _ = fetch_as(&bench, &name, Some("open sesame")).unwrap();
    let leaked = server
        .asked()
        .iter()
        .any(|a| !a.path.starts_with("/token") && a.header("authorization") == Some(BASIC));
    assert!(!leaked, "the password is for the token server only");
}

#[test]
fn a_token_that_runs_out_is_replaced() {
    let bench = Bench::new();
    let manifest = bench.manifest(&[layer()], host())["digest"].as_str().unwrap().to_owned();
    let good = serve_layout(bench.path("oci/blobs/sha256"), manifest);
    let made = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        use std::sync::atomic::Ordering::SeqCst;
        if asked.path.starts_with("/token") {
            return Answer::new(200, format!(r#"{{"token":"{}"}}"#, made.fetch_add(1, SeqCst)));
        }
        // Every kind of request wants a newer token.
        let needed = if asked.path.contains("/blobs/") { 1 } else { 0 };
        let token = asked
            .header("authorization")
            .and_then(|text| text.strip_prefix("Bearer ")?.parse::<usize>().ok());
        match token {
            Some(token) if token >= needed => good(asked),
            _ => Answer::new(401, "").header(
                "www-authenticate",
                format!(r#"Bearer realm="http://{}/token""#, asked.header("host").unwrap()),
            ),
        }
    });
    let _ = fetch_as(&bench, &format!("{}/x:v1", server.host), None).unwrap();
}

#[test]
fn authorization_does_not_follow_a_redirect_to_another_host() {
    let bench = Bench::new();
    let manifest = bench.manifest(&[layer()], host())["digest"].as_str().unwrap().to_owned();
    let elsewhere = Server::start(serve_layout(bench.path("oci/blobs/sha256"), manifest.clone()));
    let good = serve_layout(bench.path("oci/blobs/sha256"), manifest);
    let target = elsewhere.host.clone();
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some(BASIC) if asked.path.starts_with("/v2/x/blobs/") => {
            Answer::new(307, "").header("location", format!("/moved{}", asked.path))
        }
        Some(BASIC) if asked.path.starts_with("/moved") => Answer::new(307, "")
            .header("location", format!("http://{target}{}", &asked.path["/moved".len()..])),
        Some(BASIC) => good(asked),
        _ => Answer::new(401, "").header("www-authenticate", "Basic realm=x"),
    });
    let _ = fetch_as(&bench, &format!("{}/x:v1", server.host), Some("open sesame")).unwrap();
    let asked = elsewhere.asked();
    assert!(asked.len() >= 2, "the blobs came from there: {asked:?}");
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");
}

#[test]
fn redirects_in_circles_end() {
    let bench = Bench::new();
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v2/" => Answer::new(200, ""),
        path => Answer::new(302, "").header("location", path),
    });
    let error = chain(&fetch_as(&bench, &format!("{}/x:v1", server.host), None).unwrap_err());
    assert!(error.contains("too many redirects"), "{error}");
}

#[test]
fn plain_http_is_for_loopback() {
    // A name that is not loopback by itself, whatever it resolves to: nothing is sent in the open.
    let bench = Bench::new();
    let server = Server::start(|_| Answer::new(200, ""));
    let port = server.host.rsplit(':').next().unwrap().to_owned();
    let name = std::fs::read_to_string("/etc/hostname").unwrap().trim().to_owned();
    let error = chain(
        &fetch_as(&bench, &format!("{}.example:{port}/x:v1", name.replace('_', "-")), None).unwrap_err(),
    );
    assert!(error.contains("cannot reach https://"), "{error}");
}
