//! What can be wrong with a registry, and the sentence for each of it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use ureq::Body;
use ureq::http::Response;

use super::http::HttpError;
use crate::credentials::CredentialsError;
use crate::digest::Digest;
use crate::registries_conf::RegistriesError;

/// The most that is read of an answer that is an error.
const MAX_COMPLAINT: u64 = 16 << 10;

/// A registry does not deliver.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The operator's configuration forbids it, or makes no sense of it.
    #[error(transparent)]
    Configuration(#[from] RegistriesError),
    /// There is a problem with the credentials, and the registry wants some.
    #[error(transparent)]
    Credentials(Arc<CredentialsError>),
    /// The registry has no such image.
    #[error(
        "the registry {host} has no such image: the repository, the tag or the digest does not exist{says}"
    )]
    NotFound {
        /// The registry.
        host: String,
        /// What it says itself.
        says: Complaint,
    },
    /// The registry has the manifest but not the blob.
    #[error("the registry {host} lacks {digest}, which the image needs")]
    BlobNotFound {
        /// The registry.
        host: String,
        /// What it lacks.
        digest: String,
    },
    /// Not without credentials, or not with these.
    #[error("the registry {host} refuses access (HTTP {status}): the image does not exist, or {hint}{says}")]
    Denied {
        /// The registry.
        host: String,
        /// 401 or 403.
        status: u16,
        /// What to do about it.
        hint: &'static str,
        /// What it says itself.
        says: Complaint,
    },
    /// It is overloaded or broken, and was still so when it was asked again.
    #[error("the registry {host} cannot answer now (HTTP {status}); try again later{says}")]
    Busy {
        /// The registry.
        host: String,
        /// 429 or 5xx.
        status: u16,
        /// What it says itself.
        says: Complaint,
    },
    /// Any other answer.
    #[error("{url}: unexpected answer, HTTP {status}{says}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// What it says itself.
        says: Complaint,
    },
    /// Whoever answers is something else.
    #[error("{host} does not look like a registry: {url} is {what}")]
    NotARegistry {
        /// The host.
        host: String,
        /// What was asked for.
        url: String,
        /// What came instead.
        what: &'static str,
    },
    /// The realm of a challenge would send a password in the open.
    #[error("the registry wants a token from {realm:?}, which is not an https address")]
    Realm {
        /// The realm.
        realm: String,
    },
    /// The token server refuses.
    #[error("{realm} refuses a token (HTTP {status}): {hint}{says}")]
    Token {
        /// The token server.
        realm: String,
        /// The status code.
        status: u16,
        /// What to do about it.
        hint: &'static str,
        /// What it says itself.
        says: Complaint,
    },
    /// The token server answers something else.
    #[error("{realm} does not answer with a token")]
    TokenAnswer {
        /// The token server.
        realm: String,
    },
    /// The connection broke within an answer.
    #[error("{url}: the answer broke off")]
    Read {
        /// What was asked for.
        url: String,
        /// Why.
        source: io::Error,
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
    #[error("the manifest is corrupt: what {host} sends has the digest {found}, not {expected}")]
    Mismatch {
        /// The registry.
        host: String,
        /// The digest asked for, or the one that the registry announced.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A blob whose length differs from the manifest's word.
    #[error("{digest} has {found} bytes in the registry {host}, the manifest says {expected}")]
    BlobSize {
        /// The registry.
        host: String,
        /// The blob.
        digest: String,
        /// In the manifest.
        expected: u64,
        /// In the registry.
        found: u64,
    },
    /// Without TLS, anybody on the way could answer.
    #[error("{url} is not https, which only --insecure-options=http allows elsewhere than on this host")]
    Plain {
        /// What was asked for.
        url: String,
    },
    /// Neither a mirror nor the registry itself delivers.
    #[error("no mirror delivers, nor does the registry itself: {0}")]
    Everywhere(Failures),
}

impl RegistryError {
    /// Whether whoever was asked says that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Everywhere(Failures(failures)) => failures.iter().all(|(_, error)| error.is_not_found()),
            _ => false,
        }
    }
}

/// What a registry says about its refusal, if anything: displayed with a semicolon before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint(String);

/// Why each place that was asked does not deliver.
#[derive(Debug)]
pub struct Failures(pub(super) Vec<(String, RegistryError)>);

#[derive(serde::Deserialize)]
struct Answer {
    errors: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Complaint {
    /// The first of the `errors` of an answer (OCI distribution-spec, "Error Codes").
    pub(super) fn of(answer: Response<Body>) -> Self {
        let body = answer.into_body().into_with_config().limit(MAX_COMPLAINT).read_to_vec();
        let parsed = body.ok().and_then(|bytes| serde_json::from_slice::<Answer>(&bytes).ok());
        let first = parsed.and_then(|answer| answer.errors.into_iter().next());
        first.map_or_else(Self::default, |entry| Self(legible(&format!("{} {}", entry.code, entry.message))))
    }
}

/// Somebody else's text, for a terminal or a log.
fn legible(text: &str) -> String {
    let plain: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    plain.trim().to_owned()
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it says: {}", self.0) }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (place, error)) in self.0.iter().enumerate() {
            write!(f, "{}{place}: {error}", if index == 0 { "" } else { "; " })?;
            // There are several chains of causes, and an error has only one.
            let mut cause = error.source();
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_cannot_command_a_terminal() {
        assert_eq!(legible(" a\u{1b}[31m\nb\u{7} "), "a [31m b");
        assert_eq!(legible(&"é".repeat(999)).chars().count(), 200);
        assert_eq!(Complaint::default().to_string(), "");
        assert_eq!(Complaint("DENIED no".to_owned()).to_string(), "; it says: DENIED no");
    }
}
