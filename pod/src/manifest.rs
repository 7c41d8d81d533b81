//! The pod manifest: appc 0.8.11's PodManifest and App, the schema that `rkt --pod-manifest` reads and
//! `rkt cat-manifest` prints.
//!
//! These types are the wire format. Unknown fields are ignored and not kept, as appc asks. [`PodManifest::validate`]
//! checks what the types cannot: names that must be unique, references that must lead somewhere.

mod app;
mod image;
mod isolator;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use app::{App, EventHandler, Group, MountPoint, Port, Protocol, User};
pub use image::{DOCKER_CMD, DOCKER_ENTRYPOINT, Dependency, ImageManifest, Label};
pub use isolator::{DEFAULT_CAPABILITIES, Isolator, Resource, Seccomp};
pub use validate::ManifestError;

use crate::AppName;

/// The schema version that we write.
pub const AC_VERSION: &str = "0.8.11";

/// What a pod is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodManifest {
    /// Schema version.
    pub ac_version: String,
    /// Always `PodManifest`.
    pub ac_kind: PodManifestKind,
    /// The apps, at least one when it is to be run.
    #[serde(default)]
    pub apps: Vec<RuntimeApp>,
    /// Storage that apps mount.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub volumes: Vec<Volume>,
    /// Limits and privileges of the pod as a whole.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub isolators: Vec<Isolator>,
    /// Facts about the pod for programs.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: Vec<Annotation>,
    /// Ports of apps that the host exposes.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub ports: Vec<ExposedPort>,
    /// Facts about the pod for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_annotations: BTreeMap<String, String>,
    /// Labels of people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_labels: BTreeMap<String, String>,
}

/// `"acKind": "PodManifest"`, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodManifestKind {
    /// The only kind.
    PodManifest,
}

/// An app of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeApp {
    /// Unique in the pod.
    pub name: AppName,
    /// Which image.
    pub image: RuntimeImage,
    /// Replaces the image's app as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// Whether the root is read-only.
    #[serde(default, rename = "readOnlyRootFS", skip_serializing_if = "is_false")]
    pub read_only_root_fs: bool,
    /// Which volume goes where.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub mounts: Vec<Mount>,
    /// Facts about the app for programs.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

/// Which image an app is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeImage {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its id, `sha256-<hex>` or `sha512-<hex>`.
    #[serde(default)]
    pub id: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}

/// Mounts a volume in an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The volume's name.
    pub volume: AppName,
    /// Absolute path in the app.
    pub path: String,
    /// A volume of this app only, in place of one of the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_volume: Option<Volume>,
    /// Read-only here, whatever the volume says. An extension of appc's schema.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

/// Storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Unique in the pod.
    pub name: AppName,
    /// What it is.
    #[serde(flatten)]
    pub kind: VolumeKind,
    /// Read-only for every app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Whether mounts beneath the source come along; they do unless this says no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum VolumeKind {
    /// A file or directory of the host.
    Host {
        /// Absolute path.
        source: String,
    },
    /// A directory that lives as long as the pod.
    Empty {
        /// Octal permissions, `0755` by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
        /// Owner, 0 by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group, 0 by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A port that the host exposes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExposedPort {
    /// The name of an app's port.
    pub name: String,
    /// The host's port.
    pub host_port: u16,
    /// The host's address; all when absent.
    #[serde(default, rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<std::net::IpAddr>,
    /// The pod's port, for one that no app names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_port: Option<Port>,
}

impl PodManifest {
    /// A manifest without apps.
    pub fn new() -> Self {
        Self {
            ac_version: AC_VERSION.to_owned(),
            ac_kind: PodManifestKind::PodManifest,
            apps: Vec::new(),
            volumes: Vec::new(),
            isolators: Vec::new(),
            annotations: Vec::new(),
            ports: Vec::new(),
            user_annotations: BTreeMap::new(),
            user_labels: BTreeMap::new(),
        }
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        annotation(&self.annotations, name)
    }

    /// The app of this name.
    pub fn app(&self, name: &AppName) -> Option<&RuntimeApp> {
        self.apps.iter().find(|app| app.name == *name)
    }
}

impl Default for PodManifest {
    fn default() -> Self {
        Self::new()
    }
}

impl RuntimeApp {
    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        annotation(&self.annotations, name)
    }
}

fn annotation<'a>(annotations: &'a [Annotation], name: &str) -> Option<&'a str> {
    annotations.iter().find(|a| a.name == name).map(|a| a.value.as_str())
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Go writes `null` for a list that was never set.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
