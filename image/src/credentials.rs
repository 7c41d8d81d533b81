//! Names and passwords for registries, from the files that operators already have.
//!
//! Two formats are read: rkt's `auth.d/*.json` of kind `dockerAuth`, and `auths` of docker's `config.json` (also
//! `auth.json` of podman and skopeo). The caller says which files, most important first; the first that knows a
//! registry wins. Within one directory a registry may be named once. Credential helpers are not asked.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::reference::DEFAULT_REGISTRY;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name.
    pub user: String,
    /// The password, which is never displayed.
    pub password: String,
}

/// Knows the credentials for registries.
pub trait CredentialLookup: Sync {
    /// The credentials for `registry`, written as in a reference: `docker.io`, `host:5000`.
    fn lookup(&self, registry: &str) -> Option<Credential>;
}

/// Credentials read from files.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    by_registry: BTreeMap<String, Credential>,
}

/// A file of credentials is unusable.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("cannot read credentials from {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("cannot parse the credentials in {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Its `auth` is not base64 of `name:password`.
    #[error("{}: the \"auth\" of {registry:?} is not base64 of name:password", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The entry.
        registry: String,
    },
    /// It is of a version that this program does not know.
    #[error("{}: version {version:?} of rktKind {kind:?} is not supported", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its rktKind.
        kind: String,
        /// Its rktVersion.
        version: String,
    },
    /// Two files of one directory disagree about a registry.
    #[error("{}: credentials for {registry:?} were already given in this directory", path.display())]
    Duplicate {
        /// The second file.
        path: PathBuf,
        /// The registry.
        registry: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    rkt_kind: String,
    rkt_version: String,
}

#[derive(Deserialize)]
struct DockerAuth {
    registries: Vec<String>,
    credentials: UserPassword,
}

#[derive(Deserialize)]
struct UserPassword {
    user: String,
    password: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerEntry>,
}

#[derive(Deserialize)]
struct DockerEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. What is already known stays.
    pub fn add(&mut self, registry: &str, credential: Credential) {
        let _ = self.by_registry.entry(normal(registry)).or_insert(credential);
    }

    /// Adds every `*.json` of an rkt `auth.d` directory. A directory that does not exist adds nothing.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn add_auth_dir(&mut self, dir: &Path) -> Result<(), CredentialsError> {
        let unreadable = |source| CredentialsError::Read { path: dir.to_owned(), source };
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(unreadable)?,
        };
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json") && path.is_file());
        paths.sort();
        let mut found: BTreeMap<String, Credential> = BTreeMap::new();
        for path in paths {
            for (registry, credential) in auth_file(&path)? {
                if found.insert(registry.clone(), credential).is_some() {
                    return Err(CredentialsError::Duplicate { path, registry });
                }
            }
        }
        found.into_iter().for_each(|(registry, credential)| self.add(&registry, credential));
        Ok(())
    }

    /// Adds the `auths` of docker's `config.json`. A file that does not exist adds nothing.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn add_docker_config(&mut self, path: &Path) -> Result<(), CredentialsError> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?,
        };
        let config: DockerConfig = parse(path, &bytes)?;
        for (registry, entry) in config.auths {
            let bad = || CredentialsError::Encoding { path: path.to_owned(), registry: registry.clone() };
            match (entry.auth.filter(|auth| !auth.is_empty()), entry.username, entry.password) {
                (Some(auth), ..) => self.add(&registry, decode(&auth).ok_or_else(bad)?),
                (None, Some(user), Some(password)) => self.add(&registry, Credential { user, password }),
                // An entry whose secret is elsewhere, with a helper.
                _ => {}
            }
        }
        Ok(())
    }
}

impl CredentialLookup for Credentials {
    fn lookup(&self, registry: &str) -> Option<Credential> {
        self.by_registry.get(&normal(registry)).cloned()
    }
}

/// Nobody has an account.
impl CredentialLookup for () {
    fn lookup(&self, _: &str) -> Option<Credential> {
        None
    }
}

fn auth_file(path: &Path) -> Result<Vec<(String, Credential)>, CredentialsError> {
    let unreadable = |source| CredentialsError::Read { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let kind: Kind = parse(path, &bytes)?;
    if kind.rkt_kind != "dockerAuth" {
        return Ok(Vec::new());
    }
    if kind.rkt_version != "v1" {
        let (kind, version) = (kind.rkt_kind, kind.rkt_version);
        return Err(CredentialsError::Version { path: path.to_owned(), kind, version });
    }
    let DockerAuth { registries, credentials: UserPassword { user, password } } = parse(path, &bytes)?;
    let credential = Credential { user, password };
    Ok(registries.iter().map(|registry| (normal(registry), credential.clone())).collect())
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<T, CredentialsError> {
    serde_json::from_slice(bytes).map_err(|source| CredentialsError::Parse { path: path.to_owned(), source })
}

fn decode(auth: &str) -> Option<Credential> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credential { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

/// Docker writes `https://index.docker.io/v1/` where a reference says `docker.io`.
fn normal(registry: &str) -> String {
    let bare =
        registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let host = bare.split('/').next().unwrap_or(bare);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_owned(),
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(credentials: &Credentials, registry: &str) -> Option<(String, String)> {
        credentials.lookup(registry).map(|c| (c.user, c.password))
    }

    #[test]
    fn both_formats_are_read_and_the_first_wins() {
        let dir = tempfile::tempdir().unwrap();
        let rkt = r#"{"rktKind":"dockerAuth","rktVersion":"v1","registries":["host:5000","docker.io"],
            "credentials":{"user":"a","password":"b"}}"#;
        std::fs::write(dir.path().join("one.json"), rkt).unwrap();
        let other = r#"{"rktKind":"auth","rktVersion":"v1","domains":["x"],"type":"oauth","credentials":{"token":"t"}}"#;
        std::fs::write(dir.path().join("two.json"), other).unwrap();
        std::fs::write(dir.path().join("README"), "no").unwrap();
        let config = dir.path().join("config");
        let docker = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"eDp5Onog"},"quay.io":{"auth":"eDp5Onog"},
            "helped":{}},"credsStore":"secretservice"}"#;
        std::fs::write(&config, docker).unwrap();

        let mut credentials = Credentials::new();
        credentials.add_auth_dir(dir.path()).unwrap();
        credentials.add_docker_config(&config).unwrap();
        credentials.add_auth_dir(&dir.path().join("missing")).unwrap();
        credentials.add_docker_config(&dir.path().join("missing")).unwrap();
        assert_eq!(get(&credentials, "host:5000"), Some(("a".into(), "b".into())));
        assert_eq!(get(&credentials, "docker.io"), Some(("a".into(), "b".into())));
        assert_eq!(get(&credentials, "quay.io"), Some(("x".into(), "y:z ".into())));
        assert_eq!(get(&credentials, "helped"), None);
        assert!(!format!("{credentials:?}").contains("y:z"), "a password was displayed");

        std::fs::write(dir.path().join("three.json"), rkt).unwrap();
        let error = Credentials::new().add_auth_dir(dir.path()).unwrap_err();
        assert!(matches!(error, CredentialsError::Duplicate { .. }), "{error}");
    }
}
