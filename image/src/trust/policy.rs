//! `policy.json` (containers-policy.json(5)): what is demanded of an image before it may be used.
//!
//! A policy has a list of requirements for everything (`default`), for all images of a transport
//! (`transports.docker[""]`) and for scopes of a transport; the most specific scope that an image is in governs it, and
//! all requirements of that list must hold.
//!
//! Mistakes refuse. What cannot be understood refuses everything that it governs: a requirement its scope, a scope its
//! transport, a broken file every image. So does what is understood and not supported. The refusal names file and place.

mod json;
mod requirement;
mod scope;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::reference::ImageName;

use json::Unique;
pub(super) use requirement::{KeySource, Requirement};
pub(super) use scope::namespaces;

/// Where the host's policy is, unless the operator says otherwise.
pub const POLICY_FILE: &str = "/etc/containers/policy.json";
/// The largest policy.
const MAX_POLICY: u64 = 4 << 20;

/// A policy that has been read.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    file: PathBuf,
    default: Vec<Requirement>,
    transports: BTreeMap<String, Scopes>,
}

/// The scopes of a transport; or why nothing of that transport can be accepted.
#[derive(Clone, Debug)]
enum Scopes {
    Known(BTreeMap<String, Vec<Requirement>>),
    Broken(Vec<Requirement>),
}

/// The requirements that govern an image.
#[derive(Clone, Debug)]
pub(super) struct Governing<'a> {
    /// Where in the file: `transports.docker["registry.example/ns"]`.
    pub(super) place: String,
    pub(super) requirements: &'a [Requirement],
}

/// There is a policy, and it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A system call failed.
    #[error("cannot read the signature policy {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is too large.
    #[error("the signature policy {} has more than {MAX_POLICY} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It is not JSON, or not that of a policy.
    #[error("cannot understand the signature policy {}, so no image can be accepted", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(borrow)]
    default: &'a RawValue,
    #[serde(borrow, default)]
    transports: Unique<&'a RawValue>,
}

impl Policy {
    /// Reads the policy. `None`: there is none.
    pub(super) fn load(file: &Path) -> Result<Option<Self>, PolicyError> {
        use io::Read as _;
        let failed = |source| PolicyError::Read { file: file.to_owned(), source };
        let opened = match std::fs::File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut text = String::new();
        let length = opened.take(MAX_POLICY + 1).read_to_string(&mut text).map_err(failed)?;
        if length as u64 > MAX_POLICY {
            return Err(PolicyError::TooLarge(file.to_owned()));
        }
        Self::parse(file, &text).map(Some)
    }

    /// Understands the text of `file`.
    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, PolicyError> {
        let parsed = serde_json::from_str(text);
        let File { default, transports } =
            parsed.map_err(|source| PolicyError::Parse { file: file.to_owned(), source })?;
        let transports = transports.0.into_iter().map(|(transport, scopes)| {
            let scopes = scopes_of(&transport, scopes);
            (transport, scopes)
        });
        Ok(Self {
            file: file.to_owned(),
            default: requirement::list(default),
            transports: transports.collect(),
        })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// What governs an image. An id is none of any transport.
    pub(super) fn governing(&self, name: &ImageName) -> Governing<'_> {
        let Some((transport, candidates)) = scope::of(name) else { return self.fallback() };
        match self.transports.get(transport) {
            Some(Scopes::Broken(requirements)) => {
                Governing { place: format!("transports.{transport}"), requirements }
            }
            Some(Scopes::Known(scopes)) => {
                let found = candidates.iter().find_map(|scope| scopes.get_key_value(scope));
                found.map_or_else(
                    || self.fallback(),
                    |(scope, requirements)| Governing {
                        place: format!("transports.{transport}[{scope:?}]"),
                        requirements,
                    },
                )
            }
            None => self.fallback(),
        }
    }

    pub(super) fn fallback(&self) -> Governing<'_> {
        Governing { place: "default".to_owned(), requirements: &self.default }
    }
}

fn scopes_of(transport: &str, text: &RawValue) -> Scopes {
    let broken = |why: String| Scopes::Broken(vec![Requirement::Broken(why)]);
    let scopes: Unique<&RawValue> = match serde_json::from_str(text.get()) {
        Ok(scopes) => scopes,
        Err(error) => return broken(format!("its scopes cannot be understood: {error}")),
    };
    // Nothing would ever be found there: an operator who wrote it means images that it would not protect.
    if let Some((scope, _)) = scopes.0.iter().find(|(scope, _)| !scope::is_lawful(transport, scope)) {
        return broken(format!("the scope {scope:?} fits no image"));
    }
    Scopes::Known(scopes.0.into_iter().map(|(scope, list)| (scope, requirement::list(list))).collect())
}

#[cfg(test)]
mod tests;
