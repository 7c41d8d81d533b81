//! Which image of a layout a name means.
//!
//! The annotation `org.opencontainers.image.ref.name` gives entries of `index.json` their names; some tools write the
//! whole reference there, some only the tag, and containerd keeps the whole one in an annotation of its own. So a name
//! is first compared as it is written, then as a reference. An entry without a name goes by its digest. Without a name
//! there must be one image only, or one for each of several platforms.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageIndex};

use crate::manifest::{self, DocumentError};
use crate::reference::Reference;

/// The annotation that names an entry.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd keeps the whole name, when it writes the tag alone above.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// It cannot be told which image of a layout is meant.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// What lists them cannot be read.
    #[error("its index.json is not an image index")]
    Index(#[source] DocumentError),
    /// The list cannot be written as one of those that are meant.
    #[error("its index.json cannot be used")]
    Write(#[source] serde_json::Error),
    /// No image has this name.
    #[error("it has no image named {tag:?}; it has: {names}")]
    NotFound {
        /// The name.
        tag: String,
        /// What there is.
        names: String,
    },
    /// No name was given and there are several images, or none.
    #[error("it holds {count} images: say which by adding :NAME to the path; it has: {names}")]
    Ambiguous {
        /// How many.
        count: usize,
        /// What there is.
        names: String,
    },
}

/// An index of those entries of `index` that are meant.
pub(super) fn choose(index: &[u8], tag: Option<&str>) -> Result<Vec<u8>, ChoiceError> {
    let mut index = parse(index)?;
    let all = index.manifests().clone();
    let chosen = match tag {
        Some(tag) => named(&all, tag)?,
        None => only(all)?,
    };
    // A single entry is meant whatever platform it names: if that is the wrong one, its configuration says so.
    let chosen = match chosen.as_slice() {
        [only] => {
            let mut only = only.clone();
            let _ = only.set_platform(None);
            vec![only]
        }
        _ => chosen,
    };
    let _ = index.set_manifests(chosen);
    serde_json::to_vec(&index).map_err(ChoiceError::Write)
}

/// The names of all images, each once; nothing for one without a name.
pub(crate) fn names(index: &[u8]) -> Result<Vec<Option<String>>, ChoiceError> {
    let index = parse(index)?;
    let distinct: BTreeSet<Option<String>> =
        index.manifests().iter().map(|entry| name(entry).map(str::to_owned)).collect();
    Ok(distinct.into_iter().collect())
}

fn parse(index: &[u8]) -> Result<ImageIndex, ChoiceError> {
    manifest::located("index", index).map_err(ChoiceError::Index)
}

fn named(all: &[Descriptor], tag: &str) -> Result<Vec<Descriptor>, ChoiceError> {
    let chosen = |fits: &dyn Fn(&Descriptor) -> bool| -> Vec<Descriptor> {
        all.iter().filter(|entry| fits(entry)).cloned().collect()
    };
    let full = |text: &str| text.parse::<Reference>().map(|name| name.to_string());
    let wanted = full(tag).ok();
    let passes: [&dyn Fn(&Descriptor) -> bool; 3] =
        [&|entry| name(entry) == Some(tag), &|entry| entry.digest().as_ref() == tag, &|entry| {
            let known = [annotation(entry, IMAGE_NAME), name(entry)];
            wanted.is_some() && known.into_iter().flatten().any(|known| full(known).ok() == wanted)
        }];
    let found = passes.into_iter().map(chosen).find(|chosen| !chosen.is_empty());
    found.ok_or_else(|| ChoiceError::NotFound { tag: tag.to_owned(), names: list(all) })
}

fn only(all: Vec<Descriptor>) -> Result<Vec<Descriptor>, ChoiceError> {
    let distinct: BTreeSet<_> = all.iter().map(name).collect();
    // Builds for several platforms have one name, or none, and say what they are for.
    let builds = all.len() == 1 || all.iter().all(|entry| entry.platform().is_some());
    if distinct.len() == 1 && builds {
        return Ok(all);
    }
    Err(ChoiceError::Ambiguous { count: all.len(), names: list(&all) })
}

fn list(all: &[Descriptor]) -> String {
    let label = |entry: &Descriptor| name(entry).unwrap_or(entry.digest().as_ref()).to_owned();
    let labels: BTreeSet<String> = all.iter().map(label).collect();
    if labels.is_empty() {
        return "nothing".to_owned();
    }
    labels.into_iter().collect::<Vec<_>>().join(", ")
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    annotation(descriptor, REF_NAME)
}

fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.annotations().as_ref()?.get(key).map(String::as_str)
}
