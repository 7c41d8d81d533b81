//! Docker's `config.json`, which is also podman's and skopeo's `auth.json`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Credential, CredentialsError, Source, normal, parse};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What the file knows, if it exists.
pub(super) fn read(path: &Path) -> Result<Option<Source>, CredentialsError> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?,
    };
    let config: Config = parse(path, &bytes)?;
    let mut known = BTreeMap::new();
    for (registry, entry) in config.auths {
        let bad = || CredentialsError::Encoding { path: path.to_owned(), registry: registry.clone() };
        if let Some(credential) = entry.credential().ok_or_else(bad)? {
            let _ = known.insert(normal(&registry), credential);
        }
    }
    Ok(Some(Source {
        path: path.to_owned(),
        known,
        helpers: config.cred_helpers.iter().map(|(key, name)| (normal(key), name.clone())).collect(),
        store: config.creds_store.filter(|name| !name.is_empty()),
    }))
}

impl Entry {
    /// Nothing if the secret is elsewhere, with a helper; `None` if it is not what it should be.
    #[expect(clippy::option_option, reason = "a result whose error its caller knows")]
    fn credential(self) -> Option<Option<Credential>> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = filled(self.identitytoken) {
            return Some(Some(Credential::RefreshToken(token)));
        }
        if let Some(token) = filled(self.registrytoken) {
            return Some(Some(Credential::AccessToken(token)));
        }
        match (filled(self.auth), self.username, self.password) {
            (Some(auth), ..) => decode(&auth).map(Some),
            (None, Some(user), Some(password)) => Some(Some(Credential::Password { user, password })),
            _ => Some(None),
        }
    }
}

fn decode(auth: &str) -> Option<Credential> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credential::Password { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}
