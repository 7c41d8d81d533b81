//! An ACI as it was fetched, uncompressed: the archive whose digest is its id.

use std::path::Path;

use super::{ExportError, Exported};
use crate::output::{Existing, NewFile};
use crate::store::{Image, Store};

/// Writes an ACI's archive.
///
/// # Errors
/// [`ExportError`]; nothing is left then.
pub fn export_aci(
    store: &Store,
    image: &Image,
    path: &Path,
    existing: Existing,
) -> Result<Exported, ExportError> {
    let id = image.id;
    if image.aci().is_none() {
        return Err(ExportError::NotAci { id });
    }
    let mut tar = store.layer_tar(id.digest()).map_err(|source| ExportError::Store { id, source })?;
    let mut output = NewFile::create(path, existing)?;
    let copied = std::io::copy(&mut tar, output.file());
    let _ = copied.map_err(|source| ExportError::Write { name: path.display().to_string(), source })?;
    output.publish()?;
    Ok(Exported { manifest: None, own_manifest: true })
}
