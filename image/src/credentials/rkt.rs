//! rkt's `auth.d`: one file for some registries (`dockerAuth`), or for some servers of ACIs (`auth`).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Credential, CredentialsError, normal, parse};

/// What a server of ACIs is told.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerAuth {
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    OAuth {
        /// The token.
        token: String,
    },
    /// A signature of version 4 of Amazon's scheme.
    Aws {
        /// Whose key.
        access_key_id: String,
        /// The key.
        secret_access_key: String,
        /// Where; found out from the host name if it is not said.
        region: Option<String>,
    },
}

type Registries = BTreeMap<String, Credential>;
type Servers = BTreeMap<String, ServerAuth>;

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
struct Auth {
    domains: Vec<String>,
    #[serde(flatten)]
    kind: AuthType,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "credentials", rename_all = "lowercase")]
enum AuthType {
    Basic(UserPassword),
    OAuth {
        #[serde(deserialize_with = "line")]
        token: String,
    },
    Aws {
        #[serde(rename = "accessKeyID")]
        access_key_id: String,
        #[serde(rename = "secretAccessKey")]
        secret_access_key: String,
        #[serde(rename = "awsRegion")]
        region: Option<String>,
    },
}

/// What goes into a header as it is.
fn line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.contains(char::is_control) { Err(D::Error::custom("it is not one line")) } else { Ok(text) }
}

/// What the `*.json` of a directory say. Within one directory nothing may be said twice.
pub(super) fn read_dir(dir: &Path) -> Result<(Registries, Servers), CredentialsError> {
    let (mut registries, mut servers) = (Registries::new(), Servers::new());
    for path in files(dir)? {
        let twice = |registry| CredentialsError::Duplicate { path: path.clone(), registry };
        let (some_registries, some_servers) = read(&path)?;
        for (registry, credential) in some_registries {
            if registries.insert(registry.clone(), credential).is_some() {
                return Err(twice(registry));
            }
        }
        for (domain, auth) in some_servers {
            if servers.insert(domain.clone(), auth).is_some() {
                return Err(twice(domain));
            }
        }
    }
    Ok((registries, servers))
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, CredentialsError> {
    let unreadable = |source| CredentialsError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(unreadable)?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json") && path.is_file());
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<(Registries, Servers), CredentialsError> {
    let bytes =
        std::fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
    let kind: Kind = parse(path, &bytes)?;
    if !matches!(kind.rkt_kind.as_str(), "dockerAuth" | "auth") {
        return Ok(Default::default());
    }
    if kind.rkt_version != "v1" {
        let (kind, version) = (kind.rkt_kind, kind.rkt_version);
        return Err(CredentialsError::Version { path: path.to_owned(), kind, version });
    }
    if kind.rkt_kind == "auth" {
        let Auth { domains, kind } = parse(path, &bytes)?;
        let auth = ServerAuth::from(kind);
        return Ok((Registries::new(), domains.into_iter().map(|domain| (domain, auth.clone())).collect()));
    }
    let DockerAuth { registries, credentials: UserPassword { user, password } } = parse(path, &bytes)?;
    let credential = Credential::Password { user, password };
    let known = registries.iter().map(|registry| (normal(registry), credential.clone())).collect();
    Ok((known, Servers::new()))
}

impl From<AuthType> for ServerAuth {
    fn from(kind: AuthType) -> Self {
        match kind {
            AuthType::Basic(UserPassword { user, password }) => Self::Basic { user, password },
            AuthType::OAuth { token } => Self::OAuth { token },
            AuthType::Aws { access_key_id, secret_access_key, region } => {
                Self::Aws { access_key_id, secret_access_key, region: region.filter(|r| !r.is_empty()) }
            }
        }
    }
}

impl ServerAuth {
    /// The value for `Authorization`, except where every request needs a signature of its own.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        match self {
            Self::Basic { user, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::OAuth { token } => Some(format!("Bearer {token}")),
            Self::Aws { .. } => None,
        }
    }
}

/// Without secrets.
impl fmt::Debug for ServerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::OAuth { .. } => "OAuth",
            Self::Aws { .. } => "Aws",
        })
    }
}
