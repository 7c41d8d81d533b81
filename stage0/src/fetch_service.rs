//! Fetching for members of the group `rkt`: they ask, root fetches. No daemon: systemd holds a socket and starts one
//! process for each request (`dist/systemd/rkt-fetch.socket`, `rkt-fetch@.service`), which ends with it.
//!
//! Unpacking needs root, and the trees, full of other people's setuid programs, must stay out of reach; so `rkt fetch` by
//! anybody but root connects to the socket instead. [`client`] is that side, [`server`] (`rkt unit fetch`) the other.
//!
//! ```text
//!  member ── one line: a Request [+ a descriptor] ──▶ root
//!         ◀── lines of pod::fetch_event, the last one `done` or `error` ──
//! ```
//!
//! What the server holds itself to:
//!
//! * Policy, registries and trust are what root configured: a request has no words for them. What weakens is refused
//!   unless the unit's own command line has it. The credentials are the member's own, never root's.
//! * A request is one line of strict JSON of at most [`MAX_REQUEST`] bytes, and has to come within seconds.
//! * No path of a request is ever opened. A local archive comes as a descriptor that the member has opened for reading:
//!   what a member cannot read, root does not read for them. Its path is no name in the store afterwards.
//! * Each user has a few fetches at a time, each fetch a shortest pace and a longest time (the unit's `RuntimeMaxSec=`);
//!   one whose client is gone ends. So nobody holds a layer's lock for long.
//! * What is logged is quoted: a request cannot write lines of its own into the journal.

mod archive;
pub(crate) mod client;
mod guard;
pub(crate) mod server;
mod wire;

use std::path::Path;

use image::{Credential, CredentialLookup as _, Credentials, CredentialsError, PullPolicy, Reference};
use serde::{Deserialize, Serialize};

/// Where `rkt-fetch.socket` listens.
pub(crate) const SOCKET: &str = "/run/rkt/fetch.sock";
/// A request is no longer than this: room for a name, some options, and a token.
const MAX_REQUEST: usize = 64 << 10;
/// The version of requests.
const VERSION: u32 = 1;

/// What a member asks for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Request {
    /// [`VERSION`].
    v: u32,
    /// The image as it was written on the command line.
    image: String,
    pull_policy: Pull,
    /// The data directory that is meant.
    dir: String,
    /// What is to be given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    insecure_options: Vec<String>,
    /// The member's own, for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    credentials: Vec<Secret>,
}

/// [`PullPolicy`] in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pull {
    New,
    Never,
    Update,
}

/// A name and a password, or a token, in a request.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    registry: String,
    credential: Proof,
}

/// [`Credential`] in a request.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
enum Proof {
    Password { user: String, password: String },
    IdentityToken(String),
    RegistryToken(String),
}

/// Never displayed.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Request {
    pub(crate) fn new(image: &str, pull: PullPolicy, dir: &Path, insecure: Vec<String>) -> Self {
        let pull_policy = match pull {
            PullPolicy::New => Pull::New,
            PullPolicy::Never => Pull::Never,
            PullPolicy::Update => Pull::Update,
        };
        let dir = dir.display().to_string();
        let (image, credentials) = (image.to_owned(), Vec::new());
        Self { v: VERSION, image, pull_policy, dir, insecure_options: insecure, credentials }
    }

    /// Adds what is known about a registry.
    fn add_secret(&mut self, image: &Reference, known: &Credentials) -> Result<(), CredentialsError> {
        let found = known.lookup(image.registry(), image.repository())?;
        let registry = image.registry().to_owned();
        self.credentials.extend(found.map(|found| Secret { registry, credential: found.into() }));
        Ok(())
    }
}

impl From<Credential> for Proof {
    fn from(credential: Credential) -> Self {
        match credential {
            Credential::Password { user, password } => Self::Password { user, password },
            Credential::RefreshToken(token) => Self::IdentityToken(token),
            Credential::AccessToken(token) => Self::RegistryToken(token),
        }
    }
}

impl From<Proof> for Credential {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Password { user, password } => Self::Password { user, password },
            Proof::IdentityToken(token) => Self::RefreshToken(token),
            Proof::RegistryToken(token) => Self::AccessToken(token),
        }
    }
}

impl Pull {
    fn policy(self) -> PullPolicy {
        match self {
            Self::New => PullPolicy::New,
            Self::Never => PullPolicy::Never,
            Self::Update => PullPolicy::Update,
        }
    }
}
