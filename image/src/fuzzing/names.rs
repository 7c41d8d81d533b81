//! Words where an image is wanted: what is understood is displayed so that it is understood as the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::aci::{AciName, AciWord};
use crate::digest::{Digest, ImageId};
use crate::reference::{IdPrefix, ImageName, Reference};

/// Parses text as everything that names an image or content.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = stable::<ImageName>(text);
    let _ = stable::<IdPrefix>(text);
    let _ = stable::<Digest>(text);
    let _ = stable::<ImageId>(text);
    if let Ok(name) = AciName::parse(text) {
        let shown = name.to_string();
        assert_eq!(AciName::parse(&shown).as_ref(), Ok(&name), "{text:?} was displayed as {shown:?}");
    }
    if let Ok(Some(word)) = AciWord::parse(text) {
        let shown = word.to_string();
        assert_eq!(AciWord::parse(&shown), Ok(Some(word)), "{text:?} was displayed as {shown:?}");
    }
    if let Some(reference) = stable::<Reference>(text) {
        check(&reference);
    }
}

fn stable<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let first: T = text.parse().ok()?;
    let shown = first.to_string();
    let again = shown.parse::<T>().ok();
    assert_eq!(again.as_ref(), Some(&first), "{text:?} was displayed as {shown:?}");
    Some(first)
}

/// What becomes part of a URL can neither end its part nor leave it.
fn check(reference: &Reference) {
    let host = reference.api_host();
    let of_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    assert!(!host.is_empty() && host.chars().all(of_host), "{host:?} is no host");
    let repository = reference.repository();
    let of_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    assert!(repository.chars().all(of_path), "{repository:?} is no repository");
    let strange = |part: &str| part.is_empty() || part.starts_with('.');
    assert!(!repository.split('/').any(strange), "{repository:?} climbs");
    let of_tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    assert!(reference.tag().is_none_or(|tag| tag.chars().all(of_tag)), "{reference} has no tag");
    assert!(reference.tag().is_some() || reference.digest().is_some(), "{reference} names no image");
}
