//! Names, passwords and tokens for registries, from the files that operators already have.
//!
//! | file | is |
//! |---|---|
//! | `auth.d/*.json` | rkt's: `rktKind` `dockerAuth` for registries, `auth` for the servers of ACIs |
//! | `config.json`, `auth.json` | docker's, podman's and skopeo's: `auths`, `credHelpers`, `credsStore` |
//!
//! The caller says which, most important first. The first that knows anything about a registry is the one that counts;
//! within one, what is said about `host/namespace/repository` comes before what is said about `host/namespace` and
//! `host`. Secrets are never displayed, not even by `Debug`, and errors do not quote what could be one.

mod docker;
mod helper;
mod rkt;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::reference::DEFAULT_REGISTRY;

pub use helper::HelperError;
use helper::Helpers;
pub use rkt::ServerAuth;

/// What a registry, or the server that makes tokens for it, is told.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// What a token can be had for, without a password (`identitytoken`).
    RefreshToken(String),
    /// A token (`registrytoken`).
    AccessToken(String),
}

/// Knows the credentials for registries.
pub trait CredentialLookup: Sync {
    /// The credentials for a repository of a registry, both as in a reference: `docker.io`, `library/nginx`.
    ///
    /// # Errors
    /// [`CredentialsError`], if there should be credentials and there is a problem with them.
    fn lookup(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialsError>;
}

/// Credentials read from files.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    sources: Vec<Source>,
    servers: BTreeMap<String, ServerAuth>,
    helpers: Helpers,
}

/// What one file, or one directory of files, knows.
#[derive(Clone, Debug, Default)]
struct Source {
    /// The file that names the helpers.
    path: PathBuf,
    known: BTreeMap<String, Credential>,
    /// Names of programs, by registry or repository.
    helpers: BTreeMap<String, String>,
    /// The name of the program that knows all others.
    store: Option<String>,
}

/// Credentials are unusable.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read credentials from {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be. What is wrong is not quoted: it may be a secret.
    #[error("{}, line {line}: these are not credentials as they should be written", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
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
    /// A helper does not help.
    #[error("cannot get the credentials for {registry:?} from docker-credential-{helper}, which {} names", path.display())]
    Helper {
        /// The file.
        path: PathBuf,
        /// The helper.
        helper: String,
        /// The registry.
        registry: String,
        /// Why not.
        source: HelperError,
    },
}

impl Credentials {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where credential helpers are looked for, instead of `PATH`, and how long they may take.
    pub fn use_helpers(&mut self, path: OsString, limit: Duration) {
        self.helpers = Helpers { path: Some(path), limit };
    }

    /// Adds one. What is already known stays.
    pub fn add(&mut self, registry: &str, credential: Credential) {
        let known = BTreeMap::from([(normal(registry), credential)]);
        self.sources.push(Source { known, ..Source::default() });
    }

    /// Adds every `*.json` of an rkt `auth.d` directory. A directory that does not exist adds nothing.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn add_auth_dir(&mut self, dir: &Path) -> Result<(), CredentialsError> {
        let (known, servers) = rkt::read_dir(dir)?;
        self.sources.push(Source { path: dir.to_owned(), known, ..Source::default() });
        for (domain, auth) in servers {
            let _ = self.servers.entry(domain).or_insert(auth);
        }
        Ok(())
    }

    /// Adds docker's `config.json` or podman's `auth.json`. A file that does not exist adds nothing.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn add_docker_config(&mut self, path: &Path) -> Result<(), CredentialsError> {
        self.sources.extend(docker::read(path)?);
        Ok(())
    }

    /// What a server of ACIs is told, by its host name (with a port where one was written).
    #[must_use]
    pub fn server(&self, domain: &str) -> Option<&ServerAuth> {
        self.servers.get(domain)
    }
}

impl CredentialLookup for Credentials {
    fn lookup(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialsError> {
        let registry = normal(registry);
        for source in &self.sources {
            let found = source.lookup(&registry, repository, &self.helpers)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Source {
    fn lookup(
        &self,
        registry: &str,
        repository: &str,
        helpers: &Helpers,
    ) -> Result<Option<Credential>, CredentialsError> {
        let mut key = format!("{registry}/{repository}");
        loop {
            if let Some(helper) = self.helpers.get(&key) {
                let found = self.ask(helpers, helper, &key)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            if let Some(known) = self.known.get(&key) {
                return Ok(Some(known.clone()));
            }
            match key.rfind('/') {
                Some(end) => key.truncate(end),
                None => break,
            }
        }
        self.store.as_ref().map_or(Ok(None), |helper| self.ask(helpers, helper, registry))
    }

    fn ask(
        &self,
        helpers: &Helpers,
        helper: &str,
        key: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        // The address that `docker login` stores its own registry under.
        let server = if key == DEFAULT_REGISTRY { "https://index.docker.io/v1/" } else { key };
        helpers.get(helper, server).map_err(|source| CredentialsError::Helper {
            path: self.path.clone(),
            helper: helper.to_owned(),
            registry: key.to_owned(),
            source,
        })
    }
}

/// Nobody has an account.
impl CredentialLookup for () {
    fn lookup(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialsError> {
        Ok(None)
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<T, CredentialsError> {
    serde_json::from_slice(bytes)
        .map_err(|error| CredentialsError::Parse { path: path.to_owned(), line: error.line() })
}

/// A registry, or a repository of one. Docker writes `https://index.docker.io/v1/` where a reference says `docker.io`.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DEFAULT_REGISTRY,
        other => other,
    };
    // The path of an address is that of the API, and says nothing.
    let path = if bare.is_some() { "" } else { path.trim_end_matches('/') };
    match path {
        "" | "v1" | "v2" => host.to_owned(),
        path => format!("{host}/{path}"),
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::RefreshToken(_) => f.write_str("RefreshToken"),
            Self::AccessToken(_) => f.write_str("AccessToken"),
        }
    }
}

#[cfg(test)]
mod tests;
