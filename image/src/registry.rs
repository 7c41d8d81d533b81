//! Images from a registry, by the OCI distribution specification v1.
//!
//! Reads only: manifests by tag or digest, blobs by digest. `registries.conf` may send a reference to mirrors first; they
//! are asked in order, the registry itself last, and whoever delivers the first document is asked first for the rest.
//! A mirror is trusted with nothing: whatever it sends is verified by digest, and what it does not have, or has wrong,
//! is asked for at the next place.
//!
//! Authentication is basic or by token, anonymous if there are no credentials. Plain http is spoken to loopback
//! addresses and where the caller or the operator allows it, and no credentials are ever sent over it elsewhere.
//! Downloads that break are continued where they broke, requests that fail for a passing reason are repeated.

mod challenge;
mod connection;
mod download;
mod error;
pub(crate) mod http;
mod proxy;
mod retry;
mod token;

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use oci_spec::image::Descriptor;
use ureq::Body;
use ureq::http::Response;

use crate::certs::Certificates;
use crate::credentials::CredentialLookup;
use crate::digest::Digest;
use crate::manifest;
use crate::reference::Reference;
use crate::registries_conf::{Endpoint, Registries};
use crate::source::{Raw, Source, SourceError};

use connection::Connection;
use download::Download;
use error::Failures;
use http::{Http, Leniency, Request};

pub use error::{Complaint, RegistryError};
pub use http::HttpError;
pub use proxy::{Proxies, ProxyError};
pub use retry::Patience;

/// Everything that reads the text of a header.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_headers(text: &str) {
    let _ = challenge::parse(text);
    let _ = retry::retry_after(text, jiff::Timestamp::UNIX_EPOCH);
}

/// What a host's administrator configured. The default is a host where nothing is configured.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// `registries.conf`.
    pub registries: Registries,
    /// `certs.d`.
    pub certificates: Certificates,
    /// The proxies of the environment.
    pub proxies: Proxies,
}

/// How a registry may be spoken to.
#[derive(Clone, Copy)]
pub struct RegistryOptions<'a> {
    /// Plain http is acceptable if https does not work. Loopback addresses need no permission.
    pub allow_http: bool,
    /// Whether a registry has to prove who it is. Content is verified either way.
    pub verify_tls: bool,
    /// How long to wait for it.
    pub patience: Patience,
    /// Where names and passwords come from.
    pub credentials: &'a dyn CredentialLookup,
    /// Mirrors, certificates and the like.
    pub config: &'a RegistryConfig,
}

impl Default for RegistryOptions<'_> {
    fn default() -> Self {
        static NOTHING: LazyLock<RegistryConfig> = LazyLock::new(RegistryConfig::default);
        Self {
            allow_http: false,
            verify_tls: true,
            patience: Patience::default(),
            credentials: &(),
            config: &NOTHING,
        }
    }
}

/// One repository, wherever it can be had.
pub struct Registry<'a> {
    options: RegistryOptions<'a>,
    reference: Reference,
    /// Mirrors, and the registry itself.
    places: Vec<Place>,
    /// The one that delivered last.
    best: AtomicUsize,
}

struct Place {
    endpoint: Endpoint,
    connection: OnceLock<Connection>,
    /// Held while the connection is being made: one thread makes it for all.
    connecting: Mutex<()>,
}

impl<'a> Registry<'a> {
    /// Finds the places to ask. Nobody is asked yet.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`]: the operator forbids it.
    pub fn connect(reference: &Reference, options: &RegistryOptions<'a>) -> Result<Self, RegistryError> {
        let endpoints = options.config.registries.endpoints(reference)?;
        let place = |endpoint| Place { endpoint, connection: OnceLock::new(), connecting: Mutex::default() };
        let places = endpoints.into_iter().map(place).collect();
        Ok(Self { options: *options, reference: reference.clone(), places, best: AtomicUsize::new(0) })
    }

    /// Asks one place after the other until one delivers.
    fn anywhere<'s, T>(
        &'s self,
        ask: impl Fn(&'s Connection) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut failures = Vec::new();
        let best = self.best.load(Ordering::Relaxed);
        let rest = (0..self.places.len()).filter(|index| *index != best);
        for index in std::iter::once(best).chain(rest) {
            let Some(place) = self.places.get(index) else { continue };
            match place.connection(&self.options).and_then(&ask) {
                Ok(delivered) => {
                    self.best.store(index, Ordering::Relaxed);
                    return Ok(delivered);
                }
                Err(error) => failures.push((place.endpoint.reference.to_string(), error)),
            }
        }
        match failures.pop() {
            Some((_, only)) if failures.is_empty() => Err(only),
            last => {
                failures.extend(last);
                Err(RegistryError::Everywhere(Failures(failures)))
            }
        }
    }

    /// A manifest or index by tag or digest, which has to have one of the digests that are known.
    fn document_as(&self, name: &str, expected: Option<Digest>) -> Result<Raw, RegistryError> {
        self.anywhere(|connection| {
            let (raw, announced) = connection.manifest(name)?;
            for expected in [expected, announced].into_iter().flatten() {
                let found = expected.algorithm().digest(&raw.bytes);
                if found != expected {
                    let host = connection.host();
                    return Err(RegistryError::Mismatch { host, expected, found });
                }
            }
            Ok(raw)
        })
    }
}

impl Place {
    fn connection(&self, options: &RegistryOptions<'_>) -> Result<&Connection, RegistryError> {
        let _one = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        match self.connection.get() {
            Some(connection) => Ok(connection),
            None => {
                let new = Connection::new(&self.endpoint, options)?;
                Ok(self.connection.get_or_init(|| new))
            }
        }
    }
}

impl Source for Registry<'_> {
    fn attachment(&self, tag: &str) -> Result<Option<Raw>, SourceError> {
        match self.document_as(tag, None) {
            Ok(raw) => Ok(Some(raw)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn root(&self) -> Result<Raw, SourceError> {
        let digest = self.reference.digest();
        let name = match digest {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().unwrap_or("latest").to_owned(),
        };
        Ok(self.document_as(&name, digest)?)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Raw, SourceError> {
        let digest = manifest::digest_of(descriptor)?;
        Ok(self.document_as(&digest.to_string(), Some(digest))?)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let digest = descriptor.digest().to_string();
        let download = self.anywhere(|connection| {
            let url = connection.url("blobs", &digest);
            Download::start(connection, url, descriptor.size()).map_err(|error| match error {
                RegistryError::NotFound { host, .. } => {
                    RegistryError::BlobNotFound { host, digest: digest.clone() }
                }
                other => other,
            })
        })?;
        Ok(Box::new(download))
    }
}

/// Reads a small file of a web server. `None`: it has no such file.
///
/// # Errors
/// If it has more than `limit` bytes, or the server does not deliver.
pub fn download_small(
    url: &str,
    limit: u64,
    options: &RegistryOptions<'_>,
) -> Result<Option<Vec<u8>>, RegistryError> {
    if !(url.starts_with("https://") || options.allow_http || is_loopback_url(url)) {
        return Err(RegistryError::Plain { url: http::shown(url) });
    }
    let (http, certificates) = (options.allow_http, !options.verify_tls);
    let http =
        Http::new(options.config, options.patience, Leniency { http, certificates, certificates_of: None });
    let mut answer = http.get(Request { url, ..Request::default() })?;
    match answer.status().as_u16() {
        200 => read_bounded(url, &mut answer, limit).map(Some),
        404 => Ok(None),
        status => Err(RegistryError::Status { url: http::shown(url), status, says: Complaint::default() }),
    }
}

/// Whether the host, which may have a port, is this machine by its very name.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None if host.parse::<std::net::Ipv6Addr>().is_ok() => host,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The same of an address.
fn is_loopback_url(url: &str) -> bool {
    let uri: Option<ureq::http::Uri> = url.parse().ok();
    uri.is_some_and(|uri| uri.host().is_some_and(is_loopback))
}

/// Reads an answer of at most `limit` bytes.
fn read_bounded(url: &str, answer: &mut Response<Body>, limit: u64) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let broke = |source| RegistryError::Read { url: http::shown(url), source };
    let length = answer.body_mut().as_reader().take(limit + 1).read_to_end(&mut bytes).map_err(broke)?;
    if length as u64 > limit {
        Err(RegistryError::TooLarge { url: http::shown(url), limit })
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{is_loopback, is_loopback_url};

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]:5000", "[::1]", "::1"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["localhost.evil.com", "127.0.0.1.evil.com:80", "128.0.0.1", "[::2]:5000", "example.com", ""]
        {
            assert!(!is_loopback(host), "{host}");
        }
        assert!(is_loopback_url("http://127.0.0.1:5000/token"));
        assert!(!is_loopback_url("http://localhost@evil.com/token"));
    }
}
