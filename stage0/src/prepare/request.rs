//! What is to be prepared: the checked form of the arguments of `run` and `prepare`.

use std::collections::BTreeMap;

use pod::AppName;
use pod::manifest::{Annotation, Isolator, Mount, PodManifest, Volume};

use crate::spec::Lifted;

/// A pod to be prepared.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What it is made of.
    pub(crate) content: Content,
    /// Which stage1 isolates it.
    pub(crate) stage1: pod::stage1::Stage1,
    /// Protections that were given up.
    pub(crate) lifted: Lifted,
    /// Whose users its users are.
    pub(crate) users: Users,
    /// Whether the (only) app gets the caller's terminal.
    pub(crate) terminal: bool,
}

/// Whose users a pod's users are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// The host's.
    Host,
    /// Its own, in a user namespace.
    Own,
}

/// What a pod is made of.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Images, and what to change about them.
    Apps(Apps),
    /// A whole manifest.
    Manifest(PodManifest),
}

/// Images, and what to change about them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Apps {
    /// The apps, at least one.
    pub(crate) apps: Vec<AppRequest>,
    /// Storage.
    pub(crate) volumes: Vec<Volume>,
    /// Mounts of every app.
    pub(crate) mounts: Vec<Mount>,
    /// Environment of every app; wins over the image's.
    pub(crate) environment: Vec<(String, String)>,
    /// The caller's environment, for what nobody else sets.
    pub(crate) inherited: Vec<(String, String)>,
    /// Facts about the pod for programs.
    pub(crate) annotations: Vec<Annotation>,
    /// Facts about the pod for people.
    pub(crate) user_annotations: BTreeMap<String, String>,
    /// Labels of people.
    pub(crate) user_labels: BTreeMap<String, String>,
}

/// One app.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppRequest {
    /// The image, as written.
    pub(crate) image: String,
    /// The file with its signature.
    pub(crate) signature: Option<std::path::PathBuf>,
    /// Its name in the pod; derived from the image's when absent.
    pub(crate) name: Option<AppName>,
    /// Replaces the image's command.
    pub(crate) exec: Option<String>,
    /// Added to the command.
    pub(crate) args: Vec<String>,
    /// Replaces the image's user.
    pub(crate) user: Option<String>,
    /// Replaces the image's group.
    pub(crate) group: Option<String>,
    /// Replaces the image's further groups.
    pub(crate) supplementary_gids: Option<Vec<u32>>,
    /// Replaces the image's working directory.
    pub(crate) working_dir: Option<String>,
    /// Wins over everybody's environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Whether the root is read-only.
    pub(crate) read_only_root: bool,
    /// Mounts of this app.
    pub(crate) mounts: Vec<Mount>,
    /// Limits and privileges, in place of the image's of the same kind.
    pub(crate) isolators: Vec<Isolator>,
    /// Facts about the app for programs.
    pub(crate) annotations: Vec<Annotation>,
    /// Facts about the app for people.
    pub(crate) user_annotations: BTreeMap<String, String>,
    /// Labels of people.
    pub(crate) user_labels: BTreeMap<String, String>,
}
