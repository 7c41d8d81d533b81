//! Docker's archive: what `docker load` and `podman load` take.

use std::path::Path;

use serde::Serialize;

use super::tar_file::TarFile;
use super::{ExportError, Exported, Parts};
use crate::output::Existing;
use crate::reference::Reference;
use crate::store::{Image, Store};

/// An entry of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes an image as Docker's archive: its configuration as it is, its layers uncompressed.
///
/// # Errors
/// [`ExportError`]; nothing is left then.
pub fn export_docker_archive(
    store: &Store,
    image: &Image,
    path: &Path,
    name: Option<&Reference>,
    existing: Existing,
) -> Result<Exported, ExportError> {
    let parts = Parts::of(store, image)?;
    let mut file = TarFile::create(path, existing)?;
    let mut layers = Vec::new();
    for (diff_id, _) in &parts.layers {
        let member = format!("{}.tar", diff_id.hex());
        // A layer that an image has twice is written once.
        if !file.has(&member) {
            let _ = file.add(&member, &mut parts.tar(*diff_id)?)?;
        }
        layers.push(member);
    }
    let config = format!("{}.json", parts.config_digest.hex());
    let _ = file.add(&config, &mut parts.config.as_slice())?;
    let entry = Entry { config, repo_tags: name.map(|name| vec![name.to_string()]), layers };
    let manifest = serde_json::to_vec(&[entry]).map_err(ExportError::Json)?;
    let _ = file.add("manifest.json", &mut manifest.as_slice())?;
    file.publish()?;
    Ok(Exported { manifest: None, own_manifest: false })
}
