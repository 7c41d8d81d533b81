//! Which plain names mean ACIs.
//!
//! `coreos.com/etcd:v2.3.7` could be the name of an ACI, to be discovered at coreos.com, or that of a repository of a
//! registry there. It is never tried which: it means an ACI if the store has one of that name, or if the administrator
//! says so in a `names.d` of one of the configuration directories:
//!
//! ```json
//! {"rktKind": "names", "rktVersion": "v1", "aci": ["coreos.com", "quay.io/coreos"]}
//! ```
//!
//! Every name that is one of these, or goes on after a slash, is that of an ACI. In every other case it is a registry's.

use std::io;
use std::path::{Path, PathBuf};

use image::{AciName, AciWord, ImageName, Store};
use serde::Deserialize;

/// A file says nothing about names that can be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamesError {
    #[error("cannot read which names mean ACIs from {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} does not say which names mean ACIs", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{}: version {version:?} of rktKind {kind:?} is not supported", path.display())]
    Version { path: PathBuf, kind: String, version: String },
    #[error("{text:?} is configured to be the name of an ACI")]
    Name { text: String, source: image::AciNameError },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamesFile {
    rkt_kind: String,
    rkt_version: String,
    #[serde(default)]
    aci: Vec<String>,
}

/// The ACI that a plain name means because it is configured to. `dirs` are configuration directories.
pub(crate) fn configured_aci(dirs: &[PathBuf], text: &str) -> Result<Option<ImageName>, NamesError> {
    if !is_plain(text) {
        return Ok(None);
    }
    let name = text.split([':', ',']).next().unwrap_or(text);
    let covers = |prefix: &String| {
        let rest = name.strip_prefix(prefix.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    for dir in dirs {
        if prefixes(&dir.join("names.d"))?.iter().any(covers) {
            let wrong = |source| NamesError::Name { text: text.to_owned(), source };
            return AciName::parse(text).map(|name| Some(aci(name))).map_err(wrong);
        }
    }
    Ok(None)
}

/// The ACI of this name that the store has.
pub(crate) fn stored_aci(store: &Store, text: &str) -> Option<ImageName> {
    let name = aci(AciName::parse(text).ok().filter(|_| is_plain(text))?);
    matches!(store.find(&name), Ok(Some(_))).then_some(name)
}

fn aci(name: AciName) -> ImageName {
    ImageName::Aci(AciWord::Named(name))
}

/// Whether the word could be either: no scheme, no path, no digest.
fn is_plain(text: &str) -> bool {
    let odd = text.contains("@sha") || text.contains("://") || text.contains("/..");
    !odd && !text.starts_with(['/', '.'])
        && AciName::parse(text).is_ok()
        && !["oci:", "oci-archive:", "docker:", "docker-archive:", "cimd:", "aci:", "sha256:", "sha512:"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
}

fn prefixes(dir: &Path) -> Result<Vec<String>, NamesError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| NamesError::Read { path, source }
    };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(unreadable(dir))?,
    };
    let mut prefixes = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable(dir))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
        let file: NamesFile = serde_json::from_slice(&bytes)
            .map_err(|source| NamesError::Parse { path: path.clone(), source })?;
        if (file.rkt_kind.as_str(), file.rkt_version.as_str()) != ("names", "v1") {
            let (kind, version) = (file.rkt_kind, file.rkt_version);
            return Err(NamesError::Version { path, kind, version });
        }
        prefixes.extend(file.aci);
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_prefixes_end_between_components() {
        let dir = tempfile::tempdir().unwrap();
        let names = dir.path().join("names.d");
        std::fs::create_dir(&names).unwrap();
        let text = r#"{"rktKind": "names", "rktVersion": "v1", "aci": ["coreos.com", "quay.io/coreos/"]}"#;
        std::fs::write(names.join("one.json"), text).unwrap();
        std::fs::write(names.join("README"), "no JSON").unwrap();
        let dirs = [dir.path().join("not/there"), dir.path().to_owned()];
        for (text, expected) in [
            ("coreos.com/etcd:v2", Some("aci:coreos.com/etcd:v2")),
            ("coreos.com/etcd,arch=amd64", Some("aci:coreos.com/etcd,arch=amd64")),
            ("coreos.com", Some("aci:coreos.com")),
            ("quay.io/coreos/etcd", Some("aci:quay.io/coreos/etcd")),
            ("quay.io/coreosx/etcd", None),
            ("coreos.com.evil/etcd", None),
            ("docker://coreos.com/etcd", None),
            ("nginx:1.27", None),
            ("./coreos.com", None),
        ] {
            let found = configured_aci(&dirs, text).unwrap().map(|name| name.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        std::fs::write(names.join("two.json"), r#"{"rktKind": "names", "rktVersion": "v9"}"#).unwrap();
        assert!(configured_aci(&dirs, "nginx").unwrap_err().to_string().contains("two.json"));
    }
}
