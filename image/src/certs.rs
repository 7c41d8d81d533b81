//! Certificates for single registries: `certs.d`, as docker, podman and skopeo read it.
//!
//! `/etc/containers/certs.d/HOST[:PORT]/`, or else `/etc/docker/certs.d/HOST[:PORT]/`, may have
//!
//! * `*.crt`: authorities that are trusted for this registry, in addition to the host's own;
//! * `NAME.cert` with `NAME.key`: a certificate and its key to show to the registry.
//!
//! The first directory of that name is the only one. Both halves of a pair must be there and belong together: the
//! library that speaks TLS takes that for granted.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PrivateKey};

/// Where the directories of registries are.
const DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Directories of certificates, one below for each registry. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    dirs: Vec<PathBuf>,
}

/// What to use with one registry.
#[derive(Debug, Default)]
pub(crate) struct HostCertificates {
    /// Whom to trust in addition.
    pub(crate) roots: Vec<Certificate<'static>>,
    /// Whom to be.
    pub(crate) client: Option<ClientCert>,
}

/// A directory of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// Something cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{} has no {what} in PEM format", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate`, `private key`.
        what: &'static str,
    },
    /// Half of a pair.
    #[error("{} is of no use without {}", path.display(), missing.display())]
    Half {
        /// The file.
        path: PathBuf,
        /// The other half.
        missing: PathBuf,
    },
    /// The halves do not fit.
    #[error("{} cannot be used with its key", path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

impl Certificates {
    /// Those of this host.
    #[must_use]
    pub fn of_host() -> Self {
        Self::in_directories(DIRECTORIES.map(PathBuf::from).to_vec())
    }

    /// Those below these directories, the most important first.
    #[must_use]
    pub fn in_directories(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    /// What to use with a registry, written `host` or `host:port`.
    pub(crate) fn of(&self, host: &str) -> Result<HostCertificates, CertificatesError> {
        // From a redirect, a host can be any text.
        let lawful = !host.starts_with('.') && !host.contains(['/', '\0']) && !host.is_empty();
        let dir = self.dirs.iter().map(|dir| dir.join(host)).find(|dir| lawful && dir.is_dir());
        dir.map_or_else(|| Ok(HostCertificates::default()), |dir| read_directory(&dir))
    }
}

fn read_directory(dir: &Path) -> Result<HostCertificates, CertificatesError> {
    let unreadable = |source| CertificatesError::Read { path: dir.to_owned(), source };
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort();
    let mut found = HostCertificates::default();
    for path in &paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => found.roots.extend(certificates(path)?.iter().map(|der| owned(der))),
            Some("cert") => found.client = Some(pair(path, &path.with_extension("key"))?),
            Some("key") => drop(other_half(path, path.with_extension("cert"))?),
            _ => {}
        }
    }
    Ok(found)
}

fn pair(certificate: &Path, key: &Path) -> Result<ClientCert, CertificatesError> {
    let chain = certificates(certificate)?;
    let key = other_half(certificate, key.to_owned())?;
    let pem = read(&key)?;
    let unusable = |_| CertificatesError::Pem { path: key.clone(), what: "private key" };
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(unusable)?;
    let provider = rustls::crypto::ring::default_provider();
    let fit = CertifiedKey::from_der(chain.clone(), der, &provider);
    let _ = fit.map_err(|source| CertificatesError::Pair { path: certificate.to_owned(), source })?;
    let key = PrivateKey::from_pem(&pem)
        .map_err(|_| CertificatesError::Pem { path: key.clone(), what: "private key" })?;
    let chain: Vec<_> = chain.iter().map(|der| owned(der)).collect();
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn other_half(path: &Path, missing: PathBuf) -> Result<PathBuf, CertificatesError> {
    if missing.exists() {
        Ok(missing)
    } else {
        Err(CertificatesError::Half { path: path.to_owned(), missing })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(CertificatesError::Pem { path: path.to_owned(), what: "certificate" }),
    }
}

fn owned(der: &CertificateDer<'_>) -> Certificate<'static> {
    Certificate::from_der(der.as_ref()).to_owned()
}

fn read(path: &Path) -> Result<Vec<u8>, CertificatesError> {
    std::fs::read(path).map_err(|source| CertificatesError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_and_no_certificate_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::in_directories(vec![dir.path().join("none"), dir.path().to_owned()]);
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join("host:5000")).unwrap();
            std::fs::write(dir.path().join("host:5000").join(name), text).unwrap();
        };
        let refusal = || certificates.of("host:5000").unwrap_err().to_string();
        assert!(certificates.of("host:5000").unwrap().roots.is_empty());
        write("README", "no");
        assert!(certificates.of("host:5000").unwrap().client.is_none());
        write("a.key", "x");
        assert!(
            refusal().contains("a.key is of no use without") && refusal().contains("a.cert"),
            "{}",
            refusal()
        );
        std::fs::remove_file(dir.path().join("host:5000/a.key")).unwrap();
        write("ca.crt", "x");
        assert!(refusal().contains("ca.crt has no certificate"), "{}", refusal());
        assert!(certificates.of("host").unwrap().roots.is_empty(), "the port is part of the name");
        for host in ["..", ".", "", "a/../host:5000"] {
            assert!(certificates.of(host).unwrap().roots.is_empty(), "{host}");
        }
    }
}
