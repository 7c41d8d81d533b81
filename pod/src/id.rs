//! A pod's identity: a random UUID (RFC 9562, version 4), written in lower case with hyphens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The UUID of a pod.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodId(uuid::Uuid);

/// The text is not a whole UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pod UUID")]
pub struct InvalidPodId(String);

impl PodId {
    /// A new, random id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// The first eight characters: what `rkt list` shows.
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

impl FromStr for PodId {
    type Err = InvalidPodId;

    /// Accepts the hyphenated form in either case, and nothing else: a pod has one name.
    fn from_str(text: &str) -> Result<Self, InvalidPodId> {
        let invalid = || InvalidPodId(text.chars().take(64).collect());
        if text.len() != uuid::fmt::Hyphenated::LENGTH {
            return Err(invalid());
        }
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_a_name() {
        let id: PodId = "6F2A1B3C-0000-4000-8000-00000000000a".parse().unwrap();
        assert_eq!(id.to_string(), "6f2a1b3c-0000-4000-8000-00000000000a");
        assert_eq!(id.short(), "6f2a1b3c");
        for bad in ["", "6f2a", "6f2a1b3c000040008000000000000000a", "../../../../../etc/passwd-aaaaaaaaaaa"]
        {
            assert!(bad.parse::<PodId>().is_err(), "{bad}");
        }
    }
}
