//! Images that mean harm, made by code: what each of them tries, and what has to come of it.
//!
//! A [`Case`] is an OCI layout or an ACI, and an expectation: a sentence that the refusal has to contain, or a look at the tree
//! that came of it, because many tricks have a lawful meaning within the tree. `tests/hostile.rs` hands every case to
//! the real `rkt fetch`, in a place where nothing that it does outside the store can stay hidden.
//!
//! [`archive`] writes tar headers in which every field can lie, [`layout`] writes the documents around them.

pub mod archive;
pub mod layout;

mod acis;
mod attributes;
mod documents;
mod links;
mod nodes;
mod numbers;
mod paths;
mod sparse;
mod streams;
mod whiteouts;

use std::path::Path;

use archive::Archive;
use layout::{Image, Layer};

/// Where links of the cases lead to: a directory of the machine with a file `file` and a directory `dir`.
pub const OUTSIDE: &str = "/var/tmp/rkt-hostile";

/// What has to come of a case.
pub enum Expect {
    /// A refusal that contains this, and nothing in the store.
    Refused(&'static str),
    /// An image. The look gets the directory of its highest layer's tree.
    Harmless(fn(&Path)),
}

/// One image that means harm.
pub struct Case {
    /// What kind of harm.
    pub family: &'static str,
    /// Which harm. Unique within the family.
    pub name: &'static str,
    /// The image.
    pub image: Image,
    /// What has to come of it.
    pub expect: Expect,
}

/// All of them.
#[must_use]
pub fn corpus() -> Vec<Case> {
    let families = [
        ("paths", paths::cases as fn() -> Vec<Case>),
        ("links", links::cases),
        ("whiteouts", whiteouts::cases),
        ("nodes", nodes::cases),
        ("attributes", attributes::cases),
        ("numbers", numbers::cases),
        ("sparse", sparse::cases),
        ("streams", streams::cases),
        ("documents", documents::cases),
        ("acis", acis::cases),
    ];
    let named = |(family, cases): (&'static str, fn() -> Vec<Case>)| {
        cases().into_iter().map(move |case| Case { family, ..case })
    };
    families.into_iter().flat_map(named).collect()
}

/// An image that is to be refused.
fn refused(name: &'static str, image: impl Into<Image>, why: &'static str) -> Case {
    Case { family: "", name, image: image.into(), expect: Expect::Refused(why) }
}

/// An image that does no harm.
fn harmless(name: &'static str, image: impl Into<Image>, look: fn(&Path)) -> Case {
    Case { family: "", name, image: image.into(), expect: Expect::Harmless(look) }
}

impl From<Archive> for Image {
    fn from(archive: Archive) -> Self {
        Self::new(vec![Layer::gzip(&archive.end())])
    }
}

impl<const N: usize> From<[Archive; N]> for Image {
    fn from(archives: [Archive; N]) -> Self {
        Self::new(archives.into_iter().map(|archive| Layer::gzip(&archive.end())).collect())
    }
}

impl From<Layer> for Image {
    fn from(layer: Layer) -> Self {
        Self::new(vec![layer])
    }
}
