//! appc's ImageManifest: what an ACI says of itself, and how `rkt image cat-manifest` shows an image of any format.

use serde::{Deserialize, Serialize};

use super::{Annotation, App, null_is_empty};

/// An image, as appc describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always `ImageManifest`.
    pub ac_kind: String,
    /// Schema version.
    pub ac_version: String,
    /// Its name, without version.
    pub name: String,
    /// `version`, `os`, `arch`, ….
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: Vec<Label>,
    /// What it runs, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// Facts about it for programs.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
    /// Images beneath it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// The only paths that it has; all when empty.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub path_whitelist: Vec<String>,
}

impl ImageManifest {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        super::annotation(&self.labels, name)
    }
}

/// An image beneath another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Its name.
    pub image_name: String,
    /// Its id.
    #[serde(default, rename = "imageID", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Labels it must have.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A name and a value.
pub type Label = Annotation;

/// Annotation: the image's ENTRYPOINT, a JSON array, as docker2aci wrote it.
pub const DOCKER_ENTRYPOINT: &str = "appc.io/docker/entrypoint";
/// Annotation: the image's CMD, a JSON array, as docker2aci wrote it.
pub const DOCKER_CMD: &str = "appc.io/docker/cmd";
