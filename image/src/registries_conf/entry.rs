//! A `[[registry]]`: which references it is about, and where it sends them.

use std::path::{Path, PathBuf};

use super::RegistriesError;
use super::file::{For, Mirror, Table};
use crate::reference::Reference;

/// A place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What to ask for there.
    pub(crate) reference: Reference,
    /// Certificates need not be valid, and plain http will do.
    pub(crate) insecure: bool,
}

/// What is said about the references that begin with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `host`, `host/namespace`, … or `*.domain`.
    pub(super) prefix: String,
    path: PathBuf,
    table: Table,
}

/// That an entry is about a reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    /// The bytes of the reference that a location replaces.
    pub(super) used: usize,
    /// The largest wins.
    pub(super) weight: usize,
}

impl Entry {
    pub(super) fn new(path: &Path, mut table: Table) -> Result<Self, RegistriesError> {
        for text in [&mut table.prefix, &mut table.location] {
            text.truncate(text.trim_end_matches('/').len());
        }
        let prefix = if table.prefix.is_empty() { table.location.clone() } else { table.prefix.clone() };
        let entry = Self { prefix, path: path.to_owned(), table };
        match entry.fault() {
            Some(why) => {
                Err(RegistriesError::Entry { path: entry.path, entry: entry.prefix, why: why.to_owned() })
            }
            None => Ok(entry),
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let Table { location, mirror_by_digest_only, mirror, .. } = &self.table;
        let locations = || mirror.iter().map(|mirror| &mirror.location).chain([location, &self.prefix]);
        let domain = self.prefix.strip_prefix("*.");
        if self.prefix.is_empty() {
            Some("it has neither a prefix nor a location")
        } else if locations().any(|text| text.contains("://")) {
            Some("prefixes and locations have no scheme: write host[:port][/path]")
        } else if domain.unwrap_or(&self.prefix).contains('*')
            || domain.is_some_and(|d| d.contains([':', '/']))
        {
            Some("a wildcard is *.domain, and nothing else")
        } else if domain.is_none() && location.is_empty() {
            Some("a prefix without a wildcard needs a location")
        } else if mirror.iter().any(|mirror| mirror.location.is_empty()) {
            Some("a mirror has no location")
        } else if *mirror_by_digest_only && mirror.iter().any(|m| m.pull_from_mirror != For::All) {
            Some("mirror-by-digest-only and pull-from-mirror exclude each other")
        } else {
            None
        }
    }

    /// Whether this is about a reference.
    pub(super) fn matches(&self, reference: &str) -> Option<Match> {
        let host = reference.find('/')?;
        if let Some(suffix) = self.prefix.strip_prefix('*') {
            let name = reference.get(..host)?;
            let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
            let within = name.len() > suffix.len() && name.ends_with(suffix);
            return within.then_some(Match { used: host, weight: self.prefix.len() });
        }
        let rest = reference.strip_prefix(self.prefix.as_str())?;
        // After the host, a colon begins a port: another host.
        let ends = rest.is_empty() || rest.starts_with(['/', '@']);
        let tagged = rest.starts_with(':') && self.prefix.len() > host;
        // Whoever names a host means that one more than whoever names a domain.
        let used = self.prefix.len();
        (ends || tagged).then_some(Match { used, weight: used + reference.len() })
    }

    /// Where to ask for a reference.
    pub(super) fn endpoints(
        &self,
        reference: &Reference,
        text: &str,
        matched: Match,
    ) -> Result<Vec<Endpoint>, RegistriesError> {
        if self.table.blocked {
            let (prefix, path) = (self.prefix.clone(), self.path.clone());
            return Err(RegistriesError::Blocked { reference: text.to_owned(), prefix, path });
        }
        let rest = text.get(matched.used..).unwrap_or_default();
        let at = |location: &str, insecure| {
            let moved = if location.is_empty() { text.to_owned() } else { format!("{location}{rest}") };
            let reference = Reference::located(&moved).map_err(|source| RegistriesError::Rewrite {
                reference: text.to_owned(),
                prefix: self.prefix.clone(),
                path: self.path.clone(),
                text: moved.clone(),
                source,
            })?;
            Ok(Endpoint { reference, insecure })
        };
        let mirrors = self.table.mirror.iter().filter(|mirror| self.serves(mirror, reference));
        mirrors
            .map(|mirror| at(&mirror.location, mirror.insecure))
            .chain([at(&self.table.location, self.table.insecure)])
            .collect()
    }

    fn serves(&self, mirror: &Mirror, reference: &Reference) -> bool {
        match (mirror.pull_from_mirror, reference.digest().is_some()) {
            (For::All, by_digest) => by_digest || !self.table.mirror_by_digest_only,
            (For::Digests, by_digest) => by_digest,
            (For::Tags, by_digest) => !by_digest,
        }
    }
}
