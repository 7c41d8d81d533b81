//! Images for tests, byte by byte: whatever a lawful tool would refuse to write can be written here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{
    Algorithm, Digest, FetchError, FetchOptions, Image, ImageName, PullPolicy, RegistryOptions, Store, fetch,
};
use serde_json::{Value, json};

pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A tar archive being written.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

/// One entry of it.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) flag: u8,
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    pub(crate) data: &'a [u8],
    pub(crate) xattrs: &'a [(&'a str, &'a [u8])],
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            flag: b'0',
            name: b"",
            link: b"",
            mode: 0o644,
            owner: (0, 0),
            mtime: 1_000_000_000,
            device: (0, 0),
            data: b"",
            xattrs: &[],
        }
    }
}

impl Tar {
    pub(crate) fn add(mut self, entry: Entry<'_>) -> Self {
        let mut records = Vec::new();
        for (key, value) in entry.xattrs {
            records.extend(record(format!("SCHILY.xattr.{key}").as_bytes(), value));
        }
        if entry.name.len() > 100 {
            records.extend(record(b"path", entry.name));
        }
        if entry.link.len() > 100 {
            records.extend(record(b"linkpath", entry.link));
        }
        if !records.is_empty() {
            self.block(&Entry { flag: b'x', name: b"pax", ..Entry::default() }, &records);
        }
        let data = entry.data;
        self.block(&entry, data);
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(Entry { name: name.as_bytes(), data, ..Entry::default() })
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.add(Entry { flag: b'5', name: name.as_bytes(), mode: 0o755, ..Entry::default() })
    }

    pub(crate) fn symlink(self, name: &str, link: &str) -> Self {
        self.add(Entry {
            flag: b'2',
            name: name.as_bytes(),
            link: link.as_bytes(),
            mode: 0o777,
            ..Entry::default()
        })
    }

    pub(crate) fn hardlink(self, name: &str, link: &str) -> Self {
        self.add(Entry { flag: b'1', name: name.as_bytes(), link: link.as_bytes(), ..Entry::default() })
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Without its end, for more to follow.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    fn block(&mut self, entry: &Entry<'_>, data: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0.into());
        header.set_gid(entry.owner.1.into());
        header.set_mtime(entry.mtime);
        header.set_size(data.len() as u64);
        header.set_device_major(entry.device.0).unwrap();
        header.set_device_minor(entry.device.1).unwrap();
        let old = header.as_old_mut();
        let fit = |text: &[u8]| text.len().min(100);
        old.name[..fit(entry.name)].copy_from_slice(&entry.name[..fit(entry.name)]);
        old.linkname[..fit(entry.link)].copy_from_slice(&entry.link[..fit(entry.link)]);
        old.linkflag = [entry.flag];
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() != rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress, always the same for a seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A layer as it is in an image: compressed bytes, and the digest of the tar.
pub(crate) struct Layer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) diff_id: Digest,
    pub(crate) media_type: &'static str,
}

impl Layer {
    pub(crate) fn gzip(tar: &[u8]) -> Self {
        Self { bytes: gzip(tar), diff_id: Digest::of(tar), media_type: GZIP }
    }

    pub(crate) fn plain(tar: &[u8]) -> Self {
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        Self { bytes: tar.to_vec(), diff_id: Digest::of(tar), media_type }
    }

    pub(crate) fn zstd(tar: &[u8]) -> Self {
        let media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
        Self { bytes: zstd::encode_all(tar, 3).unwrap(), diff_id: Digest::of(tar), media_type }
    }
}

/// A directory with an OCI layout in it, and a store beside it.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    index: Vec<Value>,
    /// What blobs are named by.
    pub(crate) algorithm: Algorithm,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("image-test").tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("oci/blobs/sha256")).unwrap();
        std::fs::create_dir(dir.path().join("oci/blobs/sha512")).unwrap();
        std::fs::write(dir.path().join("oci/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { dir, index: Vec::new(), algorithm: Algorithm::Sha256 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path("cas")).unwrap()
    }

    pub(crate) fn layout(&self) -> String {
        format!("oci:{}", self.path("oci").display())
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Value {
        let digest = self.algorithm.digest(bytes);
        std::fs::write(self.path("oci/blobs").join(self.algorithm.name()).join(digest.hex()), bytes).unwrap();
        json!({"digest": digest.to_string(), "size": bytes.len()})
    }

    pub(crate) fn typed(&self, bytes: &[u8], media_type: &str) -> Value {
        let mut descriptor = self.blob(bytes);
        descriptor["mediaType"] = media_type.into();
        descriptor
    }

    /// A manifest for these layers. Not in the index yet.
    pub(crate) fn manifest(&self, layers: &[Layer], architecture: &str) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = json!({
            "os": "linux", "architecture": architecture,
            "config": {"Cmd": ["/bin/true"], "Env": null, "Volumes": null, "ExposedPorts": {"80/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.typed(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let layers: Vec<Value> =
            layers.iter().map(|layer| self.typed(&layer.bytes, layer.media_type)).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.typed(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")
    }

    pub(crate) fn tag(&mut self, mut descriptor: Value, tag: &str) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.index.push(descriptor);
        let index = json!({"schemaVersion": 2, "manifests": self.index});
        std::fs::write(self.path("oci/index.json"), index.to_string()).unwrap();
    }

    pub(crate) fn image(&mut self, tag: &str, layers: &[Layer]) -> String {
        let manifest = self.manifest(layers, host());
        self.tag(manifest, tag);
        format!("{}:{tag}", self.layout())
    }

    pub(crate) fn fetch(&self, name: &str) -> Result<Image, FetchError> {
        let options = FetchOptions { pull_policy: PullPolicy::Update, ..FetchOptions::default() };
        fetch(&self.store(), &name.parse::<ImageName>().unwrap(), &options, &())
    }

    pub(crate) fn fetch_with(&self, name: &str, registry: RegistryOptions<'_>) -> Result<Image, FetchError> {
        let options = FetchOptions { pull_policy: PullPolicy::Update, registry, ..FetchOptions::default() };
        fetch(&self.store(), &name.parse::<ImageName>().unwrap(), &options, &())
    }

    /// One layer, unpacked: where it is, or the error with all its causes.
    pub(crate) fn unpack(&mut self, tar: &[u8]) -> Result<PathBuf, String> {
        self.index.clear();
        let name = self.image("x", &[Layer::gzip(tar)]);
        self.fetch(&name).map(|image| image.layers[0].clone()).map_err(|error| chain(&error))
    }

    /// Nothing is being worked on, and nothing was left lying about.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> =
            std::fs::read_dir(self.path("cas/tmp")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty(), "left in tmp: {left:?}");
    }
}

pub(crate) fn host() -> &'static str {
    let architecture = image::Platform::host().architecture;
    Box::leak(architecture.into_boxed_str())
}

/// An error and what caused it, as a program shows it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Runs a tool, which must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The example `fetch`, which `cargo test` builds with the tests.
pub(crate) fn fetch_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/fetch");
    assert!(program.exists(), "{} is missing: cargo build -p image --example fetch", program.display());
    program
}
