//! Getting authorized: an `Authorization` header from a challenge and the operator's credentials.
//!
//! Follows the distribution project's token authentication: a GET of the realm, with basic authentication if there
//! are credentials and without if there are none. Passwords go only over https, or where the operator allowed plain
//! http for the registry itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::challenge::Challenge;
use super::http::{Http, Request};
use super::{RegistryError, read_bounded};
use crate::credentials::Credential;

/// The most bytes that a token's answer may have.
const MAX_TOKEN: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The value for `Authorization`, or nothing if the challenge wants credentials and there are none.
pub(super) fn authorize(
    http: &Http,
    challenge: &Challenge,
    credential: Option<&Credential>,
    repository: &str,
    plain: bool,
) -> Result<Option<String>, RegistryError> {
    let basic =
        credential.map(|c| format!("Basic {}", STANDARD.encode(format!("{}:{}", c.user, c.password))));
    let Challenge::Bearer { realm, service, scope } = challenge else {
        return Ok(basic);
    };
    let safe = realm.starts_with("https://") || (plain && realm.starts_with("http://"));
    if !safe {
        return Err(RegistryError::Realm { realm: realm.clone() });
    }
    let own = format!("repository:{repository}:pull");
    let mut url = realm.clone();
    let mut separator = if realm.contains('?') { '&' } else { '?' };
    let fields = [("service", service.as_deref()), ("scope", Some(scope.as_deref().unwrap_or(&own)))];
    for (key, value) in fields.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
        url.push_str(&format!("{separator}{key}={}", percent_encode(value)));
        separator = '&';
    }
    let request = Request { url: &url, authorization: basic.as_deref(), ..Request::default() };
    let mut answer = http.get(request)?;
    if !answer.status().is_success() {
        return Err(RegistryError::Token { realm: realm.clone(), status: answer.status().as_u16() });
    }
    let bytes = read_bounded(&url, &mut answer, MAX_TOKEN)?;
    let json = |source| RegistryError::TokenAnswer { realm: realm.clone(), source };
    let answer: Answer = serde_json::from_slice(&bytes).map_err(json)?;
    Ok(answer.token.or(answer.access_token).map(|token| format!("Bearer {token}")))
}

fn percent_encode(text: &str) -> String {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/');
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
