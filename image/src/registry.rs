//! Images from a registry, by the OCI distribution specification v1.
//!
//! Reads only: manifests by tag or digest, blobs by digest. Authentication is basic or by token, anonymous if there
//! are no credentials. Plain http is spoken to loopback addresses and where the caller allows it, never by default to
//! others. Downloads that break are continued where they broke ([`download`]), requests that fail for a passing
//! reason are repeated ([`http`]).

mod challenge;
mod download;
mod http;
mod token;

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use oci_spec::image::Descriptor;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::credentials::{Credential, CredentialLookup};
use crate::digest::Digest;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, MAX_DOCUMENT};
use crate::reference::Reference;
use crate::source::{Raw, Source, SourceError};

use challenge::Challenge;
use download::Download;
use http::{Http, Request};

pub use http::HttpError;

/// How a registry may be spoken to.
#[derive(Clone, Copy)]
pub struct RegistryOptions<'a> {
    /// Plain http is acceptable if https does not work. Loopback addresses need no permission.
    pub allow_http: bool,
    /// Where names and passwords come from.
    pub credentials: &'a dyn CredentialLookup,
}

/// One repository of one registry, ready to be read.
#[derive(Debug)]
pub struct Registry {
    http: Http,
    /// Scheme, host and port.
    base: String,
    reference: Reference,
    credential: Option<Credential>,
    /// The current `Authorization` header.
    authorization: Mutex<Option<String>>,
}

/// A registry does not deliver.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The registry has no such image.
    #[error("{reference}: the registry has no such image")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// The registry has the manifest but not the blob.
    #[error("{reference}: the registry lacks {digest}, which the image needs")]
    BlobNotFound {
        /// The image.
        reference: String,
        /// What it lacks.
        digest: String,
    },
    /// Not without credentials, or not with these.
    #[error("{reference}: the registry refuses access (HTTP {status}){hint}")]
    Denied {
        /// What was asked for.
        reference: String,
        /// 401 or 403.
        status: u16,
        /// What to do about it.
        hint: &'static str,
    },
    /// Any other answer.
    #[error("{url}: unexpected answer, HTTP {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The realm of a challenge would send a password in the open.
    #[error("the registry wants a token from {realm:?}, which is not an https address")]
    Realm {
        /// The realm.
        realm: String,
    },
    /// The token server refuses.
    #[error("{realm} refuses a token (HTTP {status})")]
    Token {
        /// The token server.
        realm: String,
        /// The status code.
        status: u16,
    },
    /// The token server answers something else.
    #[error("{realm} does not answer with a token")]
    TokenAnswer {
        /// The token server.
        realm: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The connection broke within an answer.
    #[error("{url}: the answer broke off")]
    Read {
        /// What was asked for.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// An answer without end.
    #[error("{url}: the answer has more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The manifest is not the one that the digest names.
    #[error("{reference}: the manifest is corrupt: its digest is {found}, not {expected}")]
    Mismatch {
        /// What was asked for.
        reference: String,
        /// The digest of the reference, or the one that the registry announced.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A blob whose length differs from the manifest's word.
    #[error("{reference}: {digest} has {found} bytes in the registry, the manifest says {expected}")]
    BlobSize {
        /// The image.
        reference: String,
        /// The blob.
        digest: String,
        /// In the manifest.
        expected: u64,
        /// In the registry.
        found: u64,
    },
}

impl Registry {
    /// Finds out how the registry wants to be spoken to, and gets authorized.
    ///
    /// # Errors
    /// If nobody answers, or access is refused.
    pub fn connect(reference: &Reference, options: &RegistryOptions<'_>) -> Result<Self, RegistryError> {
        let http = Http::new(is_loopback(reference.api_host()));
        let (base, answer) = greet(&http, reference.api_host(), options.allow_http)?;
        let credential = options.credentials.lookup(reference.registry());
        let registry =
            Self { http, base, reference: reference.clone(), credential, authorization: Mutex::new(None) };
        if answer.status() == StatusCode::UNAUTHORIZED {
            // If that brings nothing, the repository may still be open to everybody: asking it tells.
            let _ = registry.answer_challenge(&answer)?;
        }
        Ok(registry)
    }

    /// Asks with the current authorization; if that has run out, gets a new one and asks once more.
    fn get(&self, request: Request<'_>) -> Result<Response<Body>, RegistryError> {
        for _ in 0..2 {
            let authorization = self.authorization();
            let answer = self.http.get(Request { authorization: authorization.as_deref(), ..request })?;
            if answer.status() != StatusCode::UNAUTHORIZED || !self.answer_challenge(&answer)? {
                return self.judge(request.url, answer);
            }
        }
        let authorization = self.authorization();
        let answer = self.http.get(Request { authorization: authorization.as_deref(), ..request })?;
        self.judge(request.url, answer)
    }

    fn authorization(&self) -> Option<String> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is now an authorization that is worth trying.
    fn answer_challenge(&self, answer: &Response<Body>) -> Result<bool, RegistryError> {
        let headers = answer.headers().get_all("www-authenticate").iter();
        let text: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
        let Some(challenge) = challenge::parse(&text.join(", ")) else { return Ok(false) };
        let plain = self.base.starts_with("http://");
        let repository = self.reference.repository();
        // The scope that a greeting mentions is not that of the repository.
        let challenge = match challenge {
            Challenge::Bearer { realm, service, scope } => {
                Challenge::Bearer { realm, service, scope: scope.filter(|scope| scope.contains(repository)) }
            }
            Challenge::Basic => Challenge::Basic,
        };
        let fresh = token::authorize(&self.http, &challenge, self.credential.as_ref(), repository, plain)?;
        let worthwhile = fresh.is_some();
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(worthwhile)
    }

    fn judge(&self, url: &str, answer: Response<Body>) -> Result<Response<Body>, RegistryError> {
        let reference = self.reference.to_string();
        match answer.status().as_u16() {
            200 | 206 => Ok(answer),
            404 => Err(RegistryError::NotFound { reference }),
            status @ (401 | 403) => {
                let hint = match self.credential {
                    Some(_) => ": the configured credentials do not suffice",
                    None => ": the image does not exist, or needs credentials, and none are configured",
                };
                Err(RegistryError::Denied { reference, status, hint })
            }
            status => Err(RegistryError::Status { url: url.to_owned(), status }),
        }
    }

    fn url(&self, kind: &str, name: &str) -> String {
        format!("{}/v2/{}/{kind}/{name}", self.base, self.reference.repository())
    }

    /// A manifest or index, and the digest that the registry announces for it.
    fn manifest(&self, name: &str) -> Result<(Raw, Option<Digest>), RegistryError> {
        let accept = format!(
            "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, {DOCKER_LIST}, {DOCKER_MANIFEST}"
        );
        let url = self.url("manifests", name);
        let mut answer = self.get(Request { url: &url, accept: Some(&accept), ..Request::default() })?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let media_type =
            header("content-type").map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        let announced = header("docker-content-digest").and_then(|text| text.parse().ok());
        let bytes = read_bounded(&url, &mut answer, MAX_DOCUMENT)?;
        Ok((Raw { bytes, media_type }, announced))
    }
}

impl Source for Registry {
    fn root(&self) -> Result<Raw, SourceError> {
        let (name, digest) = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => (digest.to_string(), Some(digest)),
            (None, tag) => (tag.unwrap_or("latest").to_owned(), None),
        };
        let (raw, announced) = self.manifest(&name)?;
        let digest_of_same = |expected: Digest| expected.algorithm().digest(&raw.bytes);
        let differs = |expected: &Digest| *expected != digest_of_same(*expected);
        match [digest, announced].into_iter().flatten().find(differs) {
            Some(expected) => {
                let found = digest_of_same(expected);
                let reference = self.reference.to_string();
                Err(RegistryError::Mismatch { reference, expected, found }.into())
            }
            None => Ok(raw),
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Raw, SourceError> {
        Ok(self.manifest(descriptor.digest().as_ref())?.0)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let url = self.url("blobs", descriptor.digest().as_ref());
        match Download::start(self, url, descriptor.size()) {
            Ok(download) => Ok(Box::new(download)),
            Err(RegistryError::NotFound { reference }) => {
                let digest = descriptor.digest().to_string();
                Err(RegistryError::BlobNotFound { reference, digest }.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Finds the scheme: https, except that loopback addresses are first tried without.
fn greet(http: &Http, host: &str, allow_http: bool) -> Result<(String, Response<Body>), RegistryError> {
    let ask = |scheme: &str| {
        let base = format!("{scheme}://{host}");
        let url = format!("{base}/v2/");
        http.get(Request { url: &url, ..Request::default() }).map(|answer| (base, answer))
    };
    if is_loopback(host) {
        return match ask("http") {
            // What Go's servers say to plain http on a port for TLS.
            Ok((_, answer)) if answer.status() == StatusCode::BAD_REQUEST => Ok(ask("https")?),
            other => Ok(other?),
        };
    }
    match ask("https") {
        Err(_) if allow_http => Ok(ask("http")?),
        other => Ok(other?),
    }
}

/// Whether the host, which may have a port, is this machine by its very name.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Reads an answer of at most `limit` bytes.
fn read_bounded(url: &str, answer: &mut Response<Body>, limit: u64) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let broke = |source| RegistryError::Read { url: url.to_owned(), source };
    let length = answer.body_mut().as_reader().take(limit + 1).read_to_end(&mut bytes).map_err(broke)?;
    if length as u64 > limit {
        Err(RegistryError::TooLarge { url: url.to_owned(), limit })
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["localhost.evil.com", "127.0.0.1.evil.com:80", "128.0.0.1", "[::2]:5000", "example.com", ""]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
