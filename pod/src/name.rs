//! Names of apps and volumes: appc's AC Name, bounded so that a unit name, a host name and a file name can hold it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name as appc's schema allows it: `^[a-z0-9]+([-][a-z0-9]+)*$`, at most 63 bytes.
///
/// What it cannot contain is the point: no slash, dot, space, `%`, newline or leading dash, so that it can become a file
/// name, a part of a unit name and a log identifier as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

/// The text cannot name an app or a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name has no characters.
    #[error("a name cannot be empty")]
    Empty,
    /// The name has more than 63 characters.
    #[error("the name {0:?} has more than 63 characters")]
    TooLong(String),
    /// The name has a character, or a dash in a place, that appc does not allow.
    #[error("the name {0:?} may only have lower-case letters, digits, and single dashes between them")]
    Character(String),
}

impl AppName {
    /// The longest name, in bytes: a DNS label, as Kubernetes' container names.
    pub const MAX: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest valid name: lower case, every run of other characters a dash. `None` when nothing is left.
    ///
    /// This is how rkt derives an app's name from an image's: the last component of the path.
    pub fn sanitize(text: &str) -> Option<Self> {
        let mut name = String::new();
        for c in text.chars().map(|c| c.to_ascii_lowercase()) {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                name.push(c);
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
        }
        name.truncate(Self::MAX);
        name.trim_end_matches('-').parse().ok()
    }
}

impl FromStr for AppName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > Self::MAX {
            return Err(InvalidName::TooLong(text.chars().take(80).collect()));
        }
        let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !text.split('-').all(part) {
            return Err(InvalidName::Character(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for AppName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> String {
        name.0
    }
}

impl AsRef<str> for AppName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for good in ["a", "nginx", "a-b", "0", "web-2-x"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "a--b", "A", "a.b", "a/b", "..", "a\n", "a%n", "ä", "a b", "a\0", &long]
        {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sanitizing_keeps_what_it_can() {
        assert_eq!(AppName::sanitize("Busy_Box:1.36").unwrap().as_str(), "busy-box-1-36");
        assert_eq!(AppName::sanitize("__"), None);
    }

    proptest! {
        #[test]
        fn sanitize_yields_only_names(text in ".*") {
            if let Some(name) = AppName::sanitize(&text) {
                prop_assert_eq!(name.as_str().parse::<AppName>().unwrap(), name);
            }
        }
    }
}
