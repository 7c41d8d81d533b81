//! What an operator may write where an image is wanted.
//!
//! | text | means |
//! |---|---|
//! | `nginx`, `nginx:1.27`, `host:5000/a/b:tag@sha256:…`, with or without `docker://` or `docker:` | a registry's repository |
//! | `oci:PATH[:TAG]` | a directory in the OCI image layout |
//! | `oci-archive:PATH[:TAG]` | a tar file of such a directory, plain or compressed |
//! | `docker-archive:PATH[:REF]` | a tar file made by `docker save` or `skopeo copy` |
//! | `aci:…`, `https://….aci`, a path, and more | an ACI: see [`crate::AciWord`] |
//! | `sha256-<2 to 64 hex>`, `sha512-<2 to 128 hex>`, with `:` too | an image of the store, by its id or the beginning of it |
//!
//! The grammar of references is that of the distribution project (lower-case repositories of at most 255 bytes, tags
//! of at most 128). A name without a registry means docker.io, unless `registries.conf` says otherwise
//! ([`crate::Registries::name`]), a docker.io name without a slash is in `library/`, and a reference with neither tag
//! nor digest means the tag `latest`. Parsing touches no disk and no network.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::aci::{AciNameError, AciWord};
use crate::digest::{Algorithm, Digest, DigestError, ImageId};

/// The registry that is meant when a reference names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// What stands between the algorithm and the digits of an id.
const ID_SEPARATORS: &[char] = &['-', ':'];

/// A repository of a registry, and which of its images. Displayed in full: `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The beginning of an image id: an algorithm and at least 2 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdPrefix {
    algorithm: Algorithm,
    hex: String,
}

/// Where an image is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// In a registry.
    Registry(Reference),
    /// In a directory that follows the OCI image layout.
    Oci {
        /// The directory.
        path: PathBuf,
        /// The value of `org.opencontainers.image.ref.name` that names the image; needed when there are several.
        tag: Option<String>,
    },
    /// In a tar file of such a directory.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// As for a directory.
        tag: Option<String>,
    },
    /// In a tar file as `docker save` writes it.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// The repository tag that names the image; needed when there are several.
        name: Option<String>,
    },
    /// An ACI.
    Aci(AciWord),
    /// In the store, under this id.
    Id(IdPrefix),
}

/// Text that names no image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// There is no text.
    #[error("an image name must not be empty")]
    Empty,
    /// The part before the first slash looks like a registry's address and is not one.
    #[error("{name:?}: {host:?} is not a registry's host name and port")]
    Registry {
        /// The whole text.
        name: String,
        /// The part at fault.
        host: String,
    },
    /// The repository breaks the grammar.
    #[error(
        "{name:?}: {repository:?} is not a repository: lower-case letters, digits and separators (. _ -) between slashes"
    )]
    Repository {
        /// The whole text.
        name: String,
        /// The part at fault.
        repository: String,
    },
    /// The tag breaks the grammar.
    #[error("{name:?}: {tag:?} is not a tag: letters, digits, . _ - and at most 128 of them")]
    Tag {
        /// The whole text.
        name: String,
        /// The part at fault.
        tag: String,
    },
    /// What follows the `@` is not a digest.
    #[error("{name:?}: not an image by digest")]
    Digest {
        /// The whole text.
        name: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A word that can only mean an ACI names none.
    #[error(transparent)]
    Aci(#[from] AciNameError),
    /// Not the beginning of an image id.
    #[error(
        "{0:?} is not an image id: at least 2 lower-case hexadecimal digits must follow \"sha256-\" or \"sha512-\""
    )]
    Id(String),
    /// `oci:`, `oci-archive:` or `docker-archive:` without a path, or with an empty tag.
    #[error(
        "{0:?} names no file: expected oci:PATH[:TAG], oci-archive:PATH[:TAG] or docker-archive:PATH[:REF]"
    )]
    Path(String),
}

impl Reference {
    /// Whether this is a reference that names neither a registry nor, by its scheme, the default one.
    #[must_use]
    pub fn is_short(text: &str) -> bool {
        let scheme = text.starts_with("docker:");
        matches!(text.parse(), Ok(ImageName::Registry(_))) && !scheme && split_registry(text).is_none()
    }

    /// The registry as written: `docker.io`, `host:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` if neither tag nor digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index. It wins over the tag.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// A reference whose first part is its registry, whatever it looks like: configuration needs no guessing.
    pub(crate) fn located(text: &str) -> Result<Self, ReferenceError> {
        match text.split_once('/') {
            Some((registry, path)) => complete(text, registry, path),
            None => Err(ReferenceError::Registry { name: text.to_owned(), host: text.to_owned() }),
        }
    }

    /// Itself, if whoever reads what is displayed understands the same. A host without dot and port could be the
    /// beginning of a repository: it can be asked, but not be part of a name.
    pub(crate) fn nameable(self) -> Result<Self, ReferenceError> {
        let name = self.to_string();
        match name.parse::<Self>() {
            Ok(read) if read == self => Ok(self),
            _ => Err(ReferenceError::Registry { name, host: self.registry }),
        }
    }

    /// This repository, with the tag and the digest of another.
    pub(crate) fn with_version_of(&self, other: &Self) -> Self {
        Self { tag: other.tag.clone(), digest: other.digest, ..self.clone() }
    }

    /// Where the registry answers: docker.io's API is served by another host.
    #[must_use]
    pub fn api_host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { &self.registry }
    }
}

impl IdPrefix {
    /// The hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The id, if all of it is there.
    #[must_use]
    pub fn complete(&self) -> Option<ImageId> {
        let id = Digest::from_hex(&self.hex).ok().map(ImageId::new);
        id.filter(|id| self.fits(*id))
    }

    /// Whether this id begins so.
    #[must_use]
    pub fn fits(&self, id: ImageId) -> bool {
        id.digest().algorithm() == self.algorithm && id.digest().hex().starts_with(&self.hex)
    }
}

impl ImageName {
    /// The directory or file that the image is in, if it is in one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Oci { path, .. } | Self::OciArchive { path, .. } | Self::DockerArchive { path, .. } => {
                Some(path)
            }
            Self::Aci(AciWord::File(path)) => Some(path),
            _ => None,
        }
    }
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(word) = AciWord::parse(text)? {
            return Ok(Self::Aci(word));
        }
        if let Some(rest) = text.strip_prefix("cimd:docker:v=0:") {
            return rest.parse().map(Self::Registry);
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = split_path(text, rest)?;
            return Ok(Self::Oci { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = split_path(text, rest)?;
            return Ok(Self::OciArchive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = split_path(text, rest)?;
            return Ok(Self::DockerArchive { path, name });
        }
        if Algorithm::split(text, ID_SEPARATORS).is_some() {
            return text.parse().map(Self::Id);
        }
        text.parse().map(Self::Registry)
    }
}

/// Paths end at the first colon: what follows may hold colons itself.
fn split_path(text: &str, rest: &str) -> Result<(PathBuf, Option<String>), ReferenceError> {
    let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
    if path.is_empty() || name == Some("") || rest.contains('\0') {
        return Err(ReferenceError::Path(text.to_owned()));
    }
    Ok((PathBuf::from(path), name.map(str::to_owned)))
}

impl FromStr for IdPrefix {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lawful = |hex: &str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match Algorithm::split(text, ID_SEPARATORS) {
            Some((algorithm, hex)) if (2..=algorithm.digits()).contains(&hex.len()) && lawful(hex) => {
                Ok(Self { algorithm, hex: hex.to_owned() })
            }
            _ => Err(ReferenceError::Id(text.to_owned())),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix("docker://").or_else(|| text.strip_prefix("docker:")).unwrap_or(text);
        match split_registry(bare) {
            Some((registry, path)) => complete(text, registry, path),
            None => complete(text, DEFAULT_REGISTRY, bare),
        }
    }
}

/// A registry, and what follows the first slash.
fn complete(text: &str, registry: &str, path: &str) -> Result<Reference, ReferenceError> {
    if path.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let registry = match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        other if is_host(other) => other,
        other => return Err(ReferenceError::Registry { name: text.to_owned(), host: other.to_owned() }),
    };
    let (path, digest) = path.split_once('@').map_or((path, None), |(path, digest)| (path, Some(digest)));
    let wrong = |source| ReferenceError::Digest { name: text.to_owned(), source };
    let digest: Option<Digest> = digest.map(str::parse).transpose().map_err(wrong)?;
    let (repository, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
    let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    if !is_repository(&repository) {
        return Err(ReferenceError::Repository { name: text.to_owned(), repository });
    }
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Tag { name: text.to_owned(), tag: tag.to_owned() });
    }
    let tag = tag.or(if digest.is_none() { Some("latest") } else { None }).map(str::to_owned);
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// The part before the first slash is a registry if it could be nothing else: a dot, a colon, a capital, `localhost`.
fn split_registry(bare: &str) -> Option<(&str, &str)> {
    let (first, path) = bare.split_once('/')?;
    // A digest has colons, too, and no slash.
    let address = first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|byte| byte.is_ascii_uppercase());
    address.then_some((first, path))
}

/// A short name without its tag and digest.
pub(crate) fn untagged(text: &str) -> &str {
    let text = text.split_once('@').map_or(text, |(text, _)| text);
    text.split_once(':').map_or(text, |(text, _)| text)
}

/// Whether this can be the registry of a name.
pub(crate) fn check_registry(text: &str) -> Result<(), ReferenceError> {
    Reference::located(&format!("{text}/x"))?.nameable().map(|_| ())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, after)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => match after.strip_prefix(':') {
            Some(port) => ("v6", Some(port)),
            None if after.is_empty() => ("v6", None),
            None => return false,
        },
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let decimal = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    host.len() <= 253 && host.split('.').all(label) && port.is_none_or(decimal)
}

fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_component)
}

/// Letters and digits, with single dots, one or two underscores or any number of dashes between them.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let runs = bytes.split(alphanumeric).filter(|run| !run.is_empty());
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && runs
            .into_iter()
            .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.algorithm, self.hex)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, name) = match self {
            Self::Registry(reference) => return fmt::Display::fmt(reference, f),
            Self::Id(id) => return fmt::Display::fmt(id, f),
            Self::Aci(word) => return fmt::Display::fmt(word, f),
            Self::Oci { path, tag } => ("oci", path, tag),
            Self::OciArchive { path, tag } => ("oci-archive", path, tag),
            Self::DockerArchive { path, name } => ("docker-archive", path, name),
        };
        write!(f, "{scheme}:{}", path.display())?;
        name.iter().try_for_each(|name| write!(f, ":{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_completed() {
        let digest = format!("host:5000/a/b@sha256:{HEX}");
        let both = format!("host:5000/a/b:tag@sha256:{HEX}");
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("docker://nginx", "docker.io/library/nginx:latest"),
            ("docker:nginx:1", "docker.io/library/nginx:1"),
            ("me/tool", "docker.io/me/tool:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/me/tool:x", "docker.io/me/tool:x"),
            ("localhost/tool", "localhost/tool:latest"),
            ("localhost:5000/tool:V_1.0-x", "localhost:5000/tool:V_1.0-x"),
            ("127.0.0.1:5000/a__b/c--d/e.f", "127.0.0.1:5000/a__b/c--d/e.f:latest"),
            ("[::1]:5000/tool", "[::1]:5000/tool:latest"),
            ("Quay/tool", "Quay/tool:latest"),
            (&digest, &digest),
            (&both, &both),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), expected, "{text}");
        }
        let hub: Reference = "nginx".parse().unwrap();
        assert_eq!((hub.registry(), hub.api_host()), ("docker.io", "registry-1.docker.io"));
    }

    #[test]
    fn words_are_understood() {
        let name = |text: &str| text.parse::<ImageName>().unwrap();
        assert_eq!(name("cimd:docker:v=0:busybox").to_string(), "docker.io/library/busybox:latest");
        assert!(matches!(name("./a"), ImageName::Aci(AciWord::File(_))));
        assert_eq!(name("oci:/a/b"), ImageName::Oci { path: "/a/b".into(), tag: None });
        assert_eq!(name("oci:b:v1"), ImageName::Oci { path: "b".into(), tag: Some("v1".into()) });
        assert_eq!(
            name("docker-archive:/x.tar:busybox:latest"),
            ImageName::DockerArchive { path: "/x.tar".into(), name: Some("busybox:latest".into()) }
        );
        let prefix = |algorithm| ImageName::Id(IdPrefix { algorithm, hex: "ab".into() });
        assert_eq!(name("sha256-ab"), prefix(Algorithm::Sha256));
        assert_eq!(name("sha512:ab"), prefix(Algorithm::Sha512));
        // What rkt prints of an ACI's id is half of it.
        let ImageName::Id(half) = name(&format!("sha512-{HEX}")) else { panic!("not an id") };
        let whole = format!("sha512-{HEX}{HEX}").parse().unwrap();
        assert!(half.complete().is_none() && half.fits(whole));
        assert!(!half.fits(format!("sha256-{HEX}").parse().unwrap()));
        let ImageName::Id(id) = name(&format!("sha256:{HEX}")) else { panic!("not an id") };
        assert_eq!(id.complete().unwrap().to_string(), format!("sha256-{HEX}"));
        assert_eq!(name("oci-archive:/x.tar"), ImageName::OciArchive { path: "/x.tar".into(), tag: None });
        for text in
            ["oci:/a/b:v1", "oci-archive:/x.tar:v1", "docker-archive:/x.tar:busybox:latest", "sha256-ab01"]
        {
            assert_eq!(name(text).to_string(), text);
        }
    }

    #[test]
    fn what_names_no_image_is_refused() {
        let long = "a/".repeat(128);
        for bad in [
            "",
            "docker://",
            "docker:",
            "UPPER",
            "a b",
            "a//b",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:",
            "a:-x",
            "a@sha256:00",
            "a@",
            "host:port/a",
            "ho_st:1/a",
            "host:99999/a",
            "host:/a:b:c",
            "[::1/a",
            "[zz]/a",
            "..",
            "a/../b",
            "a\nb",
            "a%b",
            "oci:",
            "oci::x",
            "oci:/a:",
            "docker-archive:",
            "sha256-a",
            "sha256-XY",
            "sha256-",
            "é",
            &long,
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?} was accepted");
        }
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_parsed_back(
            host in "([a-z]{1,8}\\.){1,3}[a-z]{2,4}(:[1-9][0-9]{0,3})?",
            path in "[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,2}(/[a-z0-9]{1,6}){0,3}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            digest in prop::option::of(any::<[u8; 8]>()),
        ) {
            let mut text = format!("{host}/{path}");
            text.extend(tag.iter().map(|tag| format!(":{tag}")));
            text.extend(digest.iter().map(|seed| format!("@{}", Digest::of(seed))));
            let parsed: Reference = text.parse().unwrap();
            prop_assert_eq!(parsed.to_string().parse::<Reference>().unwrap(), parsed);
        }

        #[test]
        fn any_text_is_parsed_without_panic_and_round_trips(text in ".{0,80}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.to_string().parse::<ImageName>().unwrap(), name);
            }
        }
    }
}
