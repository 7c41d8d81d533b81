//! An OCI layout: in a directory, to which images are added, or in a tar file with this image alone.
//!
//! Blobs first, each whole under its name or not there; `index.json` last. Two exports into one directory take turns
//! at the index. A directory that is not there is made, an empty one is used.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value, json};

use super::tar_file::TarFile;
use super::{ExportError, Exported, Parts, describe};
use crate::digest::Digest;
use crate::layout::{Layout, REF_NAME};
use crate::manifest::MAX_DOCUMENT;
use crate::output::{Existing, NewFile};
use crate::store::{Image, Store};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Where the files of a layout go.
trait Place {
    /// Writes a file; the result is its size.
    fn add(&mut self, name: &str, from: &mut dyn Read) -> Result<u64, ExportError>;
}

/// A directory.
struct Directory<'a>(&'a Path);

impl Place for Directory<'_> {
    fn add(&mut self, name: &str, from: &mut dyn Read) -> Result<u64, ExportError> {
        let failed = |source| ExportError::Write { name: name.to_owned(), source };
        let path = self.0.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        let mut output = NewFile::create(&path, Existing::Replace)?;
        let size = io::copy(from, output.file()).map_err(failed)?;
        output.publish()?;
        Ok(size)
    }
}

impl Place for TarFile {
    fn add(&mut self, name: &str, from: &mut dyn Read) -> Result<u64, ExportError> {
        Self::add(self, name, from)
    }
}

/// Adds an image to the layout in `path`, which is made if it is not there; as `tag`, if there is one.
///
/// # Errors
/// [`ExportError`]; the index is then as before.
pub fn export_oci(
    store: &Store,
    image: &Image,
    path: &Path,
    tag: Option<&str>,
    existing: Existing,
) -> Result<Exported, ExportError> {
    let parts = Parts::of(store, image)?;
    let failed = |source| ExportError::Write { name: path.display().to_string(), source };
    let is_new = !path.exists() || std::fs::read_dir(path).map_err(failed)?.next().is_none();
    if !is_new {
        // What is not a layout is not made one.
        let _ = Layout::open(path, None)?;
    }
    let mut place = Directory(path);
    let (entry, exported) = write(&parts, &mut place)?;
    if is_new {
        let _ = place.add("oci-layout", &mut &LAYOUT[..])?;
    }
    let lock = File::open(path).map(OwnedFd::from).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let index = merged(&index(path)?, entry, tag, existing)?;
    let _ = place.add("index.json", &mut index.as_slice())?;
    Ok(exported)
}

/// Writes a tar file with a layout that has this image alone; as `tag`, if there is one.
///
/// # Errors
/// [`ExportError`]; nothing is left then.
pub fn export_oci_archive(
    store: &Store,
    image: &Image,
    path: &Path,
    tag: Option<&str>,
    existing: Existing,
) -> Result<Exported, ExportError> {
    let parts = Parts::of(store, image)?;
    let mut file = TarFile::create(path, existing)?;
    let _ = file.add("oci-layout", &mut &LAYOUT[..])?;
    let (entry, exported) = write(&parts, &mut file)?;
    let index = merged(&json!({}), entry, tag, Existing::Replace)?;
    let _ = file.add("index.json", &mut index.as_slice())?;
    file.publish()?;
    Ok(exported)
}

/// Writes all blobs, and returns the entry for the index.
fn write(parts: &Parts<'_>, place: &mut dyn Place) -> Result<(Descriptor, Exported), ExportError> {
    let whole = parts.is_whole()?;
    let (mut layers, mut sizes) = (Vec::new(), HashMap::new());
    for (diff_id, layer) in &parts.layers {
        let own = if whole { parts.own(*diff_id, layer)? } else { None };
        let (digest, mut bytes): (Digest, Box<dyn Read>) = match own {
            Some(own) => (parts.digest(layer)?, own),
            None => (*diff_id, Box::new(parts.tar(*diff_id)?)),
        };
        // A layer that an image has twice is written once. What a directory has already is not trusted.
        let size = match sizes.get(&digest) {
            Some(size) => *size,
            None => place.add(&blob_name(digest), &mut bytes)?,
        };
        let _ = sizes.insert(digest, size);
        layers.push(describe(MediaType::ImageLayer, digest, size)?);
    }
    add_blob(place, parts.config_digest, &parts.config)?;
    let (bytes, media_type) = if whole {
        // A manifest of Docker's says so; one of OCI's need not.
        let own = parts.manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
        (parts.manifest_bytes.clone(), own)
    } else {
        (remade(parts, layers)?, MediaType::ImageManifest)
    };
    let digest = Digest::of(&bytes);
    add_blob(place, digest, &bytes)?;
    let entry = describe(media_type, digest, bytes.len() as u64)?;
    Ok((entry, Exported { manifest: Some(digest), own_manifest: whole }))
}

/// The manifest for uncompressed layers.
fn remade(parts: &Parts<'_>, layers: Vec<Descriptor>) -> Result<Vec<u8>, ExportError> {
    let config = describe(MediaType::ImageConfig, parts.config_digest, parts.config.len() as u64)?;
    let mut builder =
        ImageManifestBuilder::default().schema_version(2_u32).media_type(MediaType::ImageManifest);
    if let Some(annotations) = parts.manifest.annotations().clone() {
        builder = builder.annotations(annotations);
    }
    let made = builder.config(config).layers(layers).build();
    let made = made.map_err(|error| ExportError::Json(serde::ser::Error::custom(error)))?;
    serde_json::to_vec(&made).map_err(ExportError::Json)
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn add_blob(place: &mut dyn Place, digest: Digest, mut bytes: &[u8]) -> Result<(), ExportError> {
    place.add(&blob_name(digest), &mut bytes).map(|_| ())
}

/// The index of a layout; an empty one if there is none yet.
fn index(path: &Path) -> Result<Value, ExportError> {
    let name = path.join("index.json");
    let failed = |source| ExportError::Write { name: name.display().to_string(), source };
    let file = match File::open(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(json!({})),
        other => other.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    let _ = file.take(MAX_DOCUMENT).read_to_end(&mut bytes).map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(ExportError::Json)
}

/// The index with one entry more. Everything in it that we do not know stays.
fn merged(
    index: &Value,
    entry: Descriptor,
    tag: Option<&str>,
    existing: Existing,
) -> Result<Vec<u8>, ExportError> {
    let mut index = index.as_object().cloned().unwrap_or_default();
    let mut entry = serde_json::to_value(entry).map_err(ExportError::Json)?;
    if let Some(tag) = tag {
        let annotations = json!({ REF_NAME: tag });
        let _ = entry.as_object_mut().map(|entry| entry.insert("annotations".to_owned(), annotations));
    }
    let mut entries = index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |entry: &Value| entry.get("annotations").and_then(|a| a.get(REF_NAME)).cloned();
    let same = |there: &Value| match tag {
        Some(_) => name(there) == name(&entry),
        None => name(there).is_none() && there.get("digest") == entry.get("digest"),
    };
    let other = entries.iter().any(|there| same(there) && there.get("digest") != entry.get("digest"));
    if other && existing == Existing::Refuse {
        return Err(ExportError::Tagged { name: tag.unwrap_or_default().to_owned() });
    }
    entries.retain(|there| !same(there));
    entries.push(entry);
    let fixed: Map<String, Value> =
        Map::from_iter([("schemaVersion".to_owned(), json!(2)), ("mediaType".to_owned(), json!(INDEX))]);
    for (key, value) in fixed {
        let _ = index.entry(key).or_insert(value);
    }
    let _ = index.insert("manifests".to_owned(), Value::Array(entries));
    serde_json::to_vec(&index).map_err(ExportError::Json)
}
