//! `rkt image …`: one file for each command, and what they share.

pub(crate) mod cat_manifest;
pub(crate) mod export;
pub(crate) mod extract;
pub(crate) mod gc;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod rm;
pub(crate) mod tag;
pub(crate) mod verify;

use std::io;

use anyhow::{Context as _, bail};
use image::{ImageId, ImageName, Store};

use super::command::Invocation;
use crate::images;
use crate::uses::{self, Use};

pub(super) fn users(invocation: &Invocation) -> anyhow::Result<Vec<Use>> {
    invocation.existing_data_dir()?.as_ref().map_or_else(|| Ok(Vec::new()), uses::of_pods)
}

/// The store. `None`: nothing was ever fetched, and a command that only looks does not make one.
pub(super) fn existing_store(invocation: &Invocation) -> anyhow::Result<Option<Store>> {
    let data = invocation.data_path();
    match data.join("cas/image").symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            bail!("only root and members of the group rkt may look at images in {}", data.display())
        }
        _ => {}
    }
    Ok(Some(images::open_store(&data)?))
}

pub(super) fn find(store: Option<Store>, text: &str, name: &ImageName) -> anyhow::Result<(Store, ImageId)> {
    let found = match store {
        Some(store) => store.find(name)?.map(|id| (store, id)),
        None => None,
    };
    found.with_context(|| format!("image {text:?} is not in the store"))
}
