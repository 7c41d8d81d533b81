//! Authorities, client certificates and proxies: a real registry with TLS.

use image::{Certificates, Proxies, Registries, RegistryConfig, RegistryOptions};

use crate::build::{Bench, Layer, Tar, chain, run};
use crate::server::{ConnectProxy, DockerRegistry};

/// An authority, and what it signs.
struct Authority<'a>(&'a Bench);

impl Authority<'_> {
    fn new(bench: &Bench) -> Authority<'_> {
        let authority = Authority(bench);
        let (key, file) = (authority.file("ca.key"), authority.file("ca.pem"));
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let _ =
            run("openssl", &[&new[..], &["-subj", "/CN=authority", "-keyout", &key, "-out", &file]].concat());
        authority
    }

    fn file(&self, name: &str) -> String {
        self.0.path(name).display().to_string()
    }

    /// Writes `name.pem` and `name.key`.
    fn sign(&self, name: &str, extension: &str) -> (String, String) {
        let file = |end: &str| self.file(&format!("{name}.{end}"));
        let (certificate, key, request, extensions) = (file("pem"), file("key"), file("csr"), file("ext"));
        std::fs::write(&extensions, extension).unwrap();
        let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"];
        let _ = run("openssl", &[&new[..], &["-keyout", &key, "-out", &request]].concat());
        let (ca, ca_key) = (self.file("ca.pem"), self.file("ca.key"));
        let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        let _ = run("openssl", &[&sign[..], &["-extfile", &extensions, "-out", &certificate]].concat());
        (certificate, key)
    }
}

const SERVER: &str = "subjectAltName=IP:127.0.0.1,DNS:registry.test";

/// Fills the registry's storage, over plain http.
fn fill(bench: &mut Bench) {
    let plain = DockerRegistry::start(&bench.path(""), "");
    let from = bench.image("x", &[Layer::gzip(&Tar::default().file("f", b"f").end())]);
    let to = format!("docker://{}/test/x:v1", plain.host);
    let _ = run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &from, &to]);
}

fn certs_d(bench: &Bench, host: &str, files: &[(&str, &str)]) -> RegistryConfig {
    let dir = bench.path("certs.d");
    for (name, from) in files {
        std::fs::create_dir_all(dir.join(host)).unwrap();
        let _ = std::fs::copy(from, dir.join(host).join(name)).unwrap();
    }
    RegistryConfig { certificates: Certificates::in_directories(vec![dir]), ..RegistryConfig::default() }
}

#[test]
fn certs_d_says_whom_to_trust_and_who_we_are() {
    let mut bench = Bench::new();
    fill(&mut bench);
    let bench = &bench;
    let authority = Authority::new(bench);
    let (certificate, key) = authority.sign("server", SERVER);
    let (own, own_key) = authority.sign("client", "extendedKeyUsage=clientAuth");
    let ca = authority.file("ca.pem");
    let registry = DockerRegistry::with_client_certificates(&bench.path(""), &certificate, &key, &ca);
    let name = format!("{}/test/x:v1", registry.host);
    let fetch = |config: &RegistryConfig| {
        let options = RegistryOptions { config, ..RegistryOptions::default() };
        bench.fetch_with(&name, options).map_err(|error| chain(&error))
    };
    let refused = |config: &RegistryConfig, expected: &str| {
        let error = fetch(config).unwrap_err();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
    };
    refused(&RegistryConfig::default(), "certificate");
    // Whoever has no certificate is refused after the handshake.
    refused(&certs_d(bench, &registry.host, &[("own.crt", &ca)]), "cannot reach https://");
    refused(&certs_d(bench, &registry.host, &[("me.cert", &own)]), "me.cert is of no use without");
    // A key that does not fit.
    refused(&certs_d(bench, &registry.host, &[("me.key", &key)]), "me.cert cannot be used with its key");
    let _ = fetch(&certs_d(bench, &registry.host, &[("me.key", &own_key)])).unwrap();
}

#[test]
fn without_verification_a_certificate_may_be_anybodys() {
    let mut bench = Bench::new();
    fill(&mut bench);
    let (certificate, key) = Authority::new(&bench).sign("server", "subjectAltName=DNS:other.test");
    let registry = DockerRegistry::with_tls(&bench.path(""), &certificate, &key);
    let name = format!("{}/test/x:v1", registry.host);
    let error = chain(&bench.fetch(&name).unwrap_err());
    assert!(error.contains("certificate"), "{error}");
    let options = RegistryOptions { verify_tls: false, ..RegistryOptions::default() };
    let image = bench.fetch_with(&name, options).unwrap();

    let file = bench.path("registries.conf");
    for (insecure, ok) in [(true, true), (false, false)] {
        let text =
            format!("[[registry]]\nprefix='r.example'\nlocation='{}'\ninsecure={insecure}", registry.host);
        std::fs::write(&file, text).unwrap();
        let registries = Registries::read(std::slice::from_ref(&file)).unwrap();
        let config = RegistryConfig { registries, ..RegistryConfig::default() };
        let options = RegistryOptions { config: &config, ..RegistryOptions::default() };
        let outcome = bench.fetch_with("r.example/test/x:v1", options);
        assert_eq!(outcome.as_ref().is_ok_and(|other| other.id == image.id), ok, "insecure={insecure}");
    }
}

#[test]
fn a_proxy_leads_to_registries_and_is_told_its_password() {
    let mut bench = Bench::new();
    fill(&mut bench);
    let authority = Authority::new(&bench);
    let (certificate, key) = authority.sign("server", SERVER);
    let registry = DockerRegistry::with_tls(&bench.path(""), &certificate, &key);
    let port = registry.host.rsplit(':').next().unwrap();
    let host = format!("registry.test:{port}");
    // base64 of "me:hunter2".
    let proxy = ConnectProxy::start(&registry.host, Some("Basic bWU6aHVudGVyMg=="));
    let fetch = |user: &str, except: &str| {
        let variable = |name: &str| match name {
            "HTTPS_PROXY" => Some(format!("http://{user}@{}", proxy.host)),
            "NO_PROXY" => Some(except.to_owned()),
            _ => None,
        };
        let proxies = Proxies::from_variables(&variable).unwrap();
        let config = certs_d(&bench, &host, &[("own.crt", &authority.file("ca.pem"))]);
        let config = RegistryConfig { proxies, ..config };
        let options = RegistryOptions { config: &config, ..RegistryOptions::default() };
        bench.fetch_with(&format!("{host}/test/x:v1"), options).map_err(|error| chain(&error))
    };
    let _ = fetch("me:hunter2", "other.test").unwrap();
    let asked = proxy.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|line| *line == format!("CONNECT {host} HTTP/1.1")), "{asked:?}");
    let error = fetch("me:guess99", "").unwrap_err();
    assert!(error.contains("cannot reach https://registry.test") && !error.contains("guess99"), "{error}");
    let before = proxy.asked.lock().unwrap().len();
    let error = fetch("me:hunter2", ".test").unwrap_err();
    assert!(error.contains("cannot reach https://registry.test"), "{error}");
    assert_eq!(proxy.asked.lock().unwrap().len(), before, "NO_PROXY was not obeyed");
}
