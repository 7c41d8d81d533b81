//! What the store writes down besides content: images, names, layers. JSON, one file each, replaced by rename.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::content::Format;
use crate::digest::{Digest, ImageId};
use crate::platform::Platform;
use crate::trust::Origin;
use crate::unpack::Shape;

/// `image/<hex>.json`: everything that a list needs, so that listing walks no tree. The file's mtime is when the image
/// was last used: a run touches it, which costs one system call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageFile {
    pub(super) id: ImageId,
    #[serde(default)]
    pub(super) format: Format,
    /// The document beside the one that gives the image its id: OCI: the configuration; ACI: the manifest.
    pub(super) config: Digest,
    /// The trees to stack, bottom first. Those below a layer that hides everything are left out.
    pub(super) trees: Vec<Digest>,
    /// Trees that are kept with it and not stacked: what it was rendered from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<Digest>,
    pub(super) platform: Platform,
    pub(super) imported: Timestamp,
    /// Bytes of manifest, configuration and all trees.
    pub(super) size: u64,
    /// A tree has links to standard output or error.
    #[serde(default)]
    pub(super) opens_outputs: bool,
    /// The names that it came by, and which signatures were verified then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) origins: Vec<Origin>,
}

/// `ref/<name>`: what a name stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RefFile {
    pub(super) name: String,
    pub(super) image: ImageId,
    /// When the name got this meaning.
    pub(super) imported: Timestamp,
    /// An ACI's server said that this is the latest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) latest: bool,
    /// It was given by hand: no registry is asked what it means.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) local: bool,
}

/// `tree/<hex>/layer.json`: what a tree holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerFile {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// How the names of its archive were understood.
    #[serde(default)]
    pub(super) shape: Shape,
    /// The layer hides everything below it.
    #[serde(default)]
    pub(super) opaque: bool,
    /// It has links to standard output or error.
    #[serde(default)]
    pub(super) opens_outputs: bool,
    /// What the file `blob` is, as long as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) blob: Option<BlobRecord>,
}

/// A layer as it was transported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlobRecord {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageRecord {
    /// Its identity.
    pub id: ImageId,
    /// Its names, sorted; none if all have come to mean other images.
    pub names: Vec<String>,
    /// When it was fetched.
    pub import_time: Timestamp,
    /// When it was last run, prepared or fetched.
    pub last_used: Timestamp,
    /// Bytes of manifest, configuration and all trees, shared ones included.
    pub size: u64,
}

/// The file for a name. Letters, digits and `-_.` stand for themselves; a name that would be too long for a file is
/// replaced by its digest. The record has the whole name in either case.
pub(super) fn ref_file(name: &str) -> PathBuf {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(name.len() + 16);
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            b'.' if at > 0 => encoded.push('.'),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02x}")),
        }
    }
    if encoded.len() > 240 {
        PathBuf::from(format!("%{}", Digest::of(name.as_bytes())))
    } else {
        encoded.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_become_files() {
        let file = |name: &str| ref_file(name).to_string_lossy().into_owned();
        assert_eq!(file("docker.io/library/nginx:1.27"), "docker.io%2flibrary%2fnginx%3a1.27");
        assert_eq!(file("../x"), "%2e.%2fx");
        assert_eq!(file("%41"), "%2541");
        assert!(file(&"/".repeat(100)).starts_with("%sha256:"));
    }

    proptest! {
        #[test]
        fn different_names_have_different_lawful_files(a in ".{1,200}", b in ".{1,200}") {
            let (x, y) = (ref_file(&a), ref_file(&b));
            prop_assert_eq!(a == b, x == y);
            let text = x.to_string_lossy();
            prop_assert!(!text.contains('/') && !text.starts_with('.') && (1..=255).contains(&text.len()));
        }
    }
}
