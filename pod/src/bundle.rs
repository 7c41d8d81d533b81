//! What `prepare` leaves for a stage1, per app: an OCI runtime-spec configuration and where the root's layers are.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// `config.json` and `image.json`.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The OCI runtime-spec configuration; `root.path` is `rootfs`.
    pub config: Spec,
    /// The image.
    pub image: ImageRef,
}

/// `image.json`: the image that an app's root is made from.
///
/// This file is what keeps the image: garbage collection of images reads it in every pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// The image's id, `sha256-<64 hex>`.
    pub id: String,
    /// The name by which it was asked for.
    pub name: String,
    /// Absolute paths of the layers' trees, bottom first: overlayfs' `lowerdir=` in reverse.
    pub layers: Vec<PathBuf>,
}

/// Annotation of `config.json`: the signal that asks the app to stop. From the OCI image specification.
pub const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
