//! Images from a tar file as `docker save` and `skopeo copy … docker-archive:` write it.
//!
//! `manifest.json` names a configuration and layers; there is no manifest in the sense of a registry, so one is made:
//! always the same for the same file, so that the image has an id. Uncompressed layers are named by the diff ids of
//! the configuration, compressed ones by the digest of what is in the file. Everything is verified as ever when it is
//! read.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration, MediaType};
use serde::{Deserialize, Serialize};

use super::{ArchiveError, Container, Extent};
use crate::digest::{Digest, Hasher};
use crate::manifest::{self, DocumentError, MAX_LAYERS, digest_of};
use crate::pipe::CHUNK;
use crate::reference::Reference;
use crate::source::{Raw, Source, SourceError};

/// One image of an archive.
#[derive(Debug)]
pub struct DockerArchive {
    container: Arc<Container>,
    manifest: Vec<u8>,
    parts: HashMap<Digest, Extent>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The manifest that is made. Its fields keep this order for ever: the image's id depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    schema_version: u32,
    media_type: MediaType,
    config: Part,
    layers: Vec<Part>,
}

/// A descriptor in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: MediaType,
    digest: Digest,
    size: u64,
}

impl DockerArchive {
    /// Opens the file and finds the image in it.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(path: &Path, name: Option<&str>) -> Result<Self, ArchiveError> {
        let container = Arc::new(Container::open(path)?);
        let image = choose(&container, name)?;
        Self::new(container, &image)
    }

    /// Every image of the archive, with its names.
    pub(crate) fn all(container: &Arc<Container>) -> Result<Vec<(Vec<String>, Self)>, ArchiveError> {
        let made = |image: Image| {
            let archive = Self::new(container.clone(), &image)?;
            Ok((image.repo_tags.unwrap_or_default(), archive))
        };
        images(container)?.into_iter().map(made).collect()
    }

    fn new(container: Arc<Container>, image: &Image) -> Result<Self, ArchiveError> {
        let document = |source| ArchiveError::Document { path: container.path().to_owned(), source };
        let bytes = container.small(&image.config)?;
        let config: ImageConfiguration = parse(&container, &image.config, &bytes)?;
        let diff_ids = manifest::diff_ids(&config).map_err(document)?;
        let count = image.layers.len();
        if count != diff_ids.len() {
            return Err(document(DocumentError::LayerCount { layers: count, diff_ids: diff_ids.len() }));
        }
        if count > MAX_LAYERS {
            return Err(document(DocumentError::TooManyLayers(count)));
        }
        let mut parts = HashMap::from([(Digest::of(&bytes), container.find(&image.config)?)]);
        let mut layers = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(diff_ids) {
            let extent = container.find(name)?;
            let (media_type, digest) =
                identify(&container, extent, diff_id).map_err(|source| container.unreadable(source))?;
            let _ = parts.insert(digest, extent);
            layers.push(Part { media_type, digest, size: extent.size });
        }
        let config =
            Part { media_type: MediaType::ImageConfig, digest: Digest::of(&bytes), size: bytes.len() as u64 };
        let made = Made { schema_version: 2, media_type: MediaType::ImageManifest, config, layers };
        let (path, member) = (container.path().to_owned(), image.config.clone());
        let manifest =
            serde_json::to_vec(&made).map_err(|source| ArchiveError::Parse { path, member, source })?;
        Ok(Self { container, manifest, parts })
    }
}

impl Source for DockerArchive {
    fn root(&self) -> Result<Raw, SourceError> {
        Ok(Raw { bytes: self.manifest.clone(), media_type: None })
    }

    fn document(&self, _: &Descriptor) -> Result<Raw, SourceError> {
        // Never asked for: the root is a manifest. It is what there is.
        self.root()
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let digest = digest_of(descriptor)?;
        let extent = self.parts.get(&digest).copied().unwrap_or(Extent { offset: 0, size: 0 });
        Ok(self.container.section(extent).map_err(|source| self.container.unreadable(source))?)
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    container: &Container,
    member: &str,
    bytes: &[u8],
) -> Result<T, ArchiveError> {
    let (path, member) = (container.path().to_owned(), member.to_owned());
    manifest::from_go(bytes).map_err(|source| ArchiveError::Parse { path, member, source })
}

fn images(container: &Container) -> Result<Vec<Image>, ArchiveError> {
    parse(container, "manifest.json", &container.small("manifest.json")?)
}

fn choose(container: &Container, wanted: Option<&str>) -> Result<Image, ArchiveError> {
    let mut images = images(container)?;
    let tags = |image: &Image| image.repo_tags.clone().unwrap_or_default();
    let names = images.iter().flat_map(tags).collect::<Vec<_>>().join(", ");
    let count = images.len();
    let full =
        |name: &str| name.parse::<Reference>().map_or_else(|_| name.to_owned(), |name| name.to_string());
    let at = match wanted {
        Some(wanted) => {
            images.iter().position(|image| tags(image).iter().any(|tag| full(tag) == full(wanted)))
        }
        None => (count == 1).then_some(0),
    };
    let choice = || ArchiveError::Choice { path: container.path().to_owned(), count, names };
    at.map(|at| images.swap_remove(at)).ok_or_else(choice)
}

/// The type and digest of a layer: its diff id, unless it is compressed.
fn identify(container: &Container, extent: Extent, diff_id: Digest) -> std::io::Result<(MediaType, Digest)> {
    let mut magic = Vec::new();
    let _ = container.section(extent)?.take(4).read_to_end(&mut magic)?;
    let media_type = match magic.as_slice() {
        [0x1f, 0x8b, ..] => MediaType::ImageLayerGzip,
        [0x28, 0xb5, 0x2f, 0xfd] => MediaType::ImageLayerZstd,
        _ => return Ok((MediaType::ImageLayer, diff_id)),
    };
    let (mut section, mut hasher) = (container.section(extent)?, Hasher::default());
    let mut buffer = vec![0; CHUNK];
    loop {
        match section.read(&mut buffer)? {
            0 => return Ok((media_type, hasher.finish())),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}
