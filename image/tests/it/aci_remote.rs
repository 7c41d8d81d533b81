//! ACIs from servers: discovery, downloads that break and are not repeated, signatures.
//!
//! The server is also the proxy for everything, so that it can be `example.com`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use image::{
    AciKeys, AciOptions, AciTrust, FetchError, FetchOptions, Image, ImageName, Proxies, PullPolicy,
    RegistryConfig, RegistryOptions, Store, fetch,
};
use serde_json::json;

use crate::aci::{archive, manifest};
use crate::build::{self, chain};
use crate::server::{Answer, Asked};

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A server that is every http server there is.
struct World {
    bench: build::Bench,
    store: Store,
    config: RegistryConfig,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Arc<Script>>>,
}

/// Signs with the image's own text.
struct Keys;

impl AciKeys for Keys {
    fn verify(
        &self,
        name: &str,
        content: &mut dyn std::io::Read,
        signature: &[u8],
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let mut bytes = Vec::new();
        let _ = content.read_to_end(&mut bytes)?;
        let expected = format!("{name} {}", image::Digest::of(&bytes));
        if signature == expected.as_bytes() { Ok("tester".into()) } else { Err("signed by nobody".into()) }
    }
}

fn signature(name: &str, bytes: &[u8]) -> Vec<u8> {
    format!("{name} {}", image::Digest::of(bytes)).into_bytes()
}

impl World {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let proxies = Proxies::from_variables(&|name| {
            matches!(name, "HTTP_PROXY" | "HTTPS_PROXY").then(|| address.clone())
        });
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Arc<Script>>> =
            Arc::new(Mutex::new(Arc::new(|_: &Asked| Answer::new(404, ""))));
        let (log, answers) = (asked.clone(), script.clone());
        let _ = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answers) = (log.clone(), answers.clone());
                let _ = std::thread::spawn(move || serve(&stream, &log, &answers));
            }
        });
        let bench = build::Bench::new();
        let store = bench.store();
        let config = RegistryConfig { proxies: proxies.unwrap(), ..RegistryConfig::default() };
        Self { bench, store, config, asked, script }
    }

    fn answer(&self, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// The paths that were asked for since the last call.
    fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().drain(..).map(|asked| asked.path).collect()
    }

    fn fetch(&self, word: &str, trust: AciTrust<'_>) -> Result<Image, FetchError> {
        let registry =
            RegistryOptions { allow_http: true, config: &self.config, ..RegistryOptions::default() };
        let platform = image::Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let aci = AciOptions { trust, ..AciOptions::default() };
        let pull_policy = PullPolicy::Update;
        let options = FetchOptions { registry, platform, aci, pull_policy, ..FetchOptions::default() };
        fetch(&self.store, &word.parse::<ImageName>().unwrap(), &options, &())
    }

    fn waived(&self, word: &str) -> Result<Image, String> {
        self.fetch(word, AciTrust::Waived).map_err(|error| chain(&error))
    }

    fn signed(&self, word: &str) -> Result<Image, String> {
        self.fetch(word, AciTrust::Signed(&Keys)).map_err(|error| chain(&error))
    }

    fn left(&self) -> usize {
        let entries = std::fs::read_dir(self.bench.path("cas/remote")).unwrap();
        entries.filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "part").count()
    }
}

fn serve(mut stream: &TcpStream, log: &Mutex<Vec<Asked>>, script: &Mutex<Arc<Script>>) {
    loop {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header =
            |line: String| line.split_once(": ").map(|(key, value)| (key.to_lowercase(), value.to_owned()));
        let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).filter_map(header).collect();
        if method == "CONNECT" {
            // There is no https in this world.
            let status = if path.ends_with(":443") { 502 } else { 200 };
            let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes());
            if status == 200 {
                continue;
            }
            return;
        }
        let host = headers.iter().find(|(key, _)| key == "host").map(|(_, host)| host.clone());
        let path = match path.strip_prefix("http://") {
            Some(rest) => rest.to_owned(),
            None => format!("{}{path}", host.unwrap_or_default()),
        };
        let asked = Asked { method: "GET".into(), path, headers, body: String::new() };
        log.lock().unwrap().push(asked.clone());
        let script = script.lock().unwrap().clone();
        let answer = script(&asked);
        let length = answer.length.unwrap_or(answer.body.len());
        let mut head =
            format!("HTTP/1.1 {} X\r\ncontent-length: {length}\r\nconnection: close\r\n", answer.status);
        answer.headers.iter().for_each(|(key, value)| head += &format!("{key}: {value}\r\n"));
        let _ = stream.write_all(format!("{head}\r\n").as_bytes());
        let _ = stream.write_all(&answer.body);
        return;
    }
}

fn image(version: &str) -> Vec<u8> {
    archive(&manifest("app", version, json!({})), version, &["a"])
}

const PAGE: &str = r#"<meta name="ac-discovery" content="example.com http://files.example.com/{name}-{version}-{os}-{arch}.{ext}">
<meta name="ac-discovery-pubkeys" content="example.com http://files.example.com/key.asc">"#;

const KEY: &str = "http://files.example.com/key.asc";

fn world_options(world: &World) -> FetchOptions<'_> {
    let registry = RegistryOptions { allow_http: true, config: &world.config, ..RegistryOptions::default() };
    FetchOptions { registry, ..FetchOptions::default() }
}

#[test]
fn a_name_is_discovered_from_its_path_up() {
    let world = World::new();
    world.answer(|asked| match asked.path.as_str() {
        "example.com/?ac-discovery=1" | "example.com?ac-discovery=1" => Answer::new(200, PAGE),
        "files.example.com/example.com/app-1-linux-amd64.aci" => Answer::new(200, image("1")),
        "files.example.com/example.com/app-latest-linux-amd64.aci" => Answer::new(200, image("3")),
        _ => Answer::new(404, ""),
    });
    let one = world.waived("aci:example.com/app:1").unwrap();
    assert_eq!(one.aci().unwrap().label("version"), Some("1"));
    let paths = world.paths();
    assert!(paths[0].starts_with("example.com/app?ac-discovery=1") && paths.len() == 3, "{paths:?}");
    // Without a version, the server says which is the latest: that is what the name means from now on.
    let latest = world.waived("aci:example.com/app").unwrap();
    assert_eq!(latest.aci().unwrap().label("version"), Some("3"));
    let _ = world.waived("aci:example.com/app:1").unwrap();
    let known: ImageName = "aci:example.com/app".parse().unwrap();
    assert_eq!(world.store.find(&known).unwrap(), Some(latest.id));
    assert_eq!(world.left(), 0);
}

#[test]
fn what_is_not_what_was_asked_for_is_refused() {
    let world = World::new();
    world.answer(|asked| match asked.path.as_str() {
        "example.com/?ac-discovery=1" | "example.com?ac-discovery=1" => Answer::new(200, PAGE),
        path if path.contains("missing") => Answer::new(404, ""),
        path if path.ends_with(".aci") => Answer::new(200, image("1")),
        _ => Answer::new(404, ""),
    });
    for (word, sentence) in [
        (
            "aci:example.com/app:2",
            "requested value for label \"version\": \"2\" differs from fetched aci label",
        ),
        (
            "aci:example.com/app:1,channel=beta",
            "requested label \"channel\" not provided by the image manifest",
        ),
        ("aci:example.com/other:1", "is called \"example.com/app\""),
        ("aci:example.org/app:1", "no page of example.org says where the image \"example.org/app:1\" is"),
        ("http://example.com/missing.aci", "http://example.com/missing.aci: bad HTTP status code: 404"),
        ("https://example.com/a.aci", "cannot reach https://example.com/a.aci"),
    ] {
        let report = world.waived(word).unwrap_err();
        assert!(report.contains(sentence), "{report}");
    }
    assert!(world.store.images().unwrap().is_empty());
    assert_eq!(world.left(), 0);
    let strict = FetchOptions::default();
    let name: ImageName = "http://example.com/a.aci".parse().unwrap();
    let report = chain(&fetch(&world.store, &name, &strict, &()).unwrap_err());
    let keys = |name| image::discover_keys(&world.store, name, &world_options(&world)).unwrap();
    assert_eq!((keys("example.com/app"), keys("example.org/app")), (vec![KEY.to_owned()], vec![]));
    assert!(report.contains("plain http is refused; --insecure-options=http allows it"), "{report}");
}

#[test]
fn what_has_not_changed_is_not_transferred_again() {
    let world = World::new();
    world.answer(|asked| match asked.header("if-none-match") {
        Some("\"v1\"") => Answer::new(304, ""),
        _ => Answer::new(200, image("1")).header("etag", "\"v1\""),
    });
    let word = "http://example.com/app.aci";
    let first = world.waived(word).unwrap().id;
    assert_eq!(world.waived(word).unwrap().id, first);
    let asked: Vec<Option<String>> =
        world.asked.lock().unwrap().iter().map(|a| a.header("if-none-match").map(str::to_owned)).collect();
    assert_eq!(asked, [None, Some("\"v1\"".to_owned())]);
    // What is not there any more is transferred again.
    let _ = world.store.remove(first).unwrap();
    assert_eq!(world.waived(word).unwrap().id, first);
    // A server may say that it need not even be asked.
    world.answer(|_| Answer::new(200, image("2")).header("cache-control", "public, max-age=600"));
    let _ = world.store.remove(first).unwrap();
    let second = world.waived(word).unwrap().id;
    let _ = world.paths();
    assert_eq!(world.waived(word).unwrap().id, second);
    assert_eq!(world.paths(), [""; 0]);
}

#[test]
fn a_download_that_broke_is_continued() {
    let world = World::new();
    let bytes = image("1");
    let (whole, half) = (bytes.clone(), bytes.len() / 2);
    world.answer(move |asked| {
        let answer = match (asked.header("range"), asked.header("if-range")) {
            (Some(range), Some("\"v1\"")) => {
                let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
                Answer::new(206, &whole[from..]).header("content-range", range)
            }
            _ => Answer { length: Some(whole.len()), ..Answer::new(200, &whole[..half]) },
        };
        answer.header("etag", "\"v1\"")
    });
    let fetched = world.waived("http://example.com/app.aci").unwrap();
    assert_eq!(fetched.aci().unwrap().label("version"), Some("1"));
    let ranges: Vec<_> =
        world.asked.lock().unwrap().iter().map(|a| a.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={half}-"))]);
    // The next attempt goes on with what is left of one that failed, unless the server has something else now.
    let (old, new) = (image("2"), image("3"));
    world.answer(move |asked| match asked.header("range") {
        None => Answer { length: Some(old.len()), ..Answer::new(200, &old[..1000]) }.header("etag", "\"v2\""),
        Some(_) => Answer::new(500, ""),
    });
    let report = world.waived("http://example.com/other.aci").unwrap_err();
    assert!(report.contains("bad HTTP status code: 500"), "{report}");
    assert_eq!(world.left(), 1);
    let _ = world.paths();
    world.answer(move |asked| {
        assert_eq!(asked.header("if-range"), Some("\"v2\""));
        Answer::new(200, new.clone()).header("etag", "\"v3\"")
    });
    let fetched = world.waived("http://example.com/other.aci").unwrap();
    assert_eq!(fetched.aci().unwrap().label("version"), Some("3"));
    assert_eq!((world.paths().len(), world.left()), (1, 0));
}

#[test]
fn a_signature_comes_first_unless_its_server_defers_it() {
    let world = World::new();
    let bytes = image("1");
    let sign = signature("example.com/app", &bytes);
    let (served, signed) = (bytes.clone(), sign.clone());
    world.answer(move |asked| match asked.path.as_str() {
        "example.com/app.aci.asc" => Answer::new(200, signed.clone()),
        "example.com/app.aci" => Answer::new(200, served.clone()),
        _ => Answer::new(404, ""),
    });
    let fetched = world.signed("http://example.com/app.aci").unwrap().id;
    assert_eq!(world.paths(), ["example.com/app.aci.asc", "example.com/app.aci"]);
    let _ = world.store.remove(fetched).unwrap();
    // 202: ask again after the image.
    let (served, signed) = (bytes.clone(), sign.clone());
    let turns = Mutex::new(0);
    world.answer(move |asked| match asked.path.as_str() {
        "example.com/app.aci.asc" => {
            *turns.lock().unwrap() += 1;
            let status = if *turns.lock().unwrap() == 1 { 202 } else { 200 };
            Answer::new(status, signed.clone())
        }
        _ => Answer::new(200, served.clone()),
    });
    let _ = world.signed("http://example.com/app.aci").unwrap();
    let expected = ["example.com/app.aci.asc", "example.com/app.aci", "example.com/app.aci.asc"];
    assert_eq!(world.paths(), expected);
}

#[test]
fn an_image_that_nobody_signed_is_refused() {
    let world = World::new();
    let refused = |status: u16, body: &'static [u8]| {
        let bytes = image("1");
        world.answer(move |asked| match asked.path.as_str() {
            "example.com/app.aci.asc" => Answer::new(status, body),
            _ => Answer::new(200, bytes.clone()),
        });
        world.signed("http://example.com/app.aci").unwrap_err()
    };
    let missing = refused(404, b"");
    assert!(missing.contains("error downloading the signature file"), "{missing}");
    assert!(missing.contains("bad HTTP status code: 404"), "{missing}");
    // Without a signature nothing else is transferred.
    assert_eq!(world.paths(), ["example.com/app.aci.asc"]);
    let never = refused(202, b"");
    assert!(never.contains("server requested deferring the signature download"), "{never}");
    let wrong = refused(200, b"example.com/app of somebody else");
    assert!(wrong.contains("signed by nobody"), "{wrong}");
    assert!(world.store.images().unwrap().is_empty());
    assert_eq!(world.left(), 0);
    // What came without a signature does not become signed by not having changed.
    let _ = world.waived("http://example.com/app.aci").unwrap();
    let again = refused(404, b"");
    assert!(again.contains("error downloading the signature file"), "{again}");
}

#[test]
fn dependencies_are_discovered_and_verified() {
    let world = World::new();
    let base = archive(&manifest("base", "1", json!({})), "base", &["a", "b"]);
    let dependency = json!({"dependencies": [{"imageName": "example.com/base",
        "labels": [{"name": "version", "value": "1"}]}]});
    let top = archive(&manifest("top", "1", dependency), "top", &["b"]);
    let serve = move |signature_of_base: Vec<u8>| {
        let (base, top) = (base.clone(), top.clone());
        move |asked: &Asked| match asked.path.as_str() {
            path if path.contains("ac-discovery") => Answer::new(200, PAGE),
            path if path.ends_with("top-1-linux-amd64.aci") => Answer::new(200, top.clone()),
            path if path.ends_with("top-1-linux-amd64.aci.asc") => {
                Answer::new(200, signature("example.com/top", &top))
            }
            path if path.ends_with("base-1-linux-amd64.aci") => Answer::new(200, base.clone()),
            path if path.ends_with("base-1-linux-amd64.aci.asc") => {
                Answer::new(200, signature_of_base.clone())
            }
            _ => Answer::new(404, ""),
        }
    };
    world.answer(serve(b"nonsense".to_vec()));
    let report = world.signed("aci:example.com/top:1").unwrap_err();
    let sentence = "cannot fetch example.com/base, which \"example.com/top\" depends on";
    assert!(report.contains(sentence) && report.contains("signed by nobody"), "{report}");
    assert!(world.store.images().unwrap().is_empty());
    let base = archive(&manifest("base", "1", json!({})), "base", &["a", "b"]);
    world.answer(serve(signature("example.com/base", &base)));
    let image = world.signed("aci:example.com/top:1").unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(std::fs::read_to_string(image.layers[1].join("b")).unwrap(), "b top");
    assert_eq!(world.store.images().unwrap().len(), 2);
}
