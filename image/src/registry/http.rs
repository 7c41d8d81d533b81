//! Requests: redirects, retries, timeouts, and what may be sent where.
//!
//! Invariants: `Authorization` goes only to the scheme, host and port it was meant for; a redirect never leads from
//! https to http, nor to http elsewhere than on this machine if plain http was not allowed; nothing waits for ever.
//! What is displayed of an address has no query: signed addresses are passwords.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Timeout};

use super::retry::{Waits, retry_after};
use super::{Patience, RegistryConfig, is_loopback};
use crate::certs::CertificatesError;

const MAX_REDIRECTS: u32 = 5;
/// The certificates that the host's administrator trusts, where distributions keep them.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What is not as it should be by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leniency {
    /// Plain http is acceptable elsewhere than on this machine.
    pub(crate) http: bool,
    /// Nobody's certificate is looked at.
    pub(crate) certificates: bool,
    /// Nor is that of this host, whatever the port.
    pub(crate) certificates_of: Option<String>,
}

/// A client with connections that are kept for the next request.
#[derive(Debug)]
pub(crate) struct Http {
    config: RegistryConfig,
    patience: Patience,
    lenient: Leniency,
    /// By scheme, host and port, because certificates and proxies are.
    agents: Mutex<BTreeMap<Origin, Agent>>,
    /// Somebody answered. From then on, nobody listening is a state that passes.
    reached: AtomicBool,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request<'a> {
    pub(crate) url: &'a str,
    pub(crate) accept: Option<&'a str>,
    pub(crate) authorization: Option<&'a str>,
    /// Skip this many bytes.
    pub(crate) from: u64,
    /// Further headers.
    pub(crate) more: &'a [(&'a str, &'a str)],
    /// A form to POST. Such a request follows no redirect.
    pub(crate) form: Option<&'a str>,
}

/// Scheme, host and port: who gets to see a password.
type Origin = (String, String, u16);

/// A request that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody answered, or not in HTTP.
    #[error("cannot reach {url}")]
    Request {
        /// What was asked for.
        url: String,
        /// Whether it may be otherwise the next time.
        passing: bool,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No connection in time.
    #[error("cannot reach {url}: no connection within {} seconds", after.as_secs_f32())]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// A connection, and then nothing.
    #[error("{url} stalls: a connection was made, and then nothing came for {} seconds", after.as_secs_f32())]
    Stalled {
        /// What was asked for.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// A redirect to nowhere, in circles, or to where it may not lead.
    #[error("{url} redirects to {target:?}, which is not followed: {why}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where it was to go.
        target: String,
        /// Why not.
        why: &'static str,
    },
    /// The certificates for the host cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
}

impl Http {
    pub(crate) fn new(config: &RegistryConfig, patience: Patience, lenient: Leniency) -> Self {
        let (agents, reached) = (Mutex::default(), AtomicBool::new(false));
        Self { config: config.clone(), patience, lenient, agents, reached }
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Asks, follows redirects, and asks again after failures that pass by themselves.
    pub(crate) fn get(&self, request: Request<'_>) -> Result<Response<Body>, HttpError> {
        self.get_with(request, &mut Waits::new(&self.patience))
    }

    /// The same, with the pauses that are left.
    pub(super) fn get_with(
        &self,
        request: Request<'_>,
        waits: &mut Waits,
    ) -> Result<Response<Body>, HttpError> {
        loop {
            let outcome = self.follow(request);
            let asked = match &outcome {
                Ok(answer) if is_busy(answer.status()) => {
                    header(answer, RETRY_AFTER.as_str()).and_then(|text| retry_after(text, Timestamp::now()))
                }
                Err(error) if error.is_passing() => None,
                _ => return outcome,
            };
            match waits.next(asked) {
                Some(pause) => std::thread::sleep(pause),
                None => return outcome,
            }
        }
    }

    /// Asks once, without redirects or retries.
    fn once(&self, request: Request<'_>) -> Result<Response<Body>, HttpError> {
        let agent = self.agent(request.url)?;
        let outcome = match request.form {
            Some(form) => {
                agent.post(request.url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").send(form)
            }
            None => {
                let mut call = agent.get(request.url);
                if let Some(accept) = request.accept {
                    call = call.header(ACCEPT, accept);
                }
                if let Some(authorization) = request.authorization {
                    call = call.header(AUTHORIZATION, authorization);
                }
                if request.from > 0 {
                    call = call.header(RANGE, format!("bytes={}-", request.from));
                }
                for (name, value) in request.more {
                    call = call.header(*name, *value);
                }
                call.call()
            }
        };
        match outcome {
            Ok(answer) => {
                self.reached.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(self.failed(request.url, error)),
        }
    }

    fn follow(&self, request: Request<'_>) -> Result<Response<Body>, HttpError> {
        let mut url = request.url.to_owned();
        let mut authorization = request.authorization;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(Request { url: &url, authorization, ..request })?;
            let redirected = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let target = answer.headers().get(LOCATION).filter(|_| redirected && request.form.is_none());
            let Some(target) = target else { return Ok(answer) };
            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
            let next = self.next(&url, &target).map_err(|why| HttpError::Redirect {
                url: shown(request.url),
                target: shown(&target),
                why,
            })?;
            if origin(&next) != origin(&url) {
                authorization = None;
            }
            url = next;
        }
        let why = "there were too many redirects";
        Err(HttpError::Redirect { url: shown(request.url), target: shown(&url), why })
    }

    /// Where a redirect leads, if it may.
    fn next(&self, url: &str, target: &str) -> Result<String, &'static str> {
        let next = join(url, target).ok_or("it is not an http address")?;
        let (_, host, _) = origin(&next).ok_or("it is not an http address")?;
        if next.starts_with("https:") {
            Ok(next)
        } else if url.starts_with("https:") {
            Err("it would leave https")
        } else if is_loopback(&host) || self.lenient.http {
            Ok(next)
        } else {
            Err("it would use plain http")
        }
    }

    fn agent(&self, url: &str) -> Result<Agent, HttpError> {
        let Some(key) = origin(url) else {
            let source = "this is not an http address".into();
            return Err(HttpError::Request { url: shown(url), passing: false, source });
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = self.build(&key)?;
        let _ = agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn build(&self, (scheme, host, port): &Origin) -> Result<Agent, HttpError> {
        let config = Agent::config_builder()
            .proxy(self.config.proxies.choose(scheme, host, *port))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(self.patience.connect))
            .timeout_recv_response(Some(self.patience.idle * 2))
            .timeout_per_read(Some(self.patience.idle))
            .timeout_per_write(Some(self.patience.idle))
            .input_buffer_size(256 << 10)
            .user_agent(concat!("rkt/", env!("CARGO_PKG_VERSION")));
        if scheme != "https" {
            return Ok(config.build().into());
        }
        let name = if *port == 443 { host.clone() } else { format!("{host}:{port}") };
        let own = self.config.certificates.of(&name)?;
        let lenient = self.lenient.certificates || self.lenient.certificates_of.as_ref() == Some(host);
        let tls = TlsConfig::builder()
            .root_certs(root_certificates(&own.roots))
            .client_cert(own.client)
            .disable_verification(lenient);
        Ok(config.tls_config(tls.build()).build().into())
    }

    fn failed(&self, url: &str, error: ureq::Error) -> HttpError {
        let url = shown(url);
        match error {
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                HttpError::Unreachable { url, after: self.patience.connect }
            }
            ureq::Error::Timeout(_) => HttpError::Stalled { url, after: self.patience.idle },
            ureq::Error::Io(error) if is_stall(&error) => {
                HttpError::Stalled { url, after: self.patience.idle }
            }
            ureq::Error::Io(error) => {
                let passing = is_passing(error.kind(), self.reached.load(Ordering::Relaxed));
                HttpError::Request { url, passing, source: error.into() }
            }
            other => HttpError::Request { url, passing: false, source: other.into() },
        }
    }
}

impl HttpError {
    /// Whether it may be otherwise the next time. A server that stalls is not asked again: whoever waits has waited
    /// long enough to be told.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Request { passing: true, .. })
    }
}

/// Failures of the network that another attempt may not meet. Nobody listening is one of them only where somebody did:
/// waiting helps nobody who mistyped an address.
fn is_passing(kind: io::ErrorKind, reached: bool) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, UnexpectedEof,
    };
    match kind {
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | Interrupted => true,
        ConnectionRefused => reached,
        _ => false,
    }
}

/// Whether reading ended because nothing came.
pub(super) fn is_stall(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_)))
        || matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// A header that is text.
pub(crate) fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

/// The host's own trust store where there is one, so that an administrator's certificates count, and `more`.
fn root_certificates(more: &[Certificate<'static>]) -> RootCerts {
    static OF_HOST: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    let of_host = OF_HOST.get_or_init(|| {
        let Some(pem) = CERTIFICATES.iter().find_map(|path| std::fs::read(path).ok()) else {
            return Vec::new();
        };
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        parse_pem(&pem).filter_map(certificate).collect()
    });
    match (of_host.as_slice(), more) {
        ([], []) => RootCerts::WebPki,
        (of_host, more) => RootCerts::from(of_host.iter().chain(more).cloned().collect::<Vec<_>>()),
    }
}

pub(super) fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// An address without what may be secret in it, and not longer than anybody wants to read.
pub(crate) fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or(url);
    let bare = match bare.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    };
    if bare.chars().count() > 300 { bare.chars().take(300).chain(['…']).collect() } else { bare }
}

fn origin(url: &str) -> Option<Origin> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?.to_owned();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// A `Location`, made absolute (RFC 3986 section 5, as far as servers use it).
fn join(base: &str, target: &str) -> Option<String> {
    let base: Uri = base.parse().ok()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = if target.starts_with("http://") || target.starts_with("https://") {
        target.to_owned()
    } else if has_scheme(target) {
        return None;
    } else if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{target}")
    };
    let uri: Uri = absolute.parse().ok()?;
    let _ = uri.host().filter(|host| !host.is_empty())?;
    Some(absolute)
}

fn has_scheme(target: &str) -> bool {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    target.split_once(':').is_some_and(|(scheme, _)| {
        scheme.bytes().all(lawful) && scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_made_absolute() {
        let base = "https://host:5000/v2/a/blobs/x";
        let table = [
            ("https://cdn/y?z=1", Some("https://cdn/y?z=1")),
            ("//cdn/y", Some("https://cdn/y")),
            ("/y", Some("https://host:5000/y")),
            ("/y:z", Some("https://host:5000/y:z")),
            ("y", Some("https://host:5000/v2/a/blobs/y")),
            ("http://", None),
            ("https:///etc", None),
            ("file:///etc/passwd", None),
            ("ftp://host/x", None),
            ("javascript:x", None),
            ("/a b", None),
        ];
        for (target, expected) in table {
            assert_eq!(join(base, target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn redirects_do_not_lead_into_the_open() {
        let http = |http| {
            let lenient = Leniency { http, ..Leniency::default() };
            Http::new(&RegistryConfig::default(), Patience::default(), lenient)
        };
        let (strict, lenient) = (http(false), http(true));
        assert!(strict.next("https://a/x", "https://b/x").is_ok());
        assert!(strict.next("http://127.0.0.1/x", "http://localhost:5000/x").is_ok());
        assert!(strict.next("http://127.0.0.1/x", "https://b/x").is_ok());
        assert_eq!(strict.next("http://127.0.0.1/x", "http://b/x"), Err("it would use plain http"));
        assert!(lenient.next("http://a/x", "http://b/x").is_ok());
        assert_eq!(lenient.next("https://a/x", "http://b/x"), Err("it would leave https"));
        assert_eq!(lenient.next("http://a/x", "file:///x"), Err("it is not an http address"));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://Host/x"), origin("https://host:443/y"));
        assert_ne!(origin("https://host/x"), origin("http://host/x"));
        assert_ne!(origin("https://host/x"), origin("https://host:444/x"));
        assert_ne!(origin("https://host/x"), origin("https://host.evil/x"));
        assert_eq!(origin("file:///x"), None);
    }

    #[test]
    fn what_is_secret_in_an_address_is_not_shown() {
        assert_eq!(shown("https://u:p@h:1/a?sig=x#y"), "https://h:1/a");
        assert_eq!(shown("/a?b"), "/a");
        assert_eq!(shown(&format!("https://h/{}", "x".repeat(9999))).chars().count(), 301);
    }
}
