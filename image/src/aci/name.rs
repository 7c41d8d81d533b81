//! What ACIs are called, and the words for them on a command line.
//!
//! | text | means |
//! |---|---|
//! | `aci:NAME[:VERSION][,LABEL=VALUE…]` | an image that is found by its name: in the store, or by discovery |
//! | `cimd:appc:v=0:NAME[?LABEL=VALUE&…]` | the same, as rkt writes it |
//! | `https://….aci`, `http://….aci`, `cimd:aci-archive:v=0:URL` | an archive on a server |
//! | `file:///….aci`, `/PATH`, `./PATH`, `../PATH`, `PATH.aci` | an archive on this machine |
//!
//! A name is an AC identifier (appc 0.8, "AC Identifier Type"): lower-case letters and digits, with single `-._~/`
//! between them. Labels are sorted, so that one image has one text. Parsing touches no disk and no network.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use pod::manifest::Label;

/// The longest name, version or label. appc sets no limit; these become file names and parts of URLs.
const MAX: usize = 512;
/// More labels than anybody needs.
const MAX_LABELS: usize = 64;

/// A name and the labels that an image of that name must have. Displayed as `NAME[:VERSION][,LABEL=VALUE…]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AciName {
    name: String,
    labels: BTreeMap<String, String>,
}

/// An ACI on a command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AciWord {
    /// By its name.
    Named(AciName),
    /// On a server: an http or https URL.
    Url(String),
    /// In a file.
    File(PathBuf),
}

/// Text that names no ACI.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AciNameError {
    /// The name breaks the grammar.
    #[error(
        "{0:?} is not the name of an ACI: lower-case letters and digits, with single \"-._~/\" between them"
    )]
    Name(String),
    /// A label has no value, or not one that can be part of a URL.
    #[error("{0:?} is not a label: expected NAME=VALUE, without spaces and commas in the value")]
    Label(String),
    /// A label is given twice, the version perhaps once after a colon and once as a label.
    #[error("label {0:?} is given twice")]
    Twice(String),
    /// There are more labels than anybody needs.
    #[error("an ACI has at most {MAX_LABELS} labels")]
    TooMany,
    /// The URL is not that of an ACI.
    #[error("invalid image string {0:?}: the path of the URL must end in .aci")]
    Url(String),
    /// The URI names nothing that is known.
    #[error("{0:?} is not known: cimd:appc:v=0:…, cimd:aci-archive:v=0:… and cimd:docker:v=0:… are")]
    Cimd(String),
}

impl AciName {
    /// A name with labels.
    ///
    /// # Errors
    /// [`AciNameError`].
    pub fn new(name: &str, labels: &[Label]) -> Result<Self, AciNameError> {
        if !is_identifier(name) {
            return Err(AciNameError::Name(cut(name)));
        }
        let mut this = Self { name: name.to_owned(), labels: BTreeMap::new() };
        labels.iter().try_for_each(|label| this.label(&label.name, &label.value))?;
        Ok(this)
    }

    /// Parses `NAME[:VERSION][,LABEL=VALUE…]`.
    ///
    /// # Errors
    /// [`AciNameError`].
    pub fn parse(text: &str) -> Result<Self, AciNameError> {
        let (base, labels) = text.split_once(',').map_or((text, None), |(base, rest)| (base, Some(rest)));
        let (name, version) = base.split_once(':').map_or((base, None), |(name, v)| (name, Some(v)));
        let mut this = Self::new(name, &[])?;
        if let Some(version) = version {
            this.label("version", version)?;
        }
        for label in labels.into_iter().flat_map(|labels| labels.split(',')) {
            let (key, value) = label.split_once('=').ok_or_else(|| AciNameError::Label(cut(label)))?;
            this.label(key, value)?;
        }
        Ok(this)
    }

    fn label(&mut self, name: &str, value: &str) -> Result<(), AciNameError> {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ',';
        if !is_identifier(name) || value.is_empty() || value.len() > MAX || !value.chars().all(plain) {
            return Err(AciNameError::Label(cut(&format!("{name}={value}"))));
        }
        if self.labels.len() >= MAX_LABELS {
            return Err(AciNameError::TooMany);
        }
        match self.labels.insert(name.to_owned(), value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(AciNameError::Twice(name.to_owned())),
        }
    }

    /// The name without labels.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The labels, the version among them.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The version, if one is asked for.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.labels.get("version").map(String::as_str)
    }
}

impl AciWord {
    /// Understands a word that can only mean an ACI. Nothing for any other.
    ///
    /// # Errors
    /// [`AciNameError`] if it can only mean an ACI, and does not name one.
    pub fn parse(text: &str) -> Result<Option<Self>, AciNameError> {
        let url = text.starts_with("http://") || text.starts_with("https://");
        if let Some(name) = text.strip_prefix("aci:") {
            return AciName::parse(name).map(Self::Named).map(Some);
        }
        if let Some(rest) = text.strip_prefix("cimd:") {
            return cimd(text, rest);
        }
        if url {
            let path = text.split(['?', '#']).next().unwrap_or(text);
            let odd = text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
            return match path.ends_with(".aci") && !odd {
                true => Ok(Some(Self::Url(text.to_owned()))),
                false => Err(AciNameError::Url(cut(text))),
            };
        }
        if let Some(path) = text.strip_prefix("file://") {
            return match path.starts_with('/') && path.ends_with(".aci") && !path.contains('\0') {
                true => Ok(Some(Self::File(path.into()))),
                false => Err(AciNameError::Url(cut(text))),
            };
        }
        let path = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
        let file = path || text.ends_with(".aci") && !text.contains(':');
        Ok((file && !text.contains('\0')).then(|| Self::File(text.into())))
    }
}

/// Distribution points, as rkt writes them. Those of docker are not ours: the caller asks for the rest.
fn cimd(text: &str, rest: &str) -> Result<Option<AciWord>, AciNameError> {
    let unknown = || AciNameError::Cimd(cut(text));
    let data = |kind: &str| rest.strip_prefix(kind)?.strip_prefix(":v=0:");
    if let Some(url) = data("aci-archive") {
        let url = decoded(url).ok_or_else(unknown)?;
        return match AciWord::parse(&url)? {
            Some(word @ (AciWord::Url(_) | AciWord::File(_))) => Ok(Some(word)),
            _ => Err(unknown()),
        };
    }
    let Some(name) = data("appc") else {
        return if data("docker").is_some() { Ok(None) } else { Err(unknown()) };
    };
    let (name, labels) = name.split_once('?').map_or((name, None), |(name, rest)| (name, Some(rest)));
    let mut this = AciName::new(&decoded(name).ok_or_else(unknown)?, &[])?;
    for label in labels.into_iter().flat_map(|labels| labels.split('&')) {
        let (key, value) = label.split_once('=').ok_or_else(|| AciNameError::Label(cut(label)))?;
        this.label(&decoded(key).ok_or_else(unknown)?, &decoded(value).ok_or_else(unknown)?)?;
    }
    Ok(Some(AciWord::Named(this)))
}

/// Undoes percent-encoding. Nothing if it is malformed.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// An AC identifier.
pub(super) fn is_identifier(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let lawful = |byte: u8| word(byte) || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| word(*byte));
    bytes.len() <= MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| lawful(*byte))
        && bytes.windows(2).all(|pair| pair.iter().any(|byte| word(*byte)))
}

/// As much of hostile text as an error needs.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

impl fmt::Display for AciName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.version().iter().try_for_each(|version| write!(f, ":{version}"))?;
        let others = self.labels.iter().filter(|(name, _)| *name != "version");
        others.into_iter().try_for_each(|(name, value)| write!(f, ",{name}={value}"))
    }
}

impl fmt::Display for AciWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "aci:{name}"),
            Self::Url(url) => f.write_str(url),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(text: &str) -> String {
        AciWord::parse(text).unwrap().map_or_else(|| "-".to_owned(), |word| word.to_string())
    }

    #[test]
    fn words_for_acis() {
        for (text, expected) in [
            ("aci:coreos.com/etcd", "aci:coreos.com/etcd"),
            ("aci:coreos.com/etcd:v2.3.7", "aci:coreos.com/etcd:v2.3.7"),
            ("aci:a,os=linux,arch=amd64,version=1", "aci:a:1,arch=amd64,os=linux"),
            ("cimd:appc:v=0:coreos.com/etcd?version=v3&arch=amd64", "aci:coreos.com/etcd:v3,arch=amd64"),
            ("cimd:aci-archive:v=0:https%3A%2F%2Fexample.com%2Fa.aci", "https://example.com/a.aci"),
            ("cimd:aci-archive:v=0:file%3A%2F%2F%2Fa.aci", "/a.aci"),
            ("cimd:docker:v=0:busybox", "-"),
            ("https://example.com/a.aci?x=1", "https://example.com/a.aci?x=1"),
            ("file:///tmp/a.aci", "/tmp/a.aci"),
            ("/tmp/image", "/tmp/image"),
            ("./image", "./image"),
            ("../image", "../image"),
            ("dir/image.aci", "dir/image.aci"),
            ("nginx", "-"),
            ("nginx:1.aci", "-"),
            ("host:5000/a/b", "-"),
            ("oci:/tmp/x", "-"),
        ] {
            assert_eq!(word(text), expected, "{text}");
        }
    }

    #[test]
    fn what_can_only_be_an_aci_and_is_none_is_refused() {
        for text in [
            "aci:",
            "aci:UPPER",
            "aci:a..b",
            "aci:a/",
            "aci:a:",
            "aci:a:1:2,version=3",
            "aci:a,b",
            "aci:a,b=",
            "aci:a,b=c d",
            "aci:a:1,version=2",
            "https://example.com/",
            "http://example.com/image.tar",
            "https://example.com/a b.aci",
            "file://host/a.aci",
            "file:///a",
            "cimd:",
            "cimd:appc:v=1:a",
            "cimd:appc:v=0:%zz",
            "cimd:aci-archive:v=0:nginx",
        ] {
            assert!(AciWord::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_parsed_back(text in "(aci:|cimd:appc:v=0:|/|./|https://)?[ -~]{0,40}") {
            if let Ok(Some(word)) = AciWord::parse(&text) {
                prop_assert_eq!(AciWord::parse(&word.to_string()), Ok(Some(word)));
            }
        }
    }
}
