//! The documents around layers, and lies in them.

#![expect(clippy::indexing_slicing, reason = "a key that a JSON value has not is null")]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// `sha256:` and 64 digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer as it is transported, and what its archive is said to be.
#[derive(Clone)]
pub struct Layer {
    /// The compressed archive.
    pub bytes: Vec<u8>,
    /// The digest of the archive, true or not.
    pub diff_id: String,
}

impl Layer {
    /// An archive that is not compressed.
    #[must_use]
    pub fn plain(archive: &[u8]) -> Self {
        Self { bytes: archive.to_vec(), diff_id: digest(archive) }
    }

    /// An archive that is compressed with gzip.
    #[must_use]
    pub fn gzip(archive: &[u8]) -> Self {
        Self { bytes: gzip(archive), diff_id: digest(archive) }
    }
}

/// Compresses.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// Changes a document that is otherwise in order.
pub type Edit<T> = Box<dyn Fn(&mut T)>;

/// An image to be written as a layout.
pub struct Image {
    layers: Vec<Layer>,
    config: Vec<Edit<Value>>,
    manifest: Vec<Edit<Value>>,
    text: Vec<Edit<String>>,
    index: Vec<Edit<Value>>,
    blobs: Vec<(String, Vec<u8>)>,
    aci: Option<Vec<u8>>,
}

impl Image {
    /// An image in order, of these layers.
    #[must_use]
    pub fn new(layers: Vec<Layer>) -> Self {
        Self {
            layers,
            config: Vec::new(),
            manifest: Vec::new(),
            text: Vec::new(),
            index: Vec::new(),
            blobs: Vec::new(),
            aci: None,
        }
    }

    /// An ACI: no layout, but a file `image.aci`. Its tree is named by the sha512 of `archive`.
    #[must_use]
    pub fn aci(archive: &[u8], file: Vec<u8>) -> Self {
        let hex: String = Sha512::digest(archive).iter().map(|byte| format!("{byte:02x}")).collect();
        let layer = Layer { bytes: Vec::new(), diff_id: format!("sha512:{hex}") };
        Self { aci: Some(file), ..Self::new(vec![layer]) }
    }

    /// An image in order, of one layer with a file.
    #[must_use]
    pub fn ordinary() -> Self {
        Self::from(super::Archive::default().file("file", b"hello"))
    }

    /// An image with the layers of another, which is in a layout, and these above.
    ///
    /// # Errors
    ///
    /// When the layout cannot be read.
    pub fn above(layout: &Path, layers: Vec<Layer>) -> Result<Self> {
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
            fs::read(layout.join("blobs/sha256").join(name)).context("cannot read a blob")
        };
        let json = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).context("cannot parse a blob");
        let index = json(fs::read(layout.join("index.json")).context("cannot read the index")?)?;
        let manifest = json(blob(&index["manifests"][0])?)?;
        let config = json(blob(&manifest["config"])?)?;
        let of = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let below = of(&manifest["layers"]).into_iter().zip(of(&config["rootfs"]["diff_ids"]));
        let mut all = below
            .map(|(layer, diff_id)| {
                Ok(Layer { bytes: blob(&layer)?, diff_id: diff_id.as_str().unwrap_or_default().to_owned() })
            })
            .collect::<Result<Vec<_>>>()?;
        all.extend(layers);
        Ok(Self::new(all))
    }

    /// Changes the configuration.
    #[must_use]
    pub fn config(mut self, edit: impl Fn(&mut Value) + 'static) -> Self {
        self.config.push(Box::new(edit));
        self
    }

    /// Changes the manifest.
    #[must_use]
    pub fn manifest(mut self, edit: impl Fn(&mut Value) + 'static) -> Self {
        self.manifest.push(Box::new(edit));
        self
    }

    /// Changes the manifest's text.
    #[must_use]
    pub fn text(mut self, edit: impl Fn(&mut String) + 'static) -> Self {
        self.text.push(Box::new(edit));
        self
    }

    /// Changes the layout's index.
    #[must_use]
    pub fn index(mut self, edit: impl Fn(&mut Value) + 'static) -> Self {
        self.index.push(Box::new(edit));
        self
    }

    /// Adds a blob under a digest that need not be its own.
    #[must_use]
    pub fn blob(mut self, digest: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.blobs.push((digest.to_owned(), bytes.as_ref().to_vec()));
        self
    }

    /// The digest that the highest layer's archive is said to have.
    #[must_use]
    pub fn top(&self) -> &str {
        self.layers.last().map(|layer| layer.diff_id.as_str()).unwrap_or_default()
    }

    /// How many layers it has.
    #[must_use]
    pub fn height(&self) -> usize {
        self.layers.len()
    }

    /// Writes the layout, in which the image is tagged `x`, or the ACI.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        if let Some(file) = &self.aci {
            fs::create_dir_all(dir).context("cannot make a directory")?;
            return fs::write(dir.join("image.aci"), file).context("cannot write the ACI");
        }
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).context("cannot make the layout")?;
        let put = |digest: &str, bytes: &[u8]| {
            let name = digest.trim_start_matches("sha256:");
            fs::write(blobs.join(name), bytes).with_context(|| format!("cannot write the blob {name}"))
        };
        let typed = |bytes: &[u8], kind: &str| -> Result<Value> {
            put(&digest(bytes), bytes)?;
            Ok(json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()}))
        };
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let mut config = json!({
            "os": "linux", "architecture": architecture(), "config": {"Cmd": ["/file"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        self.config.iter().for_each(|edit| edit(&mut config));
        let config = typed(config.to_string().as_bytes(), CONFIG)?;
        let layers =
            self.layers.iter().map(|layer| typed(&layer.bytes, LAYER)).collect::<Result<Vec<_>>>()?;
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest.iter().for_each(|edit| edit(&mut manifest));
        let mut text = manifest.to_string();
        self.text.iter().for_each(|edit| edit(&mut text));
        let mut manifest = typed(text.as_bytes(), MANIFEST)?;
        if let Some(manifest) = manifest.as_object_mut() {
            drop(
                manifest.insert("annotations".to_owned(), json!({"org.opencontainers.image.ref.name": "x"})),
            );
        }
        let mut index = json!({"schemaVersion": 2, "manifests": [manifest]});
        self.index.iter().for_each(|edit| edit(&mut index));
        self.blobs.iter().try_for_each(|(digest, bytes)| put(digest, bytes))?;
        fs::write(dir.join("index.json"), index.to_string()).context("cannot write the index")?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .context("cannot mark the layout")
    }
}

/// As OCI calls this machine's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
