//! Reading and checking an image manifest (appc 0.8, "Image Manifest Schema").
//!
//! What is checked here is what any use of the image relies on; that its app can be run is found out when a pod is
//! prepared. Labels must be unique. `os` and `arch` are not needed to keep an image, only to run it:
//! [`check_platform`].

use std::collections::BTreeMap;

use pod::manifest::ImageManifest;

use super::name::{AciName, AciNameError};
use crate::platform::Platform;

/// More dependencies and paths than anybody needs.
const MAX_DEPENDENCIES: usize = 256;
const MAX_WHITELIST: usize = 1_000_000;

/// A manifest that is none.
#[derive(Debug, thiserror::Error)]
pub enum AciManifestError {
    /// It is not JSON, or not of the schema.
    #[error("cannot parse the image manifest")]
    Parse(#[source] serde_json::Error),
    /// It is the manifest of something else.
    #[error("the manifest is of kind {0:?}, not \"ImageManifest\"")]
    Kind(String),
    /// Its name or a label breaks the grammar, or a label is there twice.
    #[error("the image manifest is not valid")]
    Name(#[from] AciNameError),
    /// There is too much of something.
    #[error("the image manifest has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A path of the whitelist.
    #[error("the image manifest whitelists {0:?}, which is not an absolute path without \"..\"")]
    Path(String),
    /// It does not say for which system it was built.
    #[error("missing {0} label in the image manifest")]
    Missing(&'static str),
    /// It was built for another system.
    #[error("bad os {0:?} (must be one of: [linux])")]
    Os(String),
    /// It was built for another processor.
    #[error("bad arch {arch:?} for linux (must be one of: [{fitting}])")]
    Arch {
        /// In the manifest.
        arch: String,
        /// What runs here.
        fitting: String,
    },
    /// A label has another value than the one asked for.
    #[error(
        "requested value for label {label:?}: {requested:?} differs from fetched aci label value: {found:?}"
    )]
    Differs {
        /// The label.
        label: String,
        /// Asked for.
        requested: String,
        /// In the manifest.
        found: String,
    },
    /// A label that was asked for is not there.
    #[error("requested label {0:?} not provided by the image manifest")]
    NotProvided(String),
    /// The name is not the one asked for.
    #[error("the image is called {found:?}, and {requested:?} was asked for")]
    Other {
        /// Asked for.
        requested: String,
        /// In the manifest.
        found: String,
    },
}

/// Parses and checks a manifest.
pub(super) fn parse(bytes: &[u8]) -> Result<ImageManifest, AciManifestError> {
    let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(AciManifestError::Parse)?;
    if manifest.ac_kind != "ImageManifest" {
        return Err(AciManifestError::Kind(manifest.ac_kind.chars().take(100).collect()));
    }
    let _ = identity(&manifest)?;
    let bounds = [
        ("dependencies", manifest.dependencies.len(), MAX_DEPENDENCIES),
        ("whitelisted paths", manifest.path_whitelist.len(), MAX_WHITELIST),
    ];
    if let Some((what, _, limit)) = bounds.into_iter().find(|(_, count, limit)| count > limit) {
        return Err(AciManifestError::TooMany { what, limit });
    }
    let lawful = |path: &&String| {
        path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
    };
    match manifest.path_whitelist.iter().find(|path| !lawful(path)) {
        Some(path) => Err(AciManifestError::Path(path.chars().take(200).collect())),
        None => Ok(manifest),
    }
}

/// The name of the image with all its labels.
pub(super) fn identity(manifest: &ImageManifest) -> Result<AciName, AciNameError> {
    AciName::new(&manifest.name, &manifest.labels)
}

/// Whether the manifest is that of the image that was asked for.
pub(super) fn check_identity(manifest: &ImageManifest, wanted: &AciName) -> Result<(), AciManifestError> {
    if manifest.name != wanted.name() {
        let (requested, found) = (wanted.name().to_owned(), manifest.name.clone());
        return Err(AciManifestError::Other { requested, found });
    }
    check_labels(manifest, wanted.labels())
}

/// The same, for whoever does not need to know why not.
pub(crate) fn has_identity(manifest: &ImageManifest, wanted: &AciName) -> bool {
    check_identity(manifest, wanted).is_ok()
}

/// Whether the manifest has the labels that were asked for.
pub(super) fn check_labels(
    manifest: &ImageManifest,
    wanted: &BTreeMap<String, String>,
) -> Result<(), AciManifestError> {
    for (label, requested) in wanted {
        match manifest.label(label) {
            None => return Err(AciManifestError::NotProvided(label.clone())),
            Some(found) if found != requested => {
                let (requested, found) = (requested.clone(), found.to_owned());
                return Err(AciManifestError::Differs { label: label.clone(), requested, found });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether the image can run on `host`.
///
/// # Errors
/// [`AciManifestError::Missing`], [`AciManifestError::Os`] or [`AciManifestError::Arch`].
pub fn check_platform(manifest: &ImageManifest, host: &Platform) -> Result<(), AciManifestError> {
    let label = |name| manifest.label(name).ok_or(AciManifestError::Missing(name));
    let (os, arch) = (label("os")?, label("arch")?);
    if os != host.os {
        return Err(AciManifestError::Os(os.to_owned()));
    }
    let fitting = architectures(host);
    if fitting.contains(&arch) {
        return Ok(());
    }
    Err(AciManifestError::Arch { arch: arch.to_owned(), fitting: fitting.join(" ") })
}

/// What appc calls the architectures whose programs this one runs, its own first.
fn architectures(host: &Platform) -> Vec<&str> {
    match (host.architecture.as_str(), host.variant.as_deref()) {
        ("amd64", _) => vec!["amd64", "i386"],
        ("386", _) => vec!["i386"],
        ("arm64", _) => vec!["aarch64"],
        ("arm", Some("v6")) => vec!["armv6l"],
        ("arm", _) => vec!["armv7l", "armv6l"],
        (other, _) => vec![other],
    }
}

/// What an image was built for, in the words of GOOS and GOARCH; empty where it does not say.
pub(super) fn platform(manifest: &ImageManifest) -> Platform {
    let (architecture, variant) = match manifest.label("arch").unwrap_or_default() {
        "i386" => ("386", None),
        "aarch64" => ("arm64", Some("v8")),
        "armv6l" => ("arm", Some("v6")),
        "armv7l" => ("arm", Some("v7")),
        other => (other, None),
    };
    Platform {
        os: manifest.label("os").unwrap_or_default().to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    }
}

/// The labels that an image for `host` has, for those that a request leaves open.
pub(super) fn defaults(host: &Platform) -> [(&'static str, String); 2] {
    let arch = architectures(host).first().map(|arch| (*arch).to_owned()).unwrap_or_default();
    [("os", host.os.clone()), ("arch", arch)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(changes: serde_json::Value) -> Result<ImageManifest, AciManifestError> {
        let mut value = serde_json::json!({"acKind": "ImageManifest", "acVersion": "0.8.11",
            "name": "example.com/app", "labels": [{"name": "os", "value": "linux"},
            {"name": "arch", "value": "amd64"}, {"name": "version", "value": "1.0"}]});
        value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        parse(value.to_string().as_bytes())
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        use serde_json::json;
        assert!(manifest(json!({"dependencies": null, "unknown": 7})).is_ok());
        for (changes, sentence) in [
            (json!({"acKind": "PodManifest"}), "of kind \"PodManifest\""),
            (json!({"name": "Example"}), "not valid"),
            (json!({"labels": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}), "not valid"),
            (json!({"labels": 7}), "cannot parse"),
            (json!({"pathWhitelist": ["a"]}), "whitelists \"a\""),
            (json!({"pathWhitelist": ["/a/../b"]}), "whitelists"),
            (
                json!({"dependencies": vec![json!({"imageName": "example.com/a"}); 300]}),
                "more than 256 dependencies",
            ),
        ] {
            let error = manifest(changes).unwrap_err().to_string();
            assert!(error.contains(sentence), "{error}");
        }
    }

    #[test]
    fn an_image_runs_where_its_labels_say() {
        use serde_json::json;
        let amd64 = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let check = |labels: &[(&str, &str)]| {
            let labels: Vec<_> = labels.iter().map(|(n, v)| json!({"name": n, "value": v})).collect();
            let manifest = manifest(json!({"labels": labels})).unwrap();
            check_platform(&manifest, &amd64).map_err(|error| error.to_string()).err()
        };
        assert_eq!(check(&[("os", "linux"), ("arch", "amd64")]), None);
        assert_eq!(check(&[("os", "linux"), ("arch", "i386")]), None);
        let expected = [
            (&[("arch", "amd64")][..], "missing os label in the image manifest"),
            (&[("os", "linux")], "missing arch label in the image manifest"),
            (&[("os", "freebsd"), ("arch", "amd64")], "bad os \"freebsd\" (must be one of: [linux])"),
            (
                &[("os", "linux"), ("arch", "aarch64")],
                "bad arch \"aarch64\" for linux (must be one of: [amd64 i386])",
            ),
        ];
        for (labels, sentence) in expected {
            assert_eq!(check(labels).as_deref(), Some(sentence));
        }
    }

    #[test]
    fn labels_that_were_asked_for_must_be_there() {
        let manifest = manifest(serde_json::json!({})).unwrap();
        let check = |text: &str| {
            check_identity(&manifest, &AciName::parse(text).unwrap()).map_err(|error| error.to_string()).err()
        };
        assert_eq!(check("example.com/app:1.0,os=linux"), None);
        assert_eq!(
            check("example.com/app:2.0").unwrap(),
            "requested value for label \"version\": \"2.0\" differs from fetched aci label value: \"1.0\""
        );
        assert_eq!(
            check("example.com/app,x=1").unwrap(),
            "requested label \"x\" not provided by the image manifest"
        );
        assert!(check("example.com/other").unwrap().contains("is called \"example.com/app\""));
    }
}
