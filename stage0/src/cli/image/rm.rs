//! `rkt image rm`: images out of the store, with all their names.

use anyhow::{Context as _, bail, ensure};
use image::{ImageId, Store};

use super::{existing_store, find, users};
use crate::cli::command::Invocation;
use crate::exit::{self, SUCCESS};
use crate::images;

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    ensure!(!invocation.words.is_empty(), "no image IDs found");
    let log = invocation.log();
    let store = existing_store(invocation)?;
    let (mut removed, mut failed) = (0_usize, 0_usize);
    for text in &invocation.words {
        match remove(invocation, store.clone(), text) {
            Ok(id) => {
                exit::report(format_args!("successfully removed image: \"{id}\""));
                removed += 1;
            }
            Err(e) => {
                log.error(&e);
                failed += 1;
            }
        }
    }
    if removed > 0 {
        log.say(format_args!("{removed} image(s) successfully removed"));
    }
    if failed > 0 {
        bail!("{failed} image(s) cannot be removed");
    }
    Ok(SUCCESS)
}

fn remove(invocation: &Invocation, store: Option<Store>, text: &str) -> anyhow::Result<ImageId> {
    let name = images::parse_name(store.as_ref(), text)?;
    let (store, id) = find(store, text, &name)?;
    if let Some(user) = users(invocation)?.into_iter().find(|user| user.image == id) {
        bail!("image {text:?} is used by pod \"{}\"", user.pod);
    }
    let _names = store.remove(id).with_context(|| format!("cannot remove image {text:?}"))?;
    Ok(id)
}
