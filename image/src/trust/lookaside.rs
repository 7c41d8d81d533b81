//! Where the OpenPGP signatures of registries' images are: beside the registry, in a directory or on a web server
//! (containers-registries.d(5)).
//!
//! `<lookaside>/<repository>@sha256=<hex>/signature-<n>`, n counting from 1 until one is missing. The address is that of
//! the most specific scope that has one, of `default-docker`, or [`DEFAULT`]. Reading is all that is done here:
//! `lookaside-staging` is for those who sign.
//!
//! A lookaside server is trusted with nothing: it can withhold signatures, and send a bounded number of bounded ones.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::openpgp::MAX_SIGNATURE;
use super::policy::namespaces;
use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::{RegistryError, RegistryOptions, download_small};

/// Where the addresses are, unless the operator says otherwise.
pub const REGISTRIES_DIR: &str = "/etc/containers/registries.d";
/// Where signatures are if nobody says.
const DEFAULT: &str = "file:///var/lib/containers/sigstore";
/// The most signatures of one image that are looked at.
pub(super) const MAX_SIGNATURES: usize = 32;
const MAX_FILE: u64 = 1 << 20;

/// Signatures cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum LookasideError {
    /// A system call failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Larger than it has any reason to be.
    #[error("{place} has more than {limit} bytes")]
    TooLarge {
        /// The file.
        place: String,
        /// The limit.
        limit: u64,
    },
    /// A file of registries.d is broken.
    #[error("cannot understand {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_yaml_ng::Error,
    },
    /// Two files say something about the same.
    #[error("{} and {} both speak of {scope}", first.display(), second.display())]
    Twice {
        /// A file.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
        /// `default-docker` or a scope.
        scope: String,
    },
    /// Neither a directory nor a server.
    #[error("{}: the lookaside {address:?} begins neither with file:/// nor with https://", path.display())]
    Address {
        /// Which file has it.
        path: PathBuf,
        /// The address.
        address: String,
    },
    /// A server does not deliver.
    #[error("cannot fetch the signature {url}")]
    Fetch {
        /// The signature.
        url: String,
        /// Why not.
        source: Box<RegistryError>,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "default-docker")]
    default: Option<Entry>,
    docker: Option<BTreeMap<String, Option<Entry>>>,
}

#[derive(Deserialize)]
struct Entry {
    lookaside: Option<String>,
    /// As it was called before.
    sigstore: Option<String>,
}

/// A scope, or `default-docker`, the file that speaks of it, and the address.
type Addresses = BTreeMap<String, (PathBuf, Option<String>)>;

const DEFAULT_SCOPE: &str = "default-docker";

/// The OpenPGP signatures of one manifest or index, as they came.
pub(super) struct Signatures<'a> {
    base: String,
    next: usize,
    options: &'a RegistryOptions<'a>,
}

impl<'a> Signatures<'a> {
    /// Finds out where they are.
    pub(super) fn of(
        registries_dir: &Path,
        reference: &Reference,
        digest: Digest,
        options: &'a RegistryOptions<'a>,
    ) -> Result<Self, LookasideError> {
        let addresses = read_dir(registries_dir)?;
        let scopes = namespaces(reference).into_iter().chain([DEFAULT_SCOPE.to_owned()]);
        let found = scopes
            .filter_map(|scope| addresses.get(&scope))
            .find_map(|(path, address)| address.as_ref().map(|address| (path.clone(), address.clone())));
        let (path, address) = found.unwrap_or_else(|| (registries_dir.to_owned(), DEFAULT.to_owned()));
        if !["file:///", "https://", "http://"].iter().any(|scheme| address.starts_with(scheme)) {
            return Err(LookasideError::Address { path, address });
        }
        let name = format!("{}@{}={}", reference.repository(), digest.algorithm().name(), digest.hex());
        Ok(Self { base: format!("{}/{name}", address.trim_end_matches('/')), next: 1, options })
    }

    /// Where they are, for a person.
    pub(super) fn place(&self) -> &str {
        &self.base
    }
}

impl Iterator for Signatures<'_> {
    type Item = Result<Vec<u8>, LookasideError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > MAX_SIGNATURES {
            return None;
        }
        let url = format!("{}/signature-{}", self.base, self.next);
        self.next += 1;
        let signature = match url.strip_prefix("file://") {
            Some(path) => read(Path::new(path), MAX_SIGNATURE),
            None => match download_small(&url, MAX_SIGNATURE, self.options) {
                Err(RegistryError::TooLarge { url, limit }) => {
                    Err(LookasideError::TooLarge { place: url, limit })
                }
                other => other.map_err(|source| LookasideError::Fetch { url, source: Box::new(source) }),
            },
        };
        if signature.is_err() {
            // What comes after it is not known.
            self.next = MAX_SIGNATURES + 1;
        }
        signature.transpose()
    }
}

/// A file's bytes. `None`: there is none.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, LookasideError> {
    let failed = |source| LookasideError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    if file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)? as u64 > limit {
        return Err(LookasideError::TooLarge { place: path.display().to_string(), limit });
    }
    Ok(Some(bytes))
}

/// Everything that the directory says. It need not exist.
fn read_dir(dir: &Path) -> Result<Addresses, LookasideError> {
    let failed = |source| LookasideError::Read { path: dir.to_owned(), source };
    let mut paths = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Addresses::new()),
        other => other.map_err(failed)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>(),
    }
    .map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let mut addresses = Addresses::new();
    for path in paths {
        let Some(bytes) = read(&path, MAX_FILE)? else { continue };
        // A file of comments only is nothing.
        let file: Option<File> = serde_yaml_ng::from_slice(&bytes)
            .map_err(|source| LookasideError::Parse { path: path.clone(), source })?;
        let Some(file) = file else { continue };
        let default = file.default.map(|entry| (DEFAULT_SCOPE.to_owned(), entry));
        let scopes = file.docker.unwrap_or_default().into_iter();
        let scopes = scopes.filter_map(|(scope, entry)| entry.map(|entry| (scope, entry)));
        for (scope, entry) in default.into_iter().chain(scopes) {
            let address = entry.lookaside.or(entry.sigstore).filter(|address| !address.is_empty());
            if let Some((first, _)) = addresses.insert(scope.clone(), (path.clone(), address)) {
                return Err(LookasideError::Twice { first, second: path, scope });
            }
        }
    }
    Ok(addresses)
}
