//! `rkt image tag` and `rkt image untag`: names of images.

use anyhow::{bail, ensure};
use image::ImageName;

use super::import::local_name;
use super::{existing_store, find};
use crate::cli::command::Invocation;
use crate::exit::{self, SUCCESS};
use crate::images;

pub(crate) fn tag(invocation: &Invocation) -> anyhow::Result<u8> {
    let [text, name] = invocation.words.as_slice() else {
        bail!("an image and a name for it are needed (see --help)")
    };
    let store = existing_store(invocation)?;
    let image = images::parse_name(store.as_ref(), text)?;
    let (store, id) = find(store, text, &image)?;
    let name = ImageName::Registry(local_name(&store, name)?);
    store.tag(id, &name)?;
    Ok(SUCCESS)
}

pub(crate) fn untag(invocation: &Invocation) -> anyhow::Result<u8> {
    ensure!(!invocation.words.is_empty(), "at least one name is needed (see --help)");
    let store = existing_store(invocation)?;
    for text in &invocation.words {
        let name = images::parse_name(store.as_ref(), text)?;
        if matches!(name, ImageName::Id(_)) {
            bail!("{text:?} is an image's id, not one of its names; \"rkt image rm\" removes the image");
        }
        let image = store.as_ref().map(|store| store.untag(&name)).transpose()?.flatten();
        let Some(image) = image else { bail!("no image is called {text:?}") };
        exit::report(format_args!("{name} no longer stands for image \"{image}\""));
    }
    Ok(SUCCESS)
}
