//! Whether a signature that is valid speaks of the image that was asked for: `signedIdentity`.
//!
//! A signature says by which name it knows its image. Without comparing that, a signature of an old or another image of
//! the same owner would do for every name: whoever serves images could exchange one for another.

use serde::Deserialize;

use crate::reference::{ImageName, Reference};

/// A name of an image as a signature or a policy has it: `docker.io/library/nginx`, a tag, a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// How the name of the image and that of the signature must be related.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The same, tag or digest included.
    Exact,
    /// The same; but an image that was asked for by digest may have any tag.
    RepoDigestOrExact,
    /// The same but for tag and digest.
    Repository,
    /// The signature must be of this name.
    ExactReference(Claim),
    /// The signature must be of this repository.
    ExactRepository(String),
    /// As [`Self::RepoDigestOrExact`], after `prefix` of the image's name is replaced: for mirrors.
    Remap { prefix: String, signed: String },
}

/// As it is written.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum WireIdentity {
    MatchExact {},
    MatchRepoDigestOrExact {},
    MatchRepository {},
    ExactReference { docker_reference: String },
    ExactRepository { docker_repository: String },
    RemapIdentity { prefix: String, signed_prefix: String },
}

impl Claim {
    /// Reads a name. Neither tag nor digest is added.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.starts_with("docker:") {
            return None;
        }
        let reference: Reference = text.parse().ok()?;
        let bare = text.split_once('@').map_or(text, |(bare, _)| bare);
        let last = bare.rsplit('/').next().unwrap_or(bare);
        let mut claim = Self::of(&reference);
        claim.tag = claim.tag.filter(|_| last.contains(':'));
        Some(claim)
    }

    fn of(reference: &Reference) -> Self {
        Self {
            name: format!("{}/{}", reference.registry(), reference.repository()),
            tag: reference.tag().map(str::to_owned),
            digest: reference.digest().map(|digest| digest.to_string()),
        }
    }

    fn is_exact(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }

    fn fits(&self, asked: &Self) -> bool {
        self.is_exact() && if asked.digest.is_some() { self.name == asked.name } else { self == asked }
    }
}

impl Identity {
    /// What a policy demands if it does not say is [`Self::RepoDigestOrExact`].
    pub(super) fn check(wire: Option<WireIdentity>) -> Result<Self, String> {
        let claim = |text: &str| {
            Claim::parse(text).ok_or(format!("signedIdentity: {text:?} is not the name of an image"))
        };
        Ok(match wire {
            None | Some(WireIdentity::MatchRepoDigestOrExact {}) => Self::RepoDigestOrExact,
            Some(WireIdentity::MatchExact {}) => Self::Exact,
            Some(WireIdentity::MatchRepository {}) => Self::Repository,
            Some(WireIdentity::ExactReference { docker_reference }) => match claim(&docker_reference)? {
                claim if claim.is_exact() => Self::ExactReference(claim),
                _ => return Err(format!("signedIdentity: {docker_reference:?} has neither tag nor digest")),
            },
            Some(WireIdentity::ExactRepository { docker_repository }) => match claim(&docker_repository)? {
                claim if claim.is_exact() => {
                    return Err(format!("signedIdentity: {docker_repository:?} is more than a repository"));
                }
                claim => Self::ExactRepository(claim.name),
            },
            Some(WireIdentity::RemapIdentity { prefix, signed_prefix }) => {
                for text in [&prefix, &signed_prefix] {
                    if text.is_empty() || text.ends_with('/') || text.contains("://") {
                        return Err(format!("signedIdentity: {text:?} is not the beginning of a name"));
                    }
                }
                Self::Remap { prefix, signed: signed_prefix }
            }
        })
    }

    /// Whether a signature of `signed` will do for the image. Layouts and archives have no name that could be signed,
    /// only the policy can give them one.
    pub(super) fn accepts(&self, image: &ImageName, signed: &str) -> bool {
        let Some(signed) = Claim::parse(signed) else { return false };
        match (self, image) {
            (Self::ExactReference(wanted), _) => signed == *wanted,
            (Self::ExactRepository(wanted), _) => signed.name == *wanted,
            (_, ImageName::Registry(reference)) => {
                let asked = Claim::of(reference);
                match self {
                    Self::Exact => signed.is_exact() && signed == asked,
                    Self::Repository => signed.name == asked.name,
                    Self::Remap { prefix, signed: replacement } => {
                        signed.fits(&Claim { name: remap(&asked.name, prefix, replacement), ..asked })
                    }
                    _ => signed.fits(&asked),
                }
            }
            _ => false,
        }
    }
}

fn remap(name: &str, prefix: &str, replacement: &str) -> String {
    match name.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{replacement}{rest}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_compare_as_documented() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("reg.io/a/b@{digest}");
        let exact = |text: &str| Identity::ExactReference(Claim::parse(text).unwrap());
        let remap = || Identity::Remap { prefix: "mirror.io/x".to_owned(), signed: "reg.io".to_owned() };
        let table = [
            (Identity::Exact, "reg.io/a/b:1", "reg.io/a/b:1", true),
            (Identity::Exact, "reg.io/a/b:1", "reg.io/a/b:2", false),
            (Identity::Exact, "reg.io/a/b", "reg.io/a/b:latest", true),
            (Identity::Exact, "reg.io/a/b", "reg.io/a/b", false),
            (Identity::Exact, &by_digest, "reg.io/a/b:1", false),
            (Identity::Exact, &by_digest, &by_digest, true),
            (Identity::Exact, "busybox", "busybox:latest", true),
            (Identity::RepoDigestOrExact, "reg.io/a/b:1", "reg.io/a/b:1", true),
            (Identity::RepoDigestOrExact, "reg.io/a/b:1", "reg.io/a/b:2", false),
            (Identity::RepoDigestOrExact, "reg.io/a/b:1", "reg.io/a/c:1", false),
            (Identity::RepoDigestOrExact, &by_digest, "reg.io/a/b:1", true),
            (Identity::RepoDigestOrExact, &by_digest, "reg.io/a/c:1", false),
            (Identity::RepoDigestOrExact, &by_digest, "reg.io/a/b", false),
            (Identity::RepoDigestOrExact, "reg.io/a/b:1", "", false),
            (Identity::RepoDigestOrExact, "reg.io/a/b:1", "docker://reg.io/a/b:1", false),
            (Identity::Repository, "reg.io/a/b:1", "reg.io/a/b:2", true),
            (Identity::Repository, "reg.io/a/b:1", "reg.io/a/b", true),
            (Identity::Repository, "reg.io/a/b:1", "reg.io/a:1", false),
            (exact("reg.io/a/b:9"), "other.io/x:1", "reg.io/a/b:9", true),
            (exact("reg.io/a/b:9"), "reg.io/a/b:1", "reg.io/a/b:1", false),
            (exact("reg.io/a/b:9"), "oci:/tmp/x", "reg.io/a/b:9", true),
            (Identity::Repository, "oci:/tmp/x", "reg.io/a/b:9", false),
            (Identity::ExactRepository("reg.io/a/b".to_owned()), "other.io/x:1", "reg.io/a/b:9", true),
            (Identity::ExactRepository("reg.io/a/b".to_owned()), "other.io/x:1", "reg.io/a/c:9", false),
            (remap(), "mirror.io/x/a/b:1", "reg.io/a/b:1", true),
            (remap(), "mirror.io/xy/a/b:1", "reg.io/y/a/b:1", false),
            (remap(), "mirror.io/x/a/b:1", "mirror.io/x/a/b:1", false),
            (remap(), "reg.io/a/b:1", "reg.io/a/b:1", true),
        ];
        for (identity, image, signed, expected) in table {
            let name = image.parse().unwrap();
            assert_eq!(
                identity.accepts(&name, signed),
                expected,
                "{identity:?}: {image} signed as {signed:?}"
            );
        }
    }
}
