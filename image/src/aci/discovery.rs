//! From a name to addresses: meta discovery (appc 0.8, "Meta Discovery").
//!
//! `https://NAME?ac-discovery=1` is asked for, then the path above it, up to the host. A page's `<meta>` tags say where
//! images of names that begin so are (`ac-discovery`: a prefix and a template of addresses) and which keys sign them
//! (`ac-discovery-pubkeys`: a prefix and an address). The first page that says something about the name counts, and of
//! that the first template that can be filled in. Pages are hostile: as much of them is read as anybody needs.

use html5gum::{Token, Tokenizer};

use super::manifest::defaults;
use super::name::AciName;
use crate::platform::Platform;

/// The most of a page that is read.
pub(super) const MAX_PAGE: u64 = 1 << 20;
/// The longest template. One as long as a page could name the image a hundred thousand times.
const MAX_TEMPLATE: usize = 4096;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) aci: String,
    pub(super) signature: String,
}

/// The pages to ask for, in this order, without their scheme.
pub(super) fn pages(name: &str) -> Vec<String> {
    let mut pages = Vec::new();
    let mut rest = Some(name);
    while let Some(page) = rest {
        pages.push(format!("{page}?ac-discovery=1"));
        rest = page.rsplit_once('/').map(|(above, _)| above);
    }
    pages
}

/// Where a page says that the image is.
pub(super) fn endpoint(page: &[u8], name: &AciName, host: &Platform) -> Option<Endpoint> {
    tags(page, "ac-discovery", name.name()).into_iter().find_map(|template| {
        let fill = |ext| filled(&template, name, host, ext);
        Some(Endpoint { aci: fill("aci")?, signature: fill("aci.asc")? })
    })
}

/// Where a page says that the keys for images of this name are.
pub(super) fn keys(page: &[u8], name: &str) -> Vec<String> {
    tags(page, "ac-discovery-pubkeys", name)
}

/// What follows the prefix in each meta tag that is about the name.
fn tags(page: &[u8], kind: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for token in Tokenizer::new(page).flatten() {
        let Token::StartTag(tag) = token else { continue };
        if tag.name.as_slice() != b"meta" {
            continue;
        }
        let attribute = |wanted: &[u8]| {
            let (_, value) = tag.attributes.iter().find(|(name, _)| name.as_slice() == wanted)?;
            String::from_utf8(value.as_slice().to_vec()).ok()
        };
        let (Some(tag), Some(content)) = (attribute(b"name"), attribute(b"content")) else { continue };
        let mut words = content.split_whitespace();
        let (Some(prefix), Some(rest), None) = (words.next(), words.next(), words.next()) else { continue };
        if tag == kind && covers(prefix, name) {
            found.push(rest.to_owned());
        }
    }
    found
}

/// Whether the name is the prefix, or goes on after a slash.
fn covers(prefix: &str, name: &str) -> bool {
    let rest = name.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The address, if everything in the template is known.
fn filled(template: &str, name: &AciName, host: &Platform, ext: &str) -> Option<String> {
    if template.len() > MAX_TEMPLATE {
        return None;
    }
    let mut text = template.replace("{name}", &escaped(name.name())).replace("{ext}", ext);
    let version = name.version().unwrap_or("latest");
    text = text.replace("{version}", &escaped(version));
    for (label, value) in name.labels() {
        text = text.replace(&format!("{{{label}}}"), &escaped(value));
    }
    for (label, value) in defaults(host) {
        text = text.replace(&format!("{{{label}}}"), &escaped(&value));
    }
    let lawful = !text.contains(['{', '}']) && text.bytes().all(|byte| byte > b' ' && byte < 0x7f);
    let http = text.starts_with("https://") || text.starts_with("http://");
    (lawful && http).then_some(text)
}

/// What would end a path, or begin something else, is percent-encoded.
fn escaped(value: &str) -> String {
    use std::fmt::Write as _;
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(char::from(byte)),
            b'/' | b'-' | b'.' | b'_' | b'~' | b'+' | b':' | b'@' | b',' | b'=' => {
                text.push(char::from(byte))
            }
            // Writing to a string does not fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host() -> Platform {
        Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
    }

    fn found(page: &str, name: &str) -> Option<String> {
        endpoint(page.as_bytes(), &AciName::parse(name).unwrap(), &host()).map(|endpoint| endpoint.aci)
    }

    #[test]
    fn names_are_looked_for_from_the_longest_path_up() {
        let expected = ["a.com/b/c?ac-discovery=1", "a.com/b?ac-discovery=1", "a.com?ac-discovery=1"];
        assert_eq!(pages("a.com/b/c"), expected);
    }

    #[test]
    fn templates_are_filled_in() {
        let page = r#"<html><head>
            <meta name="ac-discovery" content="other.com https://other.com/{name}.{ext}">
            <meta name="ac-discovery" content="example.com/ap https://example.com/wrong.{ext}">
            <meta name="ac-discovery" content="example.com https://x/{unknown}.{ext}">
            <META NAME='ignored' content="example.com https://x/">
            <meta content="example.com
               https://e.com/{os}/{arch}/{name}-{version}.{ext}" name="ac-discovery"/>
            <meta name="ac-discovery-pubkeys" content="example.com https://e.com/key.gpg">
            <!-- <meta name="ac-discovery" content="example.com https://comment/"> -->"#;
        let cases = [
            ("example.com/app:1.0", Some("https://e.com/linux/amd64/example.com/app-1.0.aci")),
            ("example.com/app", Some("https://e.com/linux/amd64/example.com/app-latest.aci")),
            ("example.com/app:1,arch=aarch64", Some("https://e.com/linux/aarch64/example.com/app-1.aci")),
            ("example.com/app:1?x#y", Some("https://e.com/linux/amd64/example.com/app-1%3Fx%23y.aci")),
            ("example.com.evil/app", None),
        ];
        for (name, expected) in cases {
            assert_eq!(found(page, name).as_deref(), expected, "{name}");
        }
        assert_eq!(keys(page.as_bytes(), "example.com/app"), ["https://e.com/key.gpg"]);
        assert_eq!(keys(page.as_bytes(), "example.org/app"), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_page_is_read_without_panic(page in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = endpoint(&page, &AciName::parse("example.com/app").unwrap(), &host());
            let open = [b"<meta name=ac-discovery content=\"example.com ".as_slice(), &page].concat();
            let _ = endpoint(&open, &AciName::parse("example.com/app").unwrap(), &host());
        }
    }
}
