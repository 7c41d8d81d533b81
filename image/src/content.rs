//! What an image says of itself: one type for all formats.
//!
//! The formats of OCI and Docker have a manifest, which lists layers, and a configuration, which says what to run. An
//! ACI (appc's format) has one manifest that says what to run and which images lie beneath. Everything else about an
//! image, its trees above all, is the same for both ([`Image`]).

use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::store::Image;

/// What an image says of itself.
#[derive(Clone, Debug)]
pub enum Content {
    /// An image in the formats of OCI and Docker.
    Oci {
        /// The manifest for one platform.
        manifest: Box<ImageManifest>,
        /// What to run, and how.
        config: Box<ImageConfiguration>,
    },
    /// An ACI: its `manifest`.
    Aci(Box<pod::manifest::ImageManifest>),
}

/// The format of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// OCI and Docker.
    #[default]
    Oci,
    /// appc.
    Aci,
}

impl Content {
    /// Which format it is.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Oci { .. } => Format::Oci,
            Self::Aci(_) => Format::Aci,
        }
    }
}

impl Image {
    /// Manifest and configuration, if it is an image in the formats of OCI and Docker.
    #[must_use]
    pub fn oci(&self) -> Option<(&ImageManifest, &ImageConfiguration)> {
        match &self.content {
            Content::Oci { manifest, config } => Some((manifest, config)),
            Content::Aci(_) => None,
        }
    }

    /// The manifest, if it is an ACI.
    #[must_use]
    pub fn aci(&self) -> Option<&pod::manifest::ImageManifest> {
        match &self.content {
            Content::Oci { .. } => None,
            Content::Aci(manifest) => Some(manifest),
        }
    }
}
