//! `rkt image cat-manifest`: what an image runs, as an appc image manifest.

use anyhow::bail;
use image::ImageName;

use super::{existing_store, find};
use crate::cli::cat_manifest;
use crate::cli::command::Invocation;
use crate::{appc, images};

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let [text] = invocation.words.as_slice() else { bail!("exactly one image is needed (see --help)") };
    let store = existing_store(invocation)?;
    let name = images::parse_name(store.as_ref(), text)?;
    let (store, id) = find(store, text, &name)?;
    let image = store.image(id)?;
    let named = match &name {
        ImageName::Id(_) => {
            let record = store.images()?.into_iter().find(|r| r.id == id);
            record.and_then(|r| r.names.into_iter().next()).and_then(|n| n.parse().ok()).unwrap_or(name)
        }
        _ => name,
    };
    let (name, version) = images::split_name(&named);
    cat_manifest::print(invocation, &appc::image_manifest(&name, version.as_deref(), &image.content))
}
