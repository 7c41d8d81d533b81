//! Getting authorized: an `Authorization` header from a challenge and the operator's credentials.
//!
//! Follows the distribution project's token authentication: a GET of the realm, with basic authentication if there is a
//! password and without if there is nothing; a POST of the refresh token if that is what there is (its "OAuth2 Token
//! Authentication"). Secrets go only over https, or over plain http on this machine.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::challenge::Challenge;
use super::error::Complaint;
use super::http::{Http, Request, shown};
use super::{RegistryError, is_loopback_url, read_bounded};
use crate::credentials::Credential;

/// The most bytes that a token's answer may have.
const MAX_TOKEN: u64 = 1 << 20;
/// How long a token is good for if its maker does not say.
const LIFE: Duration = Duration::from_secs(60);

/// What to send, and until when.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: String,
    pub(super) challenge: Challenge,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// What a token is asked for.
struct Ask<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: &'a str,
}

impl Authorization {
    /// Whether it is not worth trying any more.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

/// An answer to the challenge, or nothing if it wants credentials and there are none. `plain` says that the registry
/// itself is spoken to without TLS.
pub(super) fn authorize(
    http: &Http,
    challenge: &Challenge,
    credential: Option<&Credential>,
    repository: &str,
    plain: bool,
) -> Result<Option<Authorization>, RegistryError> {
    let Challenge::Bearer { realm, service, scope } = challenge else {
        let header = credential.and_then(basic);
        return Ok(header.map(|header| Authorization { header, challenge: challenge.clone(), until: None }));
    };
    if !(realm.starts_with("https://") || (plain && realm.starts_with("http://"))) {
        return Err(RegistryError::Realm { realm: shown(realm) });
    }
    let credential = credential.filter(|_| realm.starts_with("https://") || is_loopback_url(realm));
    let own = format!("repository:{repository}:pull");
    let ask = Ask { realm, service: service.as_deref(), scope: scope.as_deref().unwrap_or(&own) };
    let (token, life) = match credential {
        Some(Credential::AccessToken(token)) => (Some(token.clone()), None),
        Some(Credential::RefreshToken(token)) => ask.post(http, token)?,
        Some(password @ Credential::Password { .. }) => ask.get(http, basic(password).as_deref())?,
        None => ask.get(http, None)?,
    };
    // A little early: the registry's clock and the way there count, too.
    let until = life.map(|life| Instant::now() + life * 9 / 10);
    Ok(token.map(|token| Authorization {
        header: format!("Bearer {token}"),
        challenge: challenge.clone(),
        until,
    }))
}

fn basic(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Password { user, password } => {
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Credential::RefreshToken(_) | Credential::AccessToken(_) => None,
    }
}

type Token = (Option<String>, Option<Duration>);

impl Ask<'_> {
    fn get(&self, http: &Http, authorization: Option<&str>) -> Result<Token, RegistryError> {
        let separator = if self.realm.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}{}", self.realm, form(&self.fields()));
        let hint = match authorization {
            Some(_) => "the configured credentials do not suffice",
            None => "the image does not exist, or needs credentials, and none are configured",
        };
        self.read(http, Request { url: &url, authorization, ..Request::default() }, hint)
    }

    fn post(&self, http: &Http, refresh_token: &str) -> Result<Token, RegistryError> {
        let mut fields = self.fields();
        fields.extend([
            ("grant_type", "refresh_token"),
            ("client_id", "rkt"),
            ("refresh_token", refresh_token),
        ]);
        let hint = "the configured identity token does not suffice, or has run out: log in again";
        let form = form(&fields);
        self.read(http, Request { url: self.realm, form: Some(&form), ..Request::default() }, hint)
    }

    fn fields(&self) -> Vec<(&str, &str)> {
        // Several scopes are several fields.
        let scopes = self.scope.split(' ').filter(|scope| !scope.is_empty());
        self.service
            .map(|service| ("service", service))
            .into_iter()
            .chain(scopes.map(|s| ("scope", s)))
            .collect()
    }

    fn read(&self, http: &Http, request: Request<'_>, hint: &'static str) -> Result<Token, RegistryError> {
        let mut answer = http.get(request)?;
        let realm = shown(self.realm);
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            return Err(RegistryError::Token { realm, status, hint, says: Complaint::of(answer) });
        }
        let bytes = read_bounded(self.realm, &mut answer, MAX_TOKEN)?;
        // What is wrong with it is not told: it may be half a token.
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|_| RegistryError::TokenAnswer { realm })?;
        let life = answer.expires_in.filter(|seconds| *seconds > 0).map_or(LIFE, Duration::from_secs);
        // Tokens for a thousand years are no reason for arithmetic to overflow.
        let life = life.min(Duration::from_secs(24 * 3600));
        Ok((answer.token.or(answer.access_token).filter(|token| !token.is_empty()), Some(life)))
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(key, value)| format!("{key}={}", percent_encode(value))).collect();
    pairs.join("&")
}

fn percent_encode(text: &str) -> String {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/');
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_runs_out() {
        let now = Instant::now();
        let until = |until| Authorization { header: String::new(), challenge: Challenge::Basic, until };
        assert!(!until(None).is_stale(now));
        assert!(!until(Some(now + Duration::from_secs(1))).is_stale(now));
        assert!(until(Some(now)).is_stale(now));
    }

    #[test]
    fn each_scope_is_a_field() {
        let ask =
            Ask { realm: "r", service: Some("the s"), scope: "repository:a:pull repository:b:pull,push" };
        let expected = "service=the%20s&scope=repository:a:pull&scope=repository:b:pull%2Cpush";
        assert_eq!(form(&ask.fields()), expected);
    }
}
