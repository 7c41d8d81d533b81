//! One repository of one registry, ready to be read: who it is, how it wants to be spoken to, and what it is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::challenge::{self, Challenge};
use super::error::Complaint;
use super::http::{Http, HttpError, Leniency, Request, header, is_busy, shown};
use super::retry::Waits;
use super::token::{self, Authorization};
use super::{RegistryError, RegistryOptions, is_loopback, is_loopback_url, read_bounded};
use crate::credentials::{Credential, CredentialsError};
use crate::digest::Digest;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, MAX_DOCUMENT};
use crate::reference::Reference;
use crate::registries_conf::Endpoint;
use crate::source::Raw;

/// How often a request is made anew because the registry wants another authorization.
const CHALLENGES: u32 = 2;

/// See the module.
pub(super) struct Connection {
    pub(super) http: Http,
    /// Scheme, host and port.
    base: String,
    pub(super) reference: Reference,
    /// What the operator has for it. That there is a problem only matters if the registry asks.
    credential: Result<Option<Credential>, Arc<CredentialsError>>,
    /// Held while a new one is being got: the other threads wait for it instead of getting their own.
    authorization: Mutex<Option<Authorization>>,
    /// Whether what answered may be something else than a registry.
    doubtful: bool,
}

impl Connection {
    /// Finds out how the registry wants to be spoken to, and gets authorized.
    pub(super) fn new(endpoint: &Endpoint, options: &RegistryOptions<'_>) -> Result<Self, RegistryError> {
        let reference = endpoint.reference.clone();
        let allow_http = options.allow_http || endpoint.insecure;
        let lenient = Leniency {
            http: allow_http,
            certificates: !options.verify_tls,
            certificates_of: endpoint.insecure.then(|| host_name(reference.api_host())),
        };
        let http = Http::new(options.config, options.patience, lenient);
        let (base, answer) = greet(&http, reference.api_host(), allow_http)?;
        let credential =
            options.credentials.lookup(reference.registry(), reference.repository()).map_err(Arc::new);
        let challenged = answer.status() == StatusCode::UNAUTHORIZED;
        let doubtful = !challenged && !answer.status().is_success();
        let authorization = Mutex::new(None);
        let connection = Self { http, base, reference, credential, authorization, doubtful };
        if challenged {
            // If that brings nothing, the repository may still be open to everybody: asking it tells.
            let _ = connection.answer_challenge(None, &answer)?;
        }
        Ok(connection)
    }

    /// The registry as it is written in references.
    pub(super) fn host(&self) -> String {
        self.reference.registry().to_owned()
    }

    pub(super) fn url(&self, kind: &str, name: &str) -> String {
        format!("{}/v2/{}/{kind}/{name}", self.base, self.reference.repository())
    }

    /// Asks with the current authorization; if the registry wants another, gets it and asks once more.
    pub(super) fn get(
        &self,
        request: Request<'_>,
        waits: &mut Waits,
    ) -> Result<Response<Body>, RegistryError> {
        for _ in 0..CHALLENGES {
            let authorization = self.current()?;
            let answer =
                self.http.get_with(Request { authorization: authorization.as_deref(), ..request }, waits)?;
            if answer.status() != StatusCode::UNAUTHORIZED
                || !self.answer_challenge(authorization.as_deref(), &answer)?
            {
                return self.judge(request.url, answer);
            }
        }
        let authorization = self.current()?;
        let answer =
            self.http.get_with(Request { authorization: authorization.as_deref(), ..request }, waits)?;
        self.judge(request.url, answer)
    }

    /// The header to send. A token that has run out is replaced before the registry refuses it.
    fn current(&self) -> Result<Option<String>, RegistryError> {
        let mut authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = authorization.as_ref().filter(|old| old.is_stale(Instant::now())) {
            let challenge = old.challenge.clone();
            *authorization = self.authorize(&challenge)?;
        }
        Ok(authorization.as_ref().map(|current| current.header.clone()))
    }

    /// Whether there is now an authorization that is worth trying, other than the one that was `used`.
    fn answer_challenge(&self, used: Option<&str>, answer: &Response<Body>) -> Result<bool, RegistryError> {
        let headers = answer.headers().get_all("www-authenticate").iter();
        let text: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
        let Some(challenge) = challenge::parse(&text.join(", ")) else { return Ok(false) };
        let mut authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        if authorization.as_ref().is_some_and(|current| Some(current.header.as_str()) != used) {
            // Another thread was faster.
            return Ok(true);
        }
        let repository = self.reference.repository();
        // The scope that a greeting mentions is not that of the repository.
        let challenge = match challenge {
            Challenge::Bearer { realm, service, scope } => {
                Challenge::Bearer { realm, service, scope: scope.filter(|scope| scope.contains(repository)) }
            }
            Challenge::Basic => Challenge::Basic,
        };
        *authorization = self.authorize(&challenge)?;
        Ok(authorization.as_ref().is_some_and(|fresh| Some(fresh.header.as_str()) != used))
    }

    fn authorize(&self, challenge: &Challenge) -> Result<Option<Authorization>, RegistryError> {
        let credential = match &self.credential {
            Ok(credential) => credential.as_ref().filter(|_| self.is_confidential()),
            Err(error) => return Err(RegistryError::Credentials(Arc::clone(error))),
        };
        let plain = self.base.starts_with("http://");
        token::authorize(&self.http, challenge, credential, self.reference.repository(), plain)
    }

    /// Whether nobody on the way can read what is sent.
    fn is_confidential(&self) -> bool {
        self.base.starts_with("https://") || is_loopback_url(&self.base)
    }

    fn judge(&self, url: &str, answer: Response<Body>) -> Result<Response<Body>, RegistryError> {
        let host = self.host();
        match answer.status().as_u16() {
            200 | 206 => Ok(answer),
            404 if self.doubtful => {
                let url = format!("{}/v2/", self.base);
                Err(RegistryError::NotARegistry { host, url, what: "not the API of one" })
            }
            404 => Err(RegistryError::NotFound { host, says: Complaint::of(answer) }),
            status @ (401 | 403) => {
                Err(RegistryError::Denied { host, status, hint: self.hint(), says: Complaint::of(answer) })
            }
            status if is_busy(answer.status()) => {
                Err(RegistryError::Busy { host, status, says: Complaint::of(answer) })
            }
            status => Err(RegistryError::Status { url: shown(url), status, says: Complaint::of(answer) }),
        }
    }

    fn hint(&self) -> &'static str {
        match &self.credential {
            Ok(Some(_)) if !self.is_confidential() => "needs credentials, which are not sent over plain http",
            Ok(Some(_)) => "the configured credentials do not suffice",
            _ => "needs credentials, and none are configured",
        }
    }

    /// A manifest or index by tag or digest, and the digest that the registry announces for it.
    pub(super) fn manifest(&self, name: &str) -> Result<(Raw, Option<Digest>), RegistryError> {
        let accept = format!(
            "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, {DOCKER_LIST}, {DOCKER_MANIFEST}"
        );
        let url = self.url("manifests", name);
        let request = Request { url: &url, accept: Some(&accept), ..Request::default() };
        let mut answer = self.get(request, &mut Waits::new(self.http.patience()))?;
        let media_type = header(&answer, "content-type")
            .map(|text| text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase());
        let announced = header(&answer, "docker-content-digest").and_then(|text| text.parse().ok());
        let bytes = read_bounded(&url, &mut answer, MAX_DOCUMENT)?;
        let html = media_type.as_deref() == Some("text/html");
        if html || bytes.trim_ascii_start().starts_with(b"<") {
            let (host, url) = (self.host(), shown(&url));
            return Err(RegistryError::NotARegistry { host, url, what: "a web page and no manifest" });
        }
        Ok((Raw { bytes, media_type }, announced))
    }
}

/// Finds the scheme: https, except that loopback addresses are first tried without.
fn greet(http: &Http, host: &str, allow_http: bool) -> Result<(String, Response<Body>), HttpError> {
    let ask = |scheme: &str| {
        let base = format!("{scheme}://{host}");
        let url = format!("{base}/v2/");
        http.get(Request { url: &url, ..Request::default() }).map(|answer| (base, answer))
    };
    if is_loopback(host) {
        return match ask("http") {
            // What servers say to plain http on a port for TLS.
            Ok((_, answer)) if answer.status() == StatusCode::BAD_REQUEST => ask("https"),
            other => other,
        };
    }
    match ask("https") {
        Err(_) if allow_http => ask("http"),
        other => other,
    }
}

/// Without the port.
fn host_name(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}
