//! An image of one layer, made up around a tar file.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use oci_spec::image::{Config, Descriptor};
use serde_json::{Value, json};

use super::ImportError;
use crate::compression;
use crate::digest::{Digest, Hasher};
use crate::manifest::digest_of;
use crate::pipe::CHUNK;
use crate::platform::Platform;
use crate::source::{Raw, Source, SourceError};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The image.
pub(super) struct Rootfs<'a> {
    file: &'a File,
    layer: Form,
    manifest: Vec<u8>,
    config: Vec<u8>,
}

/// What the layer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The file.
    AsItIs(&'static str),
    /// What it decompresses to.
    Decompressed,
}

impl<'a> Rootfs<'a> {
    /// Reads the file once, for its digests.
    pub(super) fn of(
        file: &'a File,
        path: &Path,
        config: Config,
        platform: &Platform,
    ) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        let form = form(file).map_err(failed)?;
        let (diff_id, unpacked) =
            digest(&mut compression::decoder(whole(file)).map_err(failed)?).map_err(failed)?;
        let (blob, size, media_type) = match form {
            Form::AsItIs(media_type) => {
                let (blob, size) = digest(&mut whole(file)).map_err(failed)?;
                (blob, size, media_type)
            }
            Form::Decompressed => (diff_id, unpacked, "application/vnd.oci.image.layer.v1.tar"),
        };
        let config = configuration(config, diff_id, platform)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": Digest::of(&config).to_string(), "size": config.len()},
            "layers": [{"mediaType": media_type, "digest": blob.to_string(), "size": size}],
        });
        Ok(Self { file, layer: form, manifest: serde_json::to_vec(&manifest)?, config })
    }
}

impl Source for Rootfs<'_> {
    fn root(&self) -> Result<Raw, SourceError> {
        Ok(Raw { bytes: self.manifest.clone(), media_type: Some(MANIFEST.to_owned()) })
    }

    fn document(&self, _: &Descriptor) -> Result<Raw, SourceError> {
        // Never asked for: the root is a manifest. It is what there is.
        self.root()
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let digest = digest_of(descriptor)?;
        if digest == Digest::of(&self.config) {
            return Ok(Box::new(self.config.as_slice()));
        }
        if matches!(self.layer, Form::AsItIs(_)) {
            return Ok(Box::new(whole(self.file)));
        }
        let failed = |source| SourceError::Read { what: "layer", digest, source };
        compression::decoder(whole(self.file)).map_err(failed)
    }
}

/// The configuration. Its fields keep their order, and it has no date: the image's id depends on them.
fn configuration(config: Config, diff_id: Digest, platform: &Platform) -> Result<Vec<u8>, ImportError> {
    let mut document = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": serde_json::to_value(config)?,
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
        "history": [{"created_by": "rkt image import"}],
    });
    if let (Some(variant), Value::Object(fields)) = (&platform.variant, &mut document) {
        let _ = fields.insert("variant".to_owned(), json!(variant));
    }
    Ok(serde_json::to_vec(&document)?)
}

fn form(file: &File) -> io::Result<Form> {
    let mut magic = [0; 6];
    let count = file.read_at(&mut magic, 0)?;
    Ok(match magic.get(..count).unwrap_or_default() {
        [0x1f, 0x8b, ..] => Form::AsItIs("application/vnd.oci.image.layer.v1.tar+gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Form::AsItIs("application/vnd.oci.image.layer.v1.tar+zstd"),
        other if compression::is_compressed(other) => Form::Decompressed,
        _ => Form::AsItIs("application/vnd.oci.image.layer.v1.tar"),
    })
}

/// The file from its beginning, whoever else reads it.
fn whole(file: &File) -> BufReader<At<'_>> {
    BufReader::with_capacity(CHUNK, At { file, offset: 0 })
}

struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Digest and length of everything that comes.
fn digest(from: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut length, mut buffer) = (Hasher::default(), 0, vec![0; CHUNK]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), length)),
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
