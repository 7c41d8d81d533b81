//! policy.json against images that skopeo signed and pushed to a real registry.

use std::path::Path;

use image::{Digest, FetchError, FetchOptions, Image, ImageTrust, PullPolicy, SignatureKind, fetch};
use serde_json::{Value, json};

use crate::build::{Bench, Layer, Tar, chain, host, run};
use crate::gnupg::GnuPg;
use crate::server::{Answer, DockerRegistry, Server};

/// A registry, a lookaside directory, a policy.
struct Site {
    bench: Bench,
    registry: DockerRegistry,
    gpg: GnuPg,
}

impl Site {
    fn new() -> Self {
        let bench = Bench::new();
        let registry = DockerRegistry::start(&bench.path(""), "");
        let site = Self { bench, registry, gpg: GnuPg::new() };
        site.lookaside(&format!("file://{}", site.file("lookaside")));
        site
    }

    fn file(&self, name: &str) -> String {
        self.bench.path(name).display().to_string()
    }

    fn lookaside(&self, address: &str) {
        let _ = std::fs::create_dir_all(self.bench.path("registries.d"));
        let text = format!(
            "default-docker:\n  lookaside: {address}\n  use-sigstore-attachments: true\ndocker:\n  unrelated.example/x:\n    sigstore: file:///nowhere\n"
        );
        std::fs::write(self.bench.path("registries.d/default.yaml"), text).unwrap();
    }

    fn trust(&self) -> ImageTrust {
        let (policy_file, registries_dir) = (self.bench.path("policy.json"), self.bench.path("registries.d"));
        ImageTrust { policy_file, registries_dir }
    }

    /// The policy for the registry; everything else is rejected.
    fn policy(&self, requirements: Value) {
        let policy = json!({
            "default": [{"type": "reject"}],
            "transports": {"docker": {self.registry.host.clone(): requirements}},
        });
        std::fs::write(self.bench.path("policy.json"), policy.to_string()).unwrap();
    }

    fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.registry.host)
    }

    /// Copies a tag of the layout to the registry.
    fn push(&self, tag: &str, image: &str, options: &[&str]) {
        let (from, to) = (format!("{}:{tag}", self.bench.layout()), format!("docker://{}", self.name(image)));
        let registries = self.file("registries.d");
        let fixed = ["--registries.d", &registries, "copy", "-q", "--dest-tls-verify=false"];
        let home = format!("GNUPGHOME={}", self.gpg.home());
        let _ = run("env", &[&[&home, "skopeo"], &fixed[..], options, &[&from, &to]].concat());
    }

    fn fetch_as(&self, name: &str, pull_policy: PullPolicy) -> Result<Image, FetchError> {
        let trust = self.trust();
        let options = FetchOptions { pull_policy, trust: Some(&trust), ..FetchOptions::default() };
        fetch(&self.bench.store(), &name.parse().unwrap(), &options, &())
    }

    fn fetch(&self, image: &str) -> Result<Image, String> {
        self.fetch_as(&self.name(image), PullPolicy::Update).map_err(|error| chain(&error))
    }

    /// The image is refused, by the entry of the policy that governs it, and no layer of it came.
    fn refusal(&self, image: &str) -> String {
        let error = self.fetch(image).expect_err(image);
        let place = format!("transports.docker[\"{}\"] of {}", self.registry.host, self.file("policy.json"));
        assert!(error.contains(&place) && error.contains(image), "{error}");
        error
    }

    fn image(&mut self, tag: &str) {
        let _ = self.bench.image(tag, &[Layer::gzip(&Tar::default().file(tag, b"x").end())]);
    }

    /// An index with an image for another platform as well.
    fn index(&mut self, tag: &str) {
        let builds: Vec<_> = ["mips", host()]
            .into_iter()
            .map(|architecture| {
                let layer = Layer::gzip(&Tar::default().file(architecture, b"x").end());
                let mut manifest = self.bench.manifest(&[layer], architecture);
                manifest["platform"] = json!({"os": "linux", "architecture": architecture});
                manifest
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": builds});
        let index = self.bench.typed(index.to_string().as_bytes(), "application/vnd.oci.image.index.v1+json");
        self.bench.tag(index, tag);
    }

    fn signed_by(&self, key: &str) -> Value {
        let file = self.gpg.path(&format!("{key}.pub"));
        std::fs::write(&file, self.gpg.run(&["--export", key])).unwrap();
        json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": file})
    }

    /// The directory with the only image's signatures.
    fn signatures(&self, repository: &str) -> std::path::PathBuf {
        let mut entries =
            std::fs::read_dir(self.bench.path("lookaside")).unwrap().map(|entry| entry.unwrap().path());
        let fits =
            |path: &std::path::PathBuf| path.display().to_string().contains(&format!("{repository}@sha256="));
        entries.find(fits).unwrap()
    }
}

#[test]
fn images_that_skopeo_signed_with_gnupg_are_accepted() {
    let mut site = Site::new();
    let (key, other) = (site.gpg.key("owner", "rsa2048"), site.gpg.key("other", "ed25519"));
    site.image("plain");
    site.index("many");
    site.push("plain", "plain:v1", &["--sign-by", &key]);
    site.push("many", "many:v1", &["--all", "--sign-by", &key]);
    site.push("plain", "unsigned:v1", &[]);
    let signed_by = site.signed_by(&key);
    site.policy(json!([signed_by]));

    let image = site.fetch("plain:v1").unwrap();
    let [origin] = &site.bench.store().origins(image.id).unwrap()[..] else { panic!() };
    assert_eq!(origin.name, site.name("plain:v1"));
    let [signature] = &origin.signatures[..] else { panic!() };
    assert_eq!((signature.kind, &signature.key), (SignatureKind::SignedBy, &key));
    assert_eq!((&signature.reference, signature.digest), (&site.name("plain:v1"), image.id.digest()));
    let by_digest = site.fetch(&format!("plain@{}", image.id.digest())).unwrap();
    assert_eq!(by_digest.id, image.id);
    assert!(site.fetch("many:v1").is_ok());

    let error = site.refusal("unsigned:v1");
    assert!(error.contains("signedBy demands a signature, and there is none in file://"), "{error}");
    let signed_by = site.signed_by(&other);
    site.policy(json!([signed_by.clone()]));
    let error = site.refusal("plain:v1");
    assert!(error.contains("openpgp: signature made by unknown entity"), "{error}");
    let both = json!([site.signed_by(&key), signed_by]);
    site.policy(both);
    assert!(site.refusal("plain:v1").contains("unknown entity"), "every requirement must hold");
    let armored = std::fs::read(site.gpg.path(&format!("{key}.pub"))).unwrap();
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(armored);
    site.policy(json!([{"type": "signedBy", "keyType": "GPGKeys", "keyData": data}]));
    assert!(site.fetch("plain:v1").is_ok());
    let paths = [site.gpg.path(&format!("{other}.pub")), site.gpg.path(&format!("{key}.pub"))];
    site.policy(json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": paths}]));
    assert!(site.fetch("plain:v1").is_ok());
    site.policy(json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/nonexistent/key"}]));
    assert!(site.refusal("plain:v1").contains("cannot use /nonexistent/key"));
}

#[test]
fn a_signature_of_the_index_counts_for_what_it_names() {
    let mut site = Site::new();
    let key = site.gpg.key("owner", "ed25519");
    site.index("many");
    site.push("many", "many:v1", &["--all"]);
    let signed_by = site.signed_by(&key);
    site.policy(json!([signed_by]));
    assert!(site.refusal("many:v1").contains("there is none"));
    // Only the index, as whoever signs after pushing does it.
    let raw = run(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", site.name("many:v1"))],
    );
    std::fs::write(site.bench.path("index"), &raw).unwrap();
    let digest = Digest::of(raw.as_bytes());
    let directory = site.bench.path(&format!("lookaside/many@sha256={}", digest.hex()));
    std::fs::create_dir_all(&directory).unwrap();
    let home = format!("GNUPGHOME={}", site.gpg.home());
    let output = directory.join("signature-1").display().to_string();
    let sign = ["standalone-sign", &site.file("index"), &site.name("many:v1"), &key, "-o", &output];
    let _ = run("env", &[&[home.as_str(), "skopeo"], &sign[..]].concat());
    let image = site.fetch("many:v1").unwrap();
    assert_ne!(image.id.digest(), digest);
    let origins = site.bench.store().origins(image.id).unwrap();
    assert_eq!(origins[0].signatures[0].digest, digest);
}

#[test]
fn signatures_of_something_else_do_not_count() {
    let mut site = Site::new();
    let key = site.gpg.key("owner", "ed25519");
    for tag in ["good", "evil"] {
        site.image(tag);
    }
    site.push("good", "app:v1", &["--sign-by", &key]);
    let good = site.signatures("app");
    let bytes = std::fs::read(good.join("signature-1")).unwrap();
    let signed_by = site.signed_by(&key);
    site.policy(json!([signed_by]));
    assert!(site.fetch("app:v1").is_ok());

    // The same image under another name, and an old image of that name for a new tag.
    let put = |repository: &str, bytes: &[u8], from: &Path| {
        let directory =
            from.file_name().unwrap().to_str().unwrap().replace("app@", &format!("{repository}@"));
        let directory = site.bench.path("lookaside").join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("signature-1"), bytes).unwrap();
    };
    site.push("good", "other:v1", &[]);
    put("other", &bytes, &good);
    let error = site.refusal("other:v1");
    assert!(error.contains("which the policy does not accept for this image"), "{error}");
    site.push("good", "app:v2", &[]);
    assert!(site.refusal("app:v2").contains("which the policy does not accept for this image"));

    // Another image with the good one's signature.
    site.push("evil", "evil:v1", &[]);
    let raw = run(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", site.name("evil:v1"))],
    );
    let place = good.with_file_name(format!("app@sha256={}", Digest::of(raw.as_bytes()).hex()));
    put("evil", &bytes, &place);
    let error = site.refusal("evil:v1");
    assert!(error.contains("the signature is of another image, sha256:"), "{error}");

    let file = good.join("signature-1");
    let damaged: [(&str, Vec<u8>, &str); 6] = [
        ("cut", bytes[..bytes.len() - 20].to_vec(), "openpgp: "),
        (
            "changed",
            {
                let mut bytes = bytes.clone();
                let at = bytes.len() - 10;
                bytes[at] ^= 1;
                bytes
            },
            "openpgp: ",
        ),
        ("empty", Vec::new(), "there is no signature in it"),
        ("huge", vec![0; 200_000], "more than 131072 bytes"),
        ("detached", site.gpg.sign(&key, b"{}", &[]), "where a signature is expected"),
        ("nonsense", sign_message(&site.gpg, &key, b"{}"), "does not say what a signature of an image says"),
    ];
    for (case, bytes, expected) in damaged {
        std::fs::write(&file, bytes).unwrap();
        let error = site.refusal("app:v1");
        assert!(error.contains(expected), "{case}: {error}");
    }
    // One that does not count does no harm to one that does.
    std::fs::write(good.join("signature-2"), &bytes).unwrap();
    assert!(site.fetch("app:v1").is_ok());
}

fn sign_message(gpg: &GnuPg, key: &str, content: &[u8]) -> Vec<u8> {
    std::fs::write(gpg.path("message"), content).unwrap();
    gpg.run(&["--local-user", key, "--output", "-", "--sign", &gpg.path("message").display().to_string()])
}

#[test]
fn expired_and_revoked_keys_sign_nothing() {
    let mut site = Site::new();
    let past = ["--faked-system-time", "20200101T000000!"];
    let (old, gone) = (site.gpg.key_with("old", "ed25519", &past, "1d"), site.gpg.key("gone", "ed25519"));
    site.image("x");
    site.push("x", "gone:v1", &["--sign-by", &gone]);
    let signed_by = site.signed_by(&gone);
    site.policy(json!([signed_by]));
    assert!(site.fetch("gone:v1").is_ok());
    site.gpg.revoke(&gone);
    let signed_by = site.signed_by(&gone);
    site.policy(json!([signed_by]));
    assert!(site.refusal("gone:v1").contains(&format!("openpgp: key {gone} has been revoked")));
    let error = site.fetch_as(&site.name("gone:v1"), PullPolicy::Never).unwrap_err();
    assert!(chain(&error).contains("was not verified"), "an image of the store is refused as well: {error}");

    site.push("x", "old:v1", &[]);
    let digest = site.signatures("gone").display().to_string().rsplit_once('=').unwrap().1.to_owned();
    let payload = json!({"critical": {
        "type": "atomic container signature",
        "image": {"docker-manifest-digest": format!("sha256:{digest}")},
        "identity": {"docker-reference": site.name("old:v1")},
    }, "optional": {}});
    std::fs::write(site.gpg.path("payload"), payload.to_string()).unwrap();
    let payload = site.gpg.path("payload").display().to_string();
    let signature =
        site.gpg.run(&[&past[..], &["--local-user", &old, "--output", "-", "--sign", &payload]].concat());
    let directory = site.bench.path(&format!("lookaside/old@sha256={digest}"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("signature-1"), signature).unwrap();
    let signed_by = site.signed_by(&old);
    site.policy(json!([signed_by]));
    assert!(site.refusal("old:v1").contains("expired at 2020-01-02T00:00:00Z"));
}

#[test]
fn signatures_come_from_a_web_server_too() {
    let mut site = Site::new();
    let key = site.gpg.key("owner", "ed25519");
    site.image("x");
    site.push("x", "app:v1", &["--sign-by", &key]);
    let signed_by = site.signed_by(&key);
    site.policy(json!([signed_by]));
    let directory = site.bench.path("lookaside");
    let server = Server::start(move |asked| {
        match std::fs::read(directory.join(asked.path.trim_start_matches("/sigs/"))) {
            Ok(bytes) => Answer::new(200, bytes),
            Err(_) => Answer::new(404, ""),
        }
    });
    site.lookaside(&format!("http://{}/sigs", server.host));
    assert!(site.fetch("app:v1").is_ok());
    assert!(server.asked().iter().any(|asked| asked.path.ends_with("/signature-1")));
    let endless = Server::start(|_| Answer::new(200, vec![0x88; 1 << 20]));
    site.lookaside(&format!("http://{}", endless.host));
    assert!(site.refusal("app:v1").contains("more than 131072 bytes"));
    let broken = Server::start(|_| Answer::new(403, ""));
    site.lookaside(&format!("http://{}", broken.host));
    assert!(site.refusal("app:v1").contains("unexpected answer, HTTP 403"));
    site.lookaside("http://lookaside.invalid/");
    assert!(site.refusal("app:v1").contains("is not https"));
    site.lookaside("ftp://x");
    assert!(site.refusal("app:v1").contains("begins neither with file:/// nor with https://"));
    std::fs::write(site.bench.path("registries.d/more.yaml"), "default-docker: {lookaside: 'file:///x'}")
        .unwrap();
    assert!(site.refusal("app:v1").contains("both speak of default-docker"));
}

/// A key pair, made by OpenSSL; a payload and its signature are attached as cosign does it.
fn attach(site: &Site, key: &str, image: &str, digest: Digest, identity: &str, change: fn(&mut Vec<u8>)) {
    let payload = json!({"critical": {
        "identity": {"docker-reference": identity},
        "image": {"docker-manifest-digest": digest.to_string()},
        "type": "cosign container image signature",
    }, "optional": null});
    let (file, signature) = (site.file("payload"), site.file("signature"));
    std::fs::write(&file, payload.to_string()).unwrap();
    let private = site.file(&format!("{key}.key"));
    let raw = ["pkeyutl", "-sign", "-rawin", "-inkey", &private, "-in", &file, "-out", &signature];
    let digested = ["dgst", "-sha256", "-sign", &private, "-out", &signature, &file];
    let _ = run("openssl", if key == "ed25519" { &raw } else { &digested });
    use base64::Engine as _;
    let signature = base64::engine::general_purpose::STANDARD.encode(std::fs::read(signature).unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    change(&mut bytes);
    let mut layer = site.bench.typed(&bytes, "application/vnd.dev.cosign.simplesigning.v1+json");
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&bytes).to_string()]}});
    let config = site.bench.typed(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]});
    let manifest =
        site.bench.typed(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let layout = site.bench.path("attachment");
    std::fs::create_dir_all(&layout).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let mut entry = manifest;
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "sig"});
    std::fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
        .unwrap();
    if !layout.join("blobs").exists() {
        std::os::unix::fs::symlink(site.bench.path("oci/blobs"), layout.join("blobs")).unwrap();
    }
    let to = format!("docker://{}:{}-{}.sig", site.name(image), "sha256", digest.hex());
    let from = format!("oci:{}:sig", layout.display());
    let _ = run("skopeo", &["copy", "-q", "--preserve-digests", "--dest-tls-verify=false", &from, &to]);
}

fn key_pair(site: &Site, name: &str, options: &[&str]) -> Value {
    let (private, public) = (site.file(&format!("{name}.key")), site.file(&format!("{name}.pem")));
    let _ = run("openssl", &[&["genpkey", "-out", &private], options].concat());
    let _ = run("openssl", &["pkey", "-in", &private, "-pubout", "-out", &public]);
    json!({"type": "sigstoreSigned", "keyPath": public})
}

#[test]
fn sigstore_signatures_by_every_kind_of_key_are_verified() {
    let mut site = Site::new();
    let keys: [(&str, &[&str]); 4] = [
        ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("ed25519", &["-algorithm", "ED25519"]),
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ];
    let mut before = key_pair(&site, "stranger", keys[0].1);
    for (name, options) in keys {
        let requirement = key_pair(&site, name, options);
        site.image(name);
        let (app, unsigned) = (format!("{name}:v1"), format!("{name}-unsigned:v1"));
        site.push(name, &app, &[]);
        site.push(name, &unsigned, &[]);
        site.policy(json!([{"type": "insecureAcceptAnything"}]));
        let digest = site.fetch(&app).unwrap().id.digest();
        site.policy(json!([requirement.clone()]));
        assert!(
            site.refusal(&unsigned).contains("sigstoreSigned demands a signature, and there is none beside")
        );
        attach(&site, name, name, digest, &site.name(&app), |_| ());
        let image = site.fetch(&app).unwrap();
        let origins = site.bench.store().origins(image.id).unwrap();
        let origin = origins.iter().find(|origin| origin.name == site.name(&app)).unwrap();
        assert_eq!(origin.signatures[0].kind, SignatureKind::SigstoreSigned);

        site.policy(json!([before]));
        assert!(site.refusal(&app).contains("made by no key of the policy"), "{name}");
        site.policy(json!([requirement.clone()]));
        attach(&site, name, name, digest, &site.name(&app), |bytes| bytes.push(b' '));
        assert!(site.refusal(&app).contains("or what it says was changed"), "{name}");
        attach(&site, name, name, digest, &site.name("other:v1"), |_| ());
        assert!(site.refusal(&app).contains("which the policy does not accept"), "{name}");
        before = requirement;
    }
    site.policy(json!([{"type": "sigstoreSigned", "keyPath": site.file("rsa.key")}]));
    assert!(site.refusal("rsa:v1").contains("it is a PRIVATE KEY"));
    site.policy(json!([key_pair(
        &site,
        "p521",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]
    )]));
    assert!(site.refusal("rsa:v1").contains("keys of this kind are not supported"));
}

#[test]
fn the_policy_of_today_governs_what_is_in_the_store() {
    let mut site = Site::new();
    let key = site.gpg.key("owner", "ed25519");
    site.image("x");
    site.push("x", "app:v1", &["--sign-by", &key]);
    let name = site.name("app:v1");
    let run = |site: &Site, name: &str| site.fetch_as(name, PullPolicy::Never).map_err(|error| chain(&error));
    site.policy(json!([{"type": "insecureAcceptAnything"}]));
    let id = site.fetch("app:v1").unwrap().id;
    assert!(run(&site, &name).is_ok() && run(&site, &id.to_string()).is_ok());

    site.policy(json!([{"type": "reject"}]));
    for name in [&name, &id.to_string()] {
        let error = run(&site, name).unwrap_err();
        assert!(error.contains("it says \"reject\"") && error.contains(name), "{error}");
    }
    // A signature that nobody asked for then has to be looked for now.
    let signed_by = site.signed_by(&key);
    site.policy(json!([signed_by]));
    assert!(run(&site, &name).unwrap_err().contains("was not verified when the image was fetched"));
    assert!(site.fetch_as(&name, PullPolicy::New).is_ok());
    // And needs to be looked for only once.
    std::fs::remove_dir_all(site.bench.path("lookaside")).unwrap();
    assert!(run(&site, &name).is_ok() && run(&site, &id.to_string()).is_ok());
    // Who names other keys wants other signatures.
    let other = site.gpg.key("other", "ed25519");
    let signed_by = site.signed_by(&other);
    site.policy(json!([signed_by]));
    assert!(run(&site, &name).unwrap_err().contains("was not verified"));
    assert!(site.fetch_as(&name, PullPolicy::New).unwrap_err().to_string().contains("is refused by"));
    // --insecure-options=image
    let options = FetchOptions { pull_policy: PullPolicy::Never, ..FetchOptions::default() };
    assert!(fetch(&site.bench.store(), &name.parse().unwrap(), &options, &()).is_ok());
    // Without a policy, digests are enough.
    std::fs::remove_file(site.bench.path("policy.json")).unwrap();
    assert!(run(&site, &name).is_ok());
}

#[test]
fn layouts_and_archives_are_governed_as_well() {
    let mut site = Site::new();
    site.image("x");
    let layout = format!("{}:x", site.bench.layout());
    let archive = format!("docker-archive:{}", site.file("x.tar"));
    let _ = run("skopeo", &["copy", "-q", &layout, &archive]);
    let signed = json!([{"type": "sigstoreSigned", "keyData": "aGk="}]);
    let policy = |default: &str, docker_archive: &Value| {
        let policy = json!({
            "default": [{"type": default}],
            "transports": {"docker-archive": {"": docker_archive}, "oci": {site.file("oci"): [{"type": "reject"}]}},
        });
        std::fs::write(site.bench.path("policy.json"), policy.to_string()).unwrap();
    };
    policy("insecureAcceptAnything", &json!([{"type": "insecureAcceptAnything"}]));
    let error = chain(&site.fetch_as(&layout, PullPolicy::New).unwrap_err());
    assert!(error.contains("transports.oci[") && error.contains("reject"), "{error}");
    assert!(site.fetch_as(&archive, PullPolicy::New).is_ok());
    policy("reject", &json!([{"type": "signedBy", "keyType": "GPGKeys", "keyData": ""}]));
    let error = chain(&site.fetch_as(&archive, PullPolicy::New).unwrap_err());
    assert!(error.contains("transports.docker-archive[\"\"]"), "{error}");
    policy("reject", &signed);
    assert!(site.fetch_as(&archive, PullPolicy::New).is_err());

    std::fs::write(site.bench.path("policy.json"), "{").unwrap();
    for name in [&layout, &archive, &site.name("x")] {
        let error = chain(&site.fetch_as(name, PullPolicy::New).unwrap_err());
        assert!(error.contains("cannot understand the signature policy"), "{error}");
    }
}

#[test]
fn what_is_rejected_by_name_costs_no_request() {
    let site = Site::new();
    let server = Server::start(|_| Answer::new(500, ""));
    site.policy(json!([{"type": "insecureAcceptAnything"}]));
    let error = site.fetch_as(&format!("{}/x:v1", server.host), PullPolicy::Update).unwrap_err();
    assert!(error.to_string().contains("is refused by default of"), "{error}");
    assert_eq!(server.asked().len(), 0);
}
