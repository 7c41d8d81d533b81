//! Application Container Images: appc's format, which rkt was made for (appc image specification 0.8).
//!
//! An ACI is a tar archive, usually compressed, of a `manifest` and a `rootfs/`. Its id is the sha512 of the archive
//! without compression. Its root file system goes into the store as a layer does, under that id. It may need other
//! images beneath it (`dependencies`), and may want to show only some of all the files (`pathWhitelist`).
//!
//! * [`name`]: what images are called, and the words for them on a command line.
//! * [`manifest`]: reading and checking a manifest.
//! * [`file`]: one archive: what it is, before anything of it is believed.
//! * [`fetch`]: from a word to an image of the store, with everything beneath it.
//! * [`discovery`]: from a name to the pages that say where the image is.
//! * [`remote`]: from an address to a file.
//! * [`render`]: the tree of an image that has a whitelist.

mod discovery;
pub(crate) mod fetch;
mod file;
mod manifest;
mod name;
mod remote;
mod render;

pub use fetch::{AciError, AciKeys, AciOptions, AciTrust};
pub use file::AciFileError;
pub(crate) use manifest::has_identity;
pub use manifest::{AciManifestError, check_platform};
pub use name::{AciName, AciNameError, AciWord};
pub use remote::{AciAuthorization, AciRemoteError, discover_keys};
pub(crate) use remote::{file_name, is_useful};

/// What fuzzers call.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod outside {
    use std::path::Path;

    use super::{AciFileError, AciName, discovery, file};
    use crate::platform::Platform;

    /// Reads a file as [`super::fetch`] does at first: the id of the image, and its manifest.
    pub(crate) fn scan(path: &Path, limit: u64) -> Result<(u64, pod::manifest::ImageManifest), AciFileError> {
        let scan = file::AciFile::open(path)?.scan(limit)?;
        Ok((scan.tar_size, scan.parsed))
    }

    /// All addresses that a page leads to.
    pub(crate) fn addresses(page: &[u8], name: &AciName, host: &Platform) -> Vec<String> {
        let endpoint = discovery::endpoint(page, name, host);
        endpoint.into_iter().flat_map(|endpoint| [endpoint.aci, endpoint.signature]).collect()
    }

    /// The same for keys, which are checked later.
    pub(crate) fn keys(page: &[u8], name: &str) -> Vec<String> {
        discovery::keys(page, name)
    }
}
