//! Requests to a registry: redirects, retries, timeouts, and what may be sent where.
//!
//! Invariants: `Authorization` goes only to the scheme, host and port it was meant for; a redirect never leads from
//! https to http; nothing waits for ever (a connection has [`CONNECT`], each read [`STALL`]).

use std::time::Duration;

use ureq::http::header::{ACCEPT, AUTHORIZATION, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy, Timeout};

/// How long a connection, with its TLS handshake, may take.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a server may send nothing.
const STALL: Duration = Duration::from_secs(30);
/// How often a request is made before it has failed.
const ATTEMPTS: u32 = 4;
const MAX_REDIRECTS: u32 = 5;
/// The longest pause that a server can make us take.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The certificates that the host's administrator trusts, where distributions keep them.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// A client with connections that are kept for the next request.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    pub(super) accept: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    /// Skip this many bytes.
    pub(super) from: u64,
}

/// A request that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody answered, or not in HTTP.
    #[error("cannot reach {url}")]
    Request {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// A redirect to nowhere, in circles, or from https to http.
    #[error("{url} redirects to {target:?}, which is not followed: {why}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where it was to go.
        target: String,
        /// Why not.
        why: &'static str,
    },
}

impl Http {
    /// `direct` leaves a proxy of the environment out: this machine's own addresses mean another machine to it.
    pub(super) fn new(direct: bool) -> Self {
        let proxy = if direct { None } else { Proxy::try_from_env() };
        let config = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(STALL))
            .timeout_per_write(Some(STALL))
            .input_buffer_size(256 << 10)
            .user_agent(concat!("rkt/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(root_certificates()).build())
            .build();
        Self { agent: config.into() }
    }

    /// Asks, follows redirects, and asks again after failures that pass by themselves.
    pub(super) fn get(&self, request: Request<'_>) -> Result<Response<Body>, HttpError> {
        let mut pause = Duration::from_millis(250);
        for _ in 1..ATTEMPTS {
            let outcome = self.follow(request);
            if !outcome.as_ref().map_or_else(is_passing, |answer| is_busy(answer.status())) {
                return outcome;
            }
            let asked = outcome.ok().and_then(|answer| retry_after(&answer));
            std::thread::sleep(asked.unwrap_or(pause).min(MAX_PAUSE));
            pause *= 2;
        }
        self.follow(request)
    }

    /// Asks once, without redirects or retries.
    pub(super) fn get_once(&self, request: Request<'_>) -> Result<Response<Body>, HttpError> {
        let mut call = self.agent.get(request.url);
        if let Some(accept) = request.accept {
            call = call.header(ACCEPT, accept);
        }
        if let Some(authorization) = request.authorization {
            call = call.header(AUTHORIZATION, authorization);
        }
        if request.from > 0 {
            call = call.header(RANGE, format!("bytes={}-", request.from));
        }
        let failed = |error| HttpError::Request { url: request.url.to_owned(), source: Box::new(error) };
        call.call().map_err(failed)
    }

    fn follow(&self, request: Request<'_>) -> Result<Response<Body>, HttpError> {
        let mut url = request.url.to_owned();
        let mut authorization = request.authorization;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.get_once(Request { url: &url, authorization, ..request })?;
            let redirected = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(target) = answer.headers().get(LOCATION).filter(|_| redirected) else {
                return Ok(answer);
            };
            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
            let refused =
                |why| HttpError::Redirect { url: request.url.to_owned(), target: target.clone(), why };
            let next = join(&url, &target).ok_or_else(|| refused("it is not an address"))?;
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(refused("it would leave https"));
            }
            if origin(&next) != origin(&url) {
                authorization = None;
            }
            url = next;
        }
        Err(HttpError::Redirect {
            url: request.url.to_owned(),
            target: url,
            why: "there were too many redirects",
        })
    }
}

/// The host's own trust store where there is one, so that an administrator's certificates count.
fn root_certificates() -> RootCerts {
    let Some(pem) = CERTIFICATES.iter().find_map(|path| std::fs::read(path).ok()) else {
        return RootCerts::WebPki;
    };
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let certificates: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
    if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&certificates) }
}

/// Failures of the network that another attempt may not meet. Nobody listening, or a host that does not answer at all,
/// are not among them: waiting helps nobody who mistyped an address.
fn is_passing(error: &HttpError) -> bool {
    use std::io::ErrorKind;
    let HttpError::Request { source, .. } = error else { return false };
    match source.as_ref() {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => false,
        ureq::Error::Timeout(_) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
                | ErrorKind::TimedOut
                | ErrorKind::WouldBlock
                | ErrorKind::Interrupted
        ),
        _ => false,
    }
}

fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Scheme, host and port: who gets to see a password.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_owned();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// A `Location`, made absolute (RFC 3986 section 5, as far as servers use it).
fn join(base: &str, target: &str) -> Option<String> {
    let base: Uri = base.parse().ok()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = if target.starts_with("http://") || target.starts_with("https://") {
        target.to_owned()
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
            ("y", Some("https://host:5000/v2/a/blobs/y")),
            ("http://", None),
            ("https:///etc", None),
            ("/a b", None),
        ];
        for (target, expected) in table {
            assert_eq!(join(base, target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://Host/x"), origin("https://host:443/y"));
        assert_ne!(origin("https://host/x"), origin("http://host/x"));
        assert_ne!(origin("https://host/x"), origin("https://host:444/x"));
        assert_ne!(origin("https://host/x"), origin("https://host.evil/x"));
    }
}
