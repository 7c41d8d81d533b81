//! Archives on servers: asking, downloading, and not downloading again.
//!
//! What a server said about an archive is kept (`cas/remote/<sha256 of the address>.json`): until its `max-age` is over
//! the archive is not asked for, and then only whether it changed (`If-None-Match`). A download that breaks is continued
//! where it broke, now or by the next one who wants it: what has come is kept beside (`.part`), and `If-Range` makes
//! sure that it is the beginning of what the server has now. One process at a time downloads from one address: it holds
//! the lock of that file.
//!
//! https only, unless plain http is allowed. Credentials go to the host that they are for, over https, and nowhere else.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use ureq::Body;
use ureq::http::Response;

use super::discovery::{self, Endpoint, MAX_PAGE};
use super::name::AciName;
use crate::digest::{Digest, ImageId};
use crate::fetch::FetchOptions;
use crate::registry::HttpError;
use crate::registry::http::{Http, Leniency, Request, header};
use crate::store::{Store, StoreError};

/// Breaks in a row without progress until a download has failed.
const FAILURES: u32 = 4;
/// The longest that an image is not asked for again, whatever its server says.
const MAX_AGE: i64 = 365 * 86_400;

/// What servers of ACIs are told, by host name: `Basic …`, `Bearer …`.
pub trait AciAuthorization: Sync {
    /// The value of `Authorization` for this host.
    fn header(&self, host: &str) -> Option<String>;
}

impl AciAuthorization for () {
    fn header(&self, _: &str) -> Option<String> {
        None
    }
}

impl AciAuthorization for crate::credentials::Credentials {
    fn header(&self, host: &str) -> Option<String> {
        self.server(host).and_then(crate::credentials::ServerAuth::header)
    }
}

/// A server does not deliver.
#[derive(Debug, thiserror::Error)]
pub enum AciRemoteError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Plain http is not allowed.
    #[error("{0}: plain http is refused; --insecure-options=http allows it")]
    Plain(String),
    /// Another answer than the archive.
    #[error("{url}: bad HTTP status code: {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The connection broke, and broke again.
    #[error("{url}: the download broke off after {received} bytes")]
    Broken {
        /// What was asked for.
        url: String,
        /// What came.
        received: u64,
        /// Why.
        source: io::Error,
    },
    /// It has more than anybody needs.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// No page says where the image is.
    #[error("no page of {host} says where the image {name:?} is: none has an ac-discovery tag for it")]
    Undiscovered {
        /// Who was asked.
        host: String,
        /// The image.
        name: String,
    },
    /// The signature cannot be had.
    #[error("error downloading the signature file")]
    Signature(#[source] Box<AciRemoteError>),
    /// The signature is not there yet.
    #[error("{url}: server requested deferring the signature download, and again after the image came")]
    Deferred {
        /// What was asked for.
        url: String,
    },
    /// What came cannot be kept.
    #[error("cannot keep what came from {url}")]
    Keep {
        /// What was asked for.
        url: String,
        /// Why not.
        source: io::Error,
    },
    /// What was kept cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether what is known of an address is worth keeping: the image is there, or part of it.
pub(crate) fn is_useful(record: &[u8], there: impl Fn(ImageId) -> bool, part: &Path) -> bool {
    let known: Option<Known> = serde_json::from_slice(record).ok();
    known.is_some_and(|known| known.image.map_or_else(|| part.exists(), there))
}

/// What is known of an address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    url: String,
    /// The image that came from there.
    image: Option<ImageId>,
    /// Its signature was verified.
    #[serde(default)]
    verified: bool,
    etag: Option<String>,
    modified: Option<String>,
    /// Until then it is not asked for again.
    fresh_until: Option<Timestamp>,
}

/// Who can be asked.
pub(super) struct Servers<'a> {
    http: Http,
    options: &'a FetchOptions<'a>,
    store: &'a Store,
}

/// What became of a download.
pub(super) enum Downloaded {
    /// The store has it, and it has not changed.
    Unchanged(ImageId),
    /// It came.
    New(Part),
}

/// A file that came from a server. Removed when it is dropped: it is in the store then, or of no use.
pub(super) struct Part {
    known: Known,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

/// Where the keys are that sign images of this name, as its server says (`ac-discovery-pubkeys`). Whether to trust them is
/// another question.
///
/// # Errors
/// If no page can be had.
pub fn discover_keys(
    store: &Store,
    name: &str,
    options: &FetchOptions<'_>,
) -> Result<Vec<String>, AciRemoteError> {
    let servers = Servers::new(store, options);
    let mut reached = Ok(());
    for page in discovery::pages(name) {
        match servers.page(&page).map(|bytes| discovery::keys(&bytes, name)) {
            Ok(found) if !found.is_empty() => return Ok(found),
            Ok(_) | Err(AciRemoteError::Status { .. }) => {}
            Err(error) => reached = reached.and(Err(error)),
        }
    }
    reached.map(|()| Vec::new())
}

impl<'a> Servers<'a> {
    pub(super) fn new(store: &'a Store, options: &'a FetchOptions<'a>) -> Self {
        let registry = &options.registry;
        let lenient =
            Leniency { http: registry.allow_http, certificates: !registry.verify_tls, ..Leniency::default() };
        Self { http: Http::new(registry.config, registry.patience, lenient), options, store }
    }

    /// Finds out where the image of this name is.
    pub(super) fn discover(&self, name: &AciName) -> Result<Endpoint, AciRemoteError> {
        let mut reached = Ok(());
        for page in discovery::pages(name.name()) {
            match self.page(&page) {
                Ok(bytes) => {
                    if let Some(found) = discovery::endpoint(&bytes, name, &self.options.platform) {
                        return Ok(found);
                    }
                }
                // A page that is not there is one that says nothing.
                Err(AciRemoteError::Status { .. }) => {}
                Err(error) => reached = reached.and(Err(error)),
            }
        }
        reached?;
        let host = name.name().split('/').next().unwrap_or_default().to_owned();
        Err(AciRemoteError::Undiscovered { host, name: name.to_string() })
    }

    /// A page, by https, or by http if that is allowed and https does not work.
    fn page(&self, page: &str) -> Result<Vec<u8>, AciRemoteError> {
        match self.bytes(&format!("https://{page}"), MAX_PAGE) {
            Err(AciRemoteError::Http(_)) if self.options.registry.allow_http => {
                self.bytes(&format!("http://{page}"), MAX_PAGE)
            }
            other => other,
        }
    }

    /// The signature. Nothing if the server wants to be asked again after the image.
    pub(super) fn signature(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, AciRemoteError> {
        match self.bytes(url, limit) {
            Err(AciRemoteError::Status { status: 202, .. }) => Ok(None),
            other => other.map(Some).map_err(|error| AciRemoteError::Signature(Box::new(error))),
        }
    }

    fn bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, AciRemoteError> {
        let answer = self.get(url, 0, &[])?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(AciRemoteError::Status { url: shown(url), status });
        }
        let mut bytes = Vec::new();
        let reader = answer.into_body().into_with_config().limit(u64::MAX).reader();
        let read = reader.take(limit + 1).read_to_end(&mut bytes);
        let received = bytes.len() as u64;
        let _ = read.map_err(|source| AciRemoteError::Broken { url: shown(url), received, source })?;
        if received > limit { Err(AciRemoteError::TooLarge { url: shown(url), limit }) } else { Ok(bytes) }
    }

    fn get(&self, url: &str, from: u64, more: &[(&str, &str)]) -> Result<Response<Body>, AciRemoteError> {
        let https = url.starts_with("https://");
        if !https && !self.options.registry.allow_http {
            return Err(AciRemoteError::Plain(shown(url)));
        }
        let host = host(url);
        let authorization = self.options.aci.authorization.header(host).filter(|_| https);
        let authorization = authorization.as_deref();
        Ok(self.http.get(Request { url, authorization, from, more, ..Request::default() })?)
    }

    /// Brings an archive, unless the store has it and it has not changed.
    /// `before` is called before anything is transferred.
    pub(super) fn download(
        &self,
        url: &str,
        verify: bool,
        before: impl FnOnce() -> Result<(), AciRemoteError>,
    ) -> Result<Downloaded, AciRemoteError> {
        let keep = |source| AciRemoteError::Keep { url: shown(url), source };
        let path = self.store.remote(url, "part");
        let mut file = locked(&path).map_err(keep)?;
        let outcome = self.download_into(url, &mut file, verify, before);
        // Nothing came: there is nothing to go on with.
        if !matches!(outcome, Ok(Ok(_))) && file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            std::fs::remove_file(&path).map_err(keep)?;
        }
        Ok(match outcome? {
            Ok(known) => Downloaded::New(Part { known, path, _file: file }),
            Err(id) => Downloaded::Unchanged(id),
        })
    }

    /// What is known of what came, or the image that has not changed.
    fn download_into(
        &self,
        url: &str,
        file: &mut File,
        verify: bool,
        before: impl FnOnce() -> Result<(), AciRemoteError>,
    ) -> Result<Result<Known, ImageId>, AciRemoteError> {
        let known = self.known(url);
        let complete = |id: &ImageId| self.store.image(*id).is_ok() && (known.verified || !verify);
        if let Some(id) = known.image.filter(complete) {
            if known.fresh_until.is_some_and(|until| Timestamp::now() < until) {
                return Ok(Err(id));
            }
            if let Some(etag) = &known.etag {
                let answer = self.get(url, 0, &[("if-none-match", etag)])?;
                if answer.status().as_u16() == 304 {
                    let again = Known { fresh_until: fresh_until(&answer), ..known.clone() };
                    self.remember(&again)?;
                    return Ok(Err(id));
                }
                // What came with it is asked for again: a whole download needs more care than this.
                drop(answer);
            }
        }
        before()?;
        self.bring(url, known, file).map(Ok)
    }

    /// Downloads into the file, from where the last attempt broke.
    fn bring(&self, url: &str, mut known: Known, file: &mut File) -> Result<Known, AciRemoteError> {
        let keep = |source| AciRemoteError::Keep { url: shown(url), source };
        let limit = self.options.limits.stream();
        let mut failures = 0;
        loop {
            let mut at = file.metadata().map_err(keep)?.len();
            // Only a strong validator tells that the beginning is the beginning of the same.
            let strong = |etag: &&String| !etag.starts_with("W/");
            let validator = known.etag.as_ref().filter(strong).or(known.modified.as_ref()).cloned();
            let validator = validator.filter(|_| at > 0 && known.image.is_none());
            let ranged = validator.as_deref().map(|text| ("if-range", text));
            let answer = self.get(url, if ranged.is_some() { at } else { 0 }, ranged.as_slice())?;
            let status = answer.status().as_u16();
            let resumed = status == 206
                && ranged.is_some()
                && header(&answer, "content-range").is_some_and(|r| r.starts_with(&format!("bytes {at}-")));
            match status {
                200 => {
                    file.set_len(0).map_err(keep)?;
                    at = 0;
                }
                206 if resumed => {}
                // The server has less than what has come: it is something else now.
                206 | 416 if failures < FAILURES => {
                    failures += 1;
                    file.set_len(0).map_err(keep)?;
                    known = Known { url: url.to_owned(), ..Known::default() };
                    continue;
                }
                _ => return Err(AciRemoteError::Status { url: shown(url), status }),
            }
            known = Known {
                url: url.to_owned(),
                image: None,
                verified: false,
                etag: header(&answer, "etag").map(str::to_owned),
                modified: header(&answer, "last-modified").map(str::to_owned),
                fresh_until: fresh_until(&answer),
            };
            self.remember(&known)?;
            let announced = header(&answer, "content-length").and_then(|text| text.parse::<u64>().ok());
            let _ = file.seek(io::SeekFrom::Start(at)).map_err(keep)?;
            let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
            let (came, broke) = copy(body, file, limit.saturating_sub(at)).map_err(keep)?;
            if at + came > limit {
                return Err(AciRemoteError::TooLarge { url: shown(url), limit });
            }
            let short = announced.is_some_and(|announced| came < announced);
            let cause = match broke {
                Some(cause) => cause,
                None if short => io::ErrorKind::UnexpectedEof.into(),
                None => return Ok(known),
            };
            failures = if came > 0 { 1 } else { failures + 1 };
            if failures >= FAILURES {
                return Err(AciRemoteError::Broken { url: shown(url), received: at + came, source: cause });
            }
        }
    }

    fn known(&self, url: &str) -> Known {
        let file = std::fs::read(self.store.remote(url, "json")).ok();
        let known: Option<Known> = file.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // What cannot be read was never known.
        known.filter(|known| known.url == url).unwrap_or_default()
    }

    fn remember(&self, known: &Known) -> Result<(), AciRemoteError> {
        Ok(self.store.write_json(&self.store.remote(&known.url, "json"), known)?)
    }

    /// The image that came from there is in the store.
    pub(super) fn arrived(&self, part: &Part, image: ImageId, verified: bool) -> Result<(), AciRemoteError> {
        self.remember(&Known { image: Some(image), verified, ..part.known.clone() })
    }
}

impl Part {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // If it stays, garbage collection removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the file and holds its lock; waits for whoever has it.
fn locked(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    loop {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        // Whoever had it may have removed it.
        match std::fs::metadata(path) {
            Ok(named) if named.ino() == file.metadata()?.ino() => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// How much came, at most one byte more than the limit, and why no more. Trouble writing is an error.
fn copy(mut from: impl Read, to: &mut File, limit: u64) -> io::Result<(u64, Option<io::Error>)> {
    let (mut buffer, mut came) = (vec![0; 256 << 10], 0_u64);
    while came <= limit {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                to.write_all(buffer.get(..count).unwrap_or_default())?;
                came += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok((came, Some(error))),
        }
    }
    Ok((came, None))
}

/// Until when the answer need not be asked for again.
fn fresh_until(answer: &Response<Body>) -> Option<Timestamp> {
    let control = header(answer, "cache-control")?.to_ascii_lowercase();
    let mut words = control.split(',').map(str::trim);
    if words.clone().any(|word| matches!(word, "no-cache" | "no-store")) {
        return None;
    }
    let seconds: i64 = words.find_map(|word| word.strip_prefix("max-age="))?.parse().ok()?;
    Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds.clamp(0, MAX_AGE))).ok()
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

/// An address without what may be secret in it.
fn shown(url: &str) -> String {
    crate::registry::http::shown(url)
}

/// The file for an address.
pub(crate) fn file_name(url: &str, extension: &str) -> String {
    format!("{}.{extension}", Digest::of(url.as_bytes()).hex())
}
