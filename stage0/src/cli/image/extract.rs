//! `rkt image extract` and `rkt image render`: an image's file system as a directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use image::{Existing, Image, NewDirectory, Store};

use super::{existing_store, find};
use crate::cli::command::Invocation;
use crate::cli::flag::{Flag, switch};
use crate::exit::SUCCESS;
use crate::{appc, images};

/// The commands' own flags.
pub(crate) const FLAGS: &[Flag] = &[
    switch("overwrite", "replace the output directory if it exists"),
    switch("rootfs-only", "write the root file system alone, without the image manifest"),
];

/// The image alone, without what it depends on.
pub(crate) fn extract(invocation: &Invocation) -> anyhow::Result<u8> {
    write(invocation, Store::own_layers)
}

/// The image with everything beneath it.
pub(crate) fn render(invocation: &Invocation) -> anyhow::Result<u8> {
    write(invocation, |_, image| image.layers.clone())
}

fn write(invocation: &Invocation, layers: fn(&Store, &Image) -> Vec<PathBuf>) -> anyhow::Result<u8> {
    let [text, output] = invocation.words.as_slice() else {
        bail!("an image and an output directory are needed (see --help)")
    };
    let output = Path::new(output);
    let store = existing_store(invocation)?;
    let name = images::parse_name(store.as_ref(), text)?;
    let (store, id) = find(store, text, &name)?;
    let image = store.image(id)?;
    let (layers, existing) = (layers(&store, &image), existing(invocation));
    if existing == Existing::Replace {
        refuse_to_replace(output, &invocation.data_path())?;
    }
    let new = NewDirectory::create(output, existing)?;
    let failed = || format!("cannot copy image {text:?} to {}", output.display());
    if invocation.flags.switch("rootfs-only") {
        image::render(&layers, new.directory()).with_context(failed)?;
    } else {
        let root = new.subdirectory("rootfs")?;
        image::render(&layers, std::os::fd::AsFd::as_fd(&root)).with_context(failed)?;
        new.write("manifest", &manifest(&store, &image)?)?;
    }
    new.publish()?;
    Ok(SUCCESS)
}

/// What to do with an output that exists.
pub(super) fn existing(invocation: &Invocation) -> Existing {
    if invocation.flags.switch("overwrite") { Existing::Replace } else { Existing::Refuse }
}

/// Whoever mistypes must not lose the machine, or the image that is being copied.
fn refuse_to_replace(output: &Path, data: &Path) -> anyhow::Result<()> {
    let Ok(output) = output.canonicalize() else { return Ok(()) };
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    ensure!(
        output != Path::new("/") && !data.starts_with(&output) && !output.starts_with(data.join("cas")),
        "{} cannot be an output directory: it holds the data directory, or is part of it",
        output.display()
    );
    Ok(())
}

/// The manifest that `rkt image cat-manifest` prints.
fn manifest(store: &Store, image: &Image) -> anyhow::Result<Vec<u8>> {
    let record = store.images()?.into_iter().find(|record| record.id == image.id);
    let name = record.and_then(|record| record.names.into_iter().next());
    let name = name.unwrap_or_else(|| image.id.to_string());
    let (name, version) = name.parse().map_or((name, None), |name| images::split_name(&name));
    Ok(serde_json::to_vec(&appc::image_manifest(&name, version.as_deref(), &image.content))?)
}
