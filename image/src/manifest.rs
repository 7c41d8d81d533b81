//! The documents that describe an image: manifests, indexes, configurations.
//!
//! OCI image-spec v1 and Docker's image manifest version 2 schema 2 have one shape and differ in media types; both
//! become the types of `oci-spec`. Docker's schema 1 is refused: its layers are named by nothing that can be verified
//! once they are unpacked, and registries stopped serving it. So are artifacts, which are not images, and layers that
//! registries must not distribute. Documents are small; more than [`MAX_DOCUMENT`] is refused before it is read. What
//! is wrong in one is told with its place.

mod distinct;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use serde_json::Value;

use crate::digest::{Digest, DigestError};
use crate::platform::Platform;

/// The most bytes that a manifest, an index or a configuration may have.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// The most layers that an image may have: overlayfs takes no more lower directories.
pub const MAX_LAYERS: usize = 500;

/// Docker's name for an index.
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's name for a manifest.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";

/// What a manifest's address led to.
#[derive(Debug)]
pub(crate) enum Document {
    /// One image for one platform.
    Manifest(Box<ImageManifest>),
    /// A choice of images.
    Index(Box<ImageIndex>),
}

/// A manifest or configuration that describes no image we can use.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Docker's image manifest version 2, schema 1.
    #[error(
        "the image is in Docker's schema 1 format, which does not say what its unpacked layers must be and is not supported: convert it, for example with \"skopeo copy --format=oci docker://FROM docker://TO\""
    )]
    Schema1,
    /// Not JSON, or not of the shape that its type promises.
    #[error("cannot parse the {what}{}", place(at))]
    Json {
        /// `manifest`, `index`, `configuration`, …
        what: &'static str,
        /// The part at fault, as `layers[1].size`; empty if it is the whole.
        at: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A type of content that is not part of an image.
    #[error("{what} has the type {media_type:?}, which is not part of a container image")]
    Type {
        /// What has it.
        what: &'static str,
        /// The type.
        media_type: String,
    },
    /// Something else than an image that lives in a registry.
    #[error("it is an artifact of the type {artifact_type:?}, not a container image")]
    Artifact {
        /// The type.
        artifact_type: String,
    },
    /// A layer that its publisher does not let registries distribute.
    #[error(
        "layer {digest} is not distributed with the image, but by {url}: such layers, of Windows images mostly, are not supported"
    )]
    Foreign {
        /// The layer.
        digest: String,
        /// Where it would be.
        url: String,
    },
    /// A digest of another algorithm.
    #[error("cannot verify a part of the image")]
    Digest(#[from] DigestError),
    /// The manifest's layers and the configuration's do not correspond.
    #[error("the manifest has {layers} layers, the configuration describes {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// More layers than [`MAX_LAYERS`].
    #[error("the image has {0} layers, more than the {MAX_LAYERS} that can be stacked")]
    TooManyLayers(usize),
    /// The image was built for something else.
    #[error("the image is for {image}, {wanted} is wanted")]
    Platform {
        /// What it is for.
        image: String,
        /// What was asked for.
        wanted: Platform,
    },
}

/// What all documents have in common, to tell them apart by.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Parses a manifest or an index. `media_type` is what the transport said about it; the document's own word counts
/// more, because it is covered by the digest.
///
/// # Errors
/// [`DocumentError`], if it is neither.
pub(crate) fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Document, DocumentError> {
    let header: Header = locate("manifest", bytes)?;
    let media_type = header.media_type.as_deref().or(media_type).unwrap_or_default();
    if header.schema_version == Some(1)
        || media_type.starts_with("application/vnd.docker.distribution.manifest.v1")
    {
        return Err(DocumentError::Schema1);
    }
    match MediaType::from(media_type) {
        MediaType::ImageIndex => {}
        MediaType::Other(other) if other == DOCKER_LIST => {}
        MediaType::ImageManifest => return manifest(bytes),
        MediaType::Other(other) if other == DOCKER_MANIFEST => return manifest(bytes),
        // Old OCI documents carry no type, and servers of plain files know none.
        _ if header.media_type.is_none() && header.manifests.is_none() => return manifest(bytes),
        _ if header.media_type.is_none() => {}
        other => return Err(DocumentError::Type { what: "the manifest", media_type: other.to_string() }),
    }
    located("index", bytes).map(|index| Document::Index(Box::new(index)))
}

/// Parses a document of Go programs ([`from_go`]) called `what`, and says where something is wrong.
///
/// # Errors
/// [`DocumentError::Json`].
pub(crate) fn located<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, DocumentError> {
    match from_go(bytes) {
        Ok(document) => {
            let twice = |source| DocumentError::Json { what, at: String::new(), source };
            distinct::check(bytes).map_err(twice).map(|()| document)
        }
        Err(_) => locate(what, bytes),
    }
}

fn locate<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DocumentError> {
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let at = error.path().to_string();
        DocumentError::Json {
            what,
            at: if at == "." { String::new() } else { at },
            source: error.into_inner(),
        }
    })?;
    // What follows the document is part of the same bytes, and nothing is to follow.
    text.end().map_err(|source| DocumentError::Json { what, at: String::new(), source })?;
    Ok(parsed)
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(": {at} is wrong") }
}

/// Parses a document of Go programs, which write `null` for an empty list or leave it out: an image without layers has
/// no list of them.
pub(crate) fn from_go<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let strict = match serde_json::from_slice(bytes) {
        Ok(document) => return Ok(document),
        Err(error) => error,
    };
    let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else { return Err(strict) };
    for (at, list) in [("", "layers"), ("/rootfs", "diff_ids"), ("", "manifests")] {
        if let Some(Value::Object(object)) = document.pointer_mut(at)
            && object.get(list).is_none_or(Value::is_null)
        {
            let _ = object.insert(list.to_owned(), Value::Array(Vec::new()));
        }
    }
    serde_json::from_value(document).map_err(|_| strict)
}

fn manifest(bytes: &[u8]) -> Result<Document, DocumentError> {
    located("manifest", bytes).map(|manifest| Document::Manifest(Box::new(manifest)))
}

/// Parses a configuration and checks it against the manifest it belongs to: layer for layer, and for the platform.
/// Returns the digests of the unpacked layers, bottom first.
///
/// # Errors
/// [`DocumentError`].
pub(crate) fn configuration(
    bytes: &[u8],
    manifest: &ImageManifest,
    wanted: &Platform,
) -> Result<(ImageConfiguration, Vec<Digest>), DocumentError> {
    let config: ImageConfiguration = located("configuration", bytes)?;
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    if !wanted.accepts(&os, &architecture) {
        let image = format!("{os}/{architecture}");
        return Err(DocumentError::Platform { image, wanted: wanted.clone() });
    }
    let diff_ids = diff_ids(&config)?;
    let layers = manifest.layers().len();
    if layers != diff_ids.len() {
        return Err(DocumentError::LayerCount { layers, diff_ids: diff_ids.len() });
    }
    if layers > MAX_LAYERS {
        return Err(DocumentError::TooManyLayers(layers));
    }
    Ok((config, diff_ids))
}

/// The digests of the unpacked layers, bottom first.
///
/// # Errors
/// [`DocumentError::Digest`].
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>, DocumentError> {
    config.rootfs().diff_ids().iter().map(|id| Ok(id.parse()?)).collect()
}

/// Checks that a manifest is of a container image: not of an artifact that merely lives in a registry.
///
/// # Errors
/// [`DocumentError::Artifact`], [`DocumentError::Foreign`], or [`DocumentError::Type`] naming the part that is something
/// else.
pub(crate) fn check_types(manifest: &ImageManifest) -> Result<(), DocumentError> {
    let wrong = |what, descriptor: &Descriptor| {
        Err(DocumentError::Type { what, media_type: descriptor.media_type().to_string() })
    };
    match (manifest.config().media_type(), manifest.artifact_type()) {
        (MediaType::ImageConfig, _) => {}
        (MediaType::Other(other), _) if other == DOCKER_CONFIG => {}
        (_, Some(artifact)) => return Err(DocumentError::Artifact { artifact_type: artifact.to_string() }),
        _ => return wrong("the configuration", manifest.config()),
    }
    manifest.layers().iter().try_for_each(|layer| match layer.media_type() {
        MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => Ok(()),
        MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => foreign(layer),
        MediaType::Other(other) if other.starts_with(DOCKER_FOREIGN_LAYER) => foreign(layer),
        MediaType::Other(other) if other.starts_with(DOCKER_LAYER) => Ok(()),
        _ => wrong("a layer", layer),
    })
}

/// A layer of a type that is not to be distributed may be all the same, where it was copied; then it names no other
/// place.
fn foreign(layer: &Descriptor) -> Result<(), DocumentError> {
    match layer.urls().iter().flatten().next() {
        Some(url) => Err(DocumentError::Foreign { digest: layer.digest().to_string(), url: url.clone() }),
        None => Ok(()),
    }
}

/// The digest of a descriptor, in our type.
///
/// # Errors
/// [`DigestError`] for algorithms other than sha256 and sha512.
pub(crate) fn digest_of(descriptor: &Descriptor) -> Result<Digest, DigestError> {
    descriptor.digest().as_ref().parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart() {
        let digest = Digest::of(b"");
        let descriptor = |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":2}}"#);
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        let docker =
            format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{config},"layers":[]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{config}]}}"#);
        let list = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[]}}"#);
        let kind = |text: &str, sent: Option<&str>| match parse(text.as_bytes(), sent) {
            Ok(Document::Manifest(_)) => "manifest".to_owned(),
            Ok(Document::Index(_)) => "index".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(kind(&manifest, None), "manifest");
        assert_eq!(kind(&manifest, Some("application/octet-stream")), "manifest");
        assert_eq!(kind(&docker, Some("text/plain")), "manifest");
        assert_eq!(kind(&index, None), "index");
        assert_eq!(kind(&list, None), "index");
        let one = r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
        assert!(kind(one, None).contains("schema 1"));
        assert!(kind(&manifest.replace("\"size\":2", "\"size\":-2"), None).contains("config.size is wrong"));
        assert!(
            kind(&index.replace("\"size\":2", "\"size\":-2"), None).contains("manifests[0].size is wrong")
        );
        assert!(kind(&format!("{manifest}x"), None).contains("cannot parse"));
        assert!(kind(r#"{"schemaVersion":2,"mediaType":"text/html"}"#, None).contains("text/html"));
        assert!(kind("<html>", None).contains("cannot parse"));
        assert!(kind("", None).contains("cannot parse"));
    }

    #[test]
    fn configurations_of_go_programs_are_understood() {
        let docker = r#"{"architecture":"amd64","config":{"Hostname":"","User":"","AttachStdin":false,"ExposedPorts":
            {"80/tcp":{}},"Env":["PATH=/bin"],"Cmd":null,"Image":"x","Volumes":null,"WorkingDir":"","Entrypoint":["/x"],
            "OnBuild":null,"Labels":null,"StopSignal":"SIGQUIT","ArgsEscaped":true,"Healthcheck":{"Test":["NONE"]}},
            "container":"x","container_config":{"Cmd":null},"created":"2024-01-02T03:04:05.678901234Z",
            "docker_version":"20.10","history":[{"created":"0001-01-01T00:00:00Z","empty_layer":true}],"os":"linux",
            "rootfs":{"type":"layers","diff_ids":null},"variant":"v1"}"#;
        let config: ImageConfiguration = from_go(docker.as_bytes()).unwrap();
        let run = config.config().as_ref().unwrap();
        assert_eq!(run.entrypoint().as_ref().unwrap(), &["/x"]);
        assert_eq!(run.exposed_ports().as_ref().unwrap(), &["80/tcp"]);
        assert_eq!((run.cmd(), config.rootfs().diff_ids().len()), (&None, 0));
        let scratch = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers"}}"#;
        assert!(from_go::<ImageConfiguration>(scratch.as_bytes()).is_ok());
        assert!(from_go::<ImageConfiguration>(b"{}").is_err());
        assert!(from_go::<ImageConfiguration>(b"null").is_err());
    }
}
