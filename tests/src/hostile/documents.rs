//! Manifests, indexes and configurations that lie, contradict themselves, or want to be too much.

#![expect(clippy::indexing_slicing, reason = "the JSON is made a few lines above")]

use serde_json::{Value, json};

use super::layout::{Image, Layer, digest};
use super::{Case, harmless, refused};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Sets a value in a document.
fn set(pointer: &'static str, value: Value) -> impl Fn(&mut Value) {
    move |document| {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        match document.pointer_mut(parent) {
            Some(Value::Object(object)) => drop(object.insert(key.to_owned(), value.clone())),
            Some(Value::Array(array)) => {
                let at = key.parse::<usize>().unwrap_or_default();
                array.iter_mut().skip(at).take(1).for_each(|item| *item = value.clone());
            }
            _ => {}
        }
    }
}

fn manifest(pointer: &'static str, value: Value) -> Image {
    Image::ordinary().manifest(set(pointer, value))
}

fn config(pointer: &'static str, value: Value) -> Image {
    Image::ordinary().config(set(pointer, value))
}

fn index(pointer: &'static str, value: Value) -> Image {
    Image::ordinary().index(set(pointer, value))
}

fn text(from: &'static str, to: &'static str) -> Image {
    Image::ordinary().text(move |text| *text = text.replacen(from, to, 1))
}

fn whole(new: impl Fn() -> String + 'static) -> Image {
    Image::ordinary().text(move |text| *text = new())
}

/// An index of an index of …
fn nested(depth: usize) -> Image {
    let mut image = Image::ordinary();
    let mut inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
    for _ in 0..depth {
        image = image.blob(&digest(inner.as_bytes()), &inner);
        let descriptor = json!({"mediaType": INDEX, "digest": digest(inner.as_bytes()), "size": inner.len()});
        inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}).to_string();
    }
    let root: Value = serde_json::from_str(&inner).unwrap_or_default();
    let mut first = root.pointer("/manifests/0").cloned().unwrap_or_default();
    first["annotations"] = json!({"org.opencontainers.image.ref.name": "x"});
    image.index(set("/manifests", json!([first])))
}

/// An index that contains itself, as far as its author is concerned.
fn circular() -> Image {
    let name = digest(b"circle");
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": INDEX, "digest": name, "size": 177},
    ]});
    let first = json!({"mediaType": INDEX, "digest": name, "size": inner.to_string().len(),
        "annotations": {"org.opencontainers.image.ref.name": "x"}});
    Image::ordinary().blob(&name, inner.to_string()).index(set("/manifests", json!([first])))
}

/// A manifest with a byte that is no UTF-8.
fn latin() -> Image {
    let bytes = b"{\"schemaVersion\":2,\"x\":\"\xe9\"}";
    let first = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(bytes),
        "size": bytes.len(), "annotations": {"org.opencontainers.image.ref.name": "x"}});
    Image::ordinary().blob(&digest(bytes), bytes).index(set("/manifests", json!([first])))
}

/// The same empty layer, many times.
fn layers(count: usize) -> Image {
    Image::new(vec![Layer::gzip(&[0; 1024]); count])
}

pub(super) fn cases() -> Vec<Case> {
    let up = "sha256:../../../../../../../../etc/passwd";
    let upper = digest(b"").to_uppercase().replace("SHA", "sha");
    vec![
        refused("size-below-zero", manifest("/layers/0/size", json!(-1)), "cannot parse the manifest"),
        refused("size-in-parts", manifest("/layers/0/size", json!(1.5)), "cannot parse the manifest"),
        refused("size-in-words", manifest("/layers/0/size", json!("12")), "cannot parse the manifest"),
        refused(
            "size-of-all-bits",
            manifest("/layers/0/size", json!(u64::MAX)),
            "the manifest announces 18446744073709551615",
        ),
        refused(
            "size-beyond-all-bits",
            text("\"size\":", "\"size\":99999999999999999999"),
            "cannot parse the manifest",
        ),
        refused(
            "sizes-that-overflow",
            Image::new(vec![Layer::plain(b""), Layer::plain(&[0; 512])]).manifest(|document| {
                for layer in document["layers"].as_array_mut().into_iter().flatten() {
                    layer["size"] = json!(u64::MAX);
                }
            }),
            "the manifest announces",
        ),
        refused("configuration-below-zero", manifest("/config/size", json!(-1)), "cannot parse the manifest"),
        refused("configuration-of-5-megabytes", manifest("/config/size", json!(5 << 20)), "5242880 bytes"),
        refused(
            "configuration-larger-than-announced",
            manifest("/config/size", json!(10)),
            "10 were announced",
        ),
        refused("manifest-below-zero", index("/manifests/0/size", json!(-1)), "manifests[0].size is wrong"),
        refused("manifest-larger-than-announced", index("/manifests/0/size", json!(10)), "10 were announced"),
        refused(
            "manifest-of-a-gigabyte-announced",
            index("/manifests/0/size", json!(1 << 30)),
            "were announced",
        ),
        refused(
            "manifest-of-5-megabytes",
            whole(|| format!("{{\"schemaVersion\":2{}}}", " ".repeat(5 << 20))),
            "more than 4194304 bytes",
        ),
        refused("digest-climbs", manifest("/layers/0/digest", json!(up)), "cannot parse the manifest"),
        refused("digest-in-capitals", manifest("/layers/0/digest", json!(upper)), "cannot"),
        refused(
            "digest-of-an-algorithm-that-is-broken",
            manifest("/layers/0/digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e")),
            "cannot",
        ),
        refused("digest-of-half", manifest("/layers/0/digest", json!("sha256:e3b0c442")), "cannot"),
        refused("digest-empty", manifest("/layers/0/digest", json!("")), "cannot"),
        refused(
            "digest-of-the-configuration-climbs",
            manifest("/config/digest", json!(up)),
            "cannot parse the manifest",
        ),
        refused(
            "digest-of-the-manifest-climbs",
            index("/manifests/0/digest", json!(up)),
            "manifests[0].digest is wrong",
        ),
        refused(
            "diff-id-climbs",
            config("/rootfs/diff_ids/0", json!("sha256:../../../../tmp/x")),
            "is not a digest",
        ),
        refused(
            "diff-id-of-another-algorithm",
            config("/rootfs/diff_ids/0", json!("md5:d41d8cd98f00b204e9800998ecf8427e")),
            "is not a digest",
        ),
        refused("fewer-diff-ids-than-layers", config("/rootfs/diff_ids", json!([])), "has 1 layers"),
        refused(
            "more-diff-ids-than-layers",
            config("/rootfs/diff_ids", json!([digest(b"a"), digest(b"b")])),
            "has 1 layers",
        ),
        refused("five-hundred-and-one-layers", layers(501), "501 layers"),
        harmless("five-hundred-layers", layers(500), |root| assert!(root.is_dir())),
        refused(
            "layer-of-another-kind",
            manifest("/layers/0/mediaType", json!("application/x-sh")),
            "\"application/x-sh\"",
        ),
        refused(
            "configuration-of-another-kind",
            manifest("/config/mediaType", json!("text/html")),
            "\"text/html\"",
        ),
        refused(
            "schema-1",
            whole(|| r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#.to_owned()),
            "schema 1",
        ),
        refused("key-given-twice", text("\"layers\":", "\"layers\":[],\"layers\":"), "twice"),
        refused(
            "type-given-twice",
            text("\"schemaVersion\":", "\"schemaVersion\":2,\"schemaVersion\":"),
            "duplicate",
        ),
        refused("nested-a-million-times", whole(|| "[".repeat(1 << 20)), "cannot parse"),
        refused(
            "nested-in-an-unknown-key",
            text(
                "\"schemaVersion\":",
                "\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            ),
            "cannot parse",
        ),
        refused("not-utf-8", latin(), "cannot parse"),
        refused("byte-order-mark", Image::ordinary().text(|text| text.insert(0, '\u{feff}')), "cannot parse"),
        refused(
            "number-beyond-measure",
            text("\"schemaVersion\":2", "\"schemaVersion\":1e999"),
            "cannot parse",
        ),
        refused("a-page-of-html", whole(|| "<html>not found</html>".to_owned()), "cannot parse"),
        refused("empty", whole(String::new), "cannot parse"),
        refused("null", whole(|| "null".to_owned()), "cannot parse"),
        refused("configuration-is-null", manifest("/config", json!(null)), "cannot parse the manifest"),
        refused("layers-are-an-object", manifest("/layers", json!({})), "cannot parse the manifest"),
        refused("for-another-system", config("/os", json!("windows")), "windows"),
        refused("for-a-terminal", config("/os", json!("\u{1b}]0;owned\u{7}\u{1b}[2Jlinux")), "is for"),
        refused(
            "platform-for-a-terminal",
            index(
                "/manifests",
                json!([
                    {"mediaType": INDEX, "digest": digest(b"a"), "size": 1, "platform": {"os": "\u{1b}[2J", "architecture": "x"},
                        "annotations": {"org.opencontainers.image.ref.name": "x"}},
                    {"mediaType": INDEX, "digest": digest(b"b"), "size": 1, "platform": {"os": "\u{1b}[2J", "architecture": "y"},
                        "annotations": {"org.opencontainers.image.ref.name": "x"}},
                ]),
            ),
            "no build for",
        ),
        refused(
            "name-for-a-terminal",
            index("/manifests/0/annotations", json!({"org.opencontainers.image.ref.name": "\u{1b}[2J"})),
            "no image named",
        ),
        refused("indexes-nested-nine-deep", nested(9), "nested more than"),
        refused("index-in-a-circle", circular(), "corrupt"),
        refused("index-of-nothing", nested(1), "no build for"),
        refused(
            "layout-of-a-hundred-thousand-names",
            Image::ordinary().index(|index| {
                let first = index["manifests"][0].clone();
                index["manifests"] = vec![first; 100_000].into();
            }),
            "more than 4194304 bytes",
        ),
        harmless(
            "environment-of-nonsense",
            config(
                "/config",
                json!({"Env": ["", "=", "A", "\u{0}=\u{0}", "B=\n"], "User": "../../x:-1", "WorkingDir": "../../..", "Volumes": {"../../etc": {}}, "ExposedPorts": {"99999/sctp": {}}, "StopSignal": "SIGNONSENSE"}),
            ),
            |root| assert!(root.join("file").is_file()),
        ),
        refused(
            "variables-that-are-no-text",
            config("/config", json!({"Env": [1, {}]})),
            "cannot parse the configuration",
        ),
    ]
}
