//! The keys that are trusted with signing ACIs, laid out as rkt does it:
//!
//! ```text
//! <system or local configuration>/trustedkeys/
//!   root.d/<fingerprint>                  trusted with every image
//!   prefix.d/example.com/a/<fingerprint>  trusted with example.com/a and everything below
//! ```
//!
//! A file's name is the fingerprint of the one key in it, in lower-case hexadecimal digits; its content is ASCII-armored.
//! The system's keys come with packages, the local ones are the administrator's: an empty local file takes trust in that
//! key away, wherever the system says otherwise. Prefixes end between components: a key for `example.com/a` is not one
//! for `example.com/ab`.
//!
//! Files that are neither keys nor hidden are an error: trust must not depend on what is overlooked. Keys are written
//! by rename, so that a reader sees all of one or nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;

use super::openpgp::{self, Certificate, KeyError, OpenPgpError, Signer};

/// The directory within a configuration directory.
pub const KEYSTORE_DIR: &str = "trustedkeys";
/// The longest key file.
const MAX_KEY_FILE: u64 = 1 << 20;

/// The keys of a host. Has no state of its own: what is in the directories counts.
#[derive(Clone, Debug)]
pub struct Keystore {
    system: PathBuf,
    local: PathBuf,
}

/// What a key is trusted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every image.
    Root,
    /// Images of this name, and of names below it.
    Prefix(Prefix),
}

/// The name of an ACI or the beginning of one, at the end of a component: `example.com/a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

/// A trusted key, and where it was found.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The file.
    pub path: PathBuf,
    /// The key.
    pub certificate: Certificate,
}

/// The keystore cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Not the name of an image.
    #[error(
        "{0:?} is not the name of an image: lower-case letters and digits, with single characters of - . _ ~ / between them"
    )]
    Name(String),
    /// A system call failed.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that is no key, or not a good one.
    #[error("cannot trust {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// A file with a name that no key has.
    #[error("{}: a trusted key's file is named by its fingerprint, in lower-case hexadecimal digits", .0.display())]
    FileName(PathBuf),
    /// A file with another key than its name says.
    #[error("{} holds the key {found}, which is not the one that it is named by", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The fingerprint of the key in it.
        found: String,
    },
}

/// An ACI's signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The keys cannot be read.
    #[error("cannot find the keys that are trusted with image {name}")]
    Keystore {
        /// The image.
        name: String,
        /// Why not.
        source: KeystoreError,
    },
    /// The signature is not by a key that is trusted with the image, or not a good one.
    #[error("the signature of image {name} does not count")]
    Signature {
        /// The image.
        name: String,
        /// Why not.
        source: OpenPgpError,
    },
}

impl KeystoreError {
    fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { act, path: path.to_owned(), source }
    }
}

impl FromStr for Prefix {
    type Err = KeystoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let lawful = bytes.iter().all(|byte| word(*byte) || b"-._~/".contains(byte))
            && bytes.first().is_some_and(|byte| word(*byte))
            && bytes.last().is_some_and(|byte| word(*byte))
            && bytes.windows(2).all(|pair| pair.iter().any(|byte| word(*byte)));
        if lawful { Ok(Self(text.to_owned())) } else { Err(KeystoreError::Name(text.to_owned())) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scope {
    /// The directory within the keystore.
    fn dir(&self) -> PathBuf {
        match self {
            Self::Root => PathBuf::from("root.d"),
            Self::Prefix(prefix) => Path::new("prefix.d").join(&prefix.0),
        }
    }
}

impl Keystore {
    /// The keys below two configuration directories (`/usr/lib/rkt`, `/etc/rkt`).
    #[must_use]
    pub fn new(system_config: &Path, local_config: &Path) -> Self {
        Self { system: system_config.join(KEYSTORE_DIR), local: local_config.join(KEYSTORE_DIR) }
    }

    /// Checks the detached signature of an image: made by a key that is trusted with its name, and over exactly what
    /// `content` delivers (for ACIs the file as it is transported).
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn verify(&self, name: &str, content: impl Read, signature: &[u8]) -> Result<Signer, TrustError> {
        let keys =
            self.keys(name).map_err(|source| TrustError::Keystore { name: name.to_owned(), source })?;
        let certificates: Vec<Certificate> = keys.into_iter().map(|key| key.certificate).collect();
        openpgp::verify_detached(&certificates, content, signature, Timestamp::now())
            .map_err(|source| TrustError::Signature { name: name.to_owned(), source })
    }

    /// The keys that are trusted with an image.
    ///
    /// # Errors
    /// If a file that could be one of them is not a key.
    pub fn keys(&self, name: &str) -> Result<Vec<StoredKey>, KeystoreError> {
        let prefix: Prefix = name.parse()?;
        let mut dirs = Vec::new();
        let mut path = PathBuf::from("prefix.d");
        for component in prefix.0.split('/') {
            path.push(component);
            dirs.push(path.clone());
        }
        let root = [Scope::Root.dir()];
        let mut trusted = BTreeMap::new();
        for (base, dirs) in
            [(&self.system, &root[..]), (&self.local, &root[..]), (&self.system, &dirs), (&self.local, &dirs)]
        {
            apply(base, dirs, &mut trusted)?;
        }
        let read = |(name, path): (String, PathBuf)| {
            let certificate = read(&path)?;
            match certificate.fingerprint() {
                found if found == name => Ok(StoredKey { path, certificate }),
                found => Err(KeystoreError::Mismatch { path, found }),
            }
        };
        trusted.into_iter().map(read).collect()
    }

    /// Trusts a key, in the local directory, and returns its file.
    ///
    /// # Errors
    /// If it is not one key in ASCII armor, or cannot be written.
    pub fn trust(&self, scope: &Scope, armored: &[u8]) -> Result<PathBuf, KeystoreError> {
        let dir = self.local.join(scope.dir());
        let certificate = Certificate::parse_armored(armored)
            .map_err(|source| KeystoreError::Key { path: dir.clone(), source })?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&dir)
            .map_err(KeystoreError::io("create", &dir))?;
        let path = dir.join(certificate.fingerprint());
        // Hidden, and so not a key, should we be killed before it is renamed.
        let new = dir.join(format!(".{}.new", std::process::id()));
        let written = write(&new, armored).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        let synced = written.and_then(|()| fs::File::open(&dir)?.sync_all());
        synced.map_err(KeystoreError::io("write", &path))?;
        Ok(path)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Adds the keys of some directories, then takes away those that an empty file masks.
fn apply(
    base: &Path,
    dirs: &[PathBuf],
    trusted: &mut BTreeMap<String, PathBuf>,
) -> Result<(), KeystoreError> {
    let mut masked = Vec::new();
    for dir in dirs {
        for (name, path) in files(&base.join(dir))? {
            let length = fs::metadata(&path).map_err(KeystoreError::io("look at", &path))?.len();
            if length == 0 {
                masked.push(name);
            } else {
                let _ = trusted.insert(name, path);
            }
        }
    }
    for name in masked {
        let _ = trusted.remove(&name);
    }
    Ok(())
}

/// The key files of a directory, which need not exist. Other directories are longer prefixes.
fn files(dir: &Path) -> Result<Vec<(String, PathBuf)>, KeystoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other.map_err(KeystoreError::io("list", dir))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(KeystoreError::io("list", dir))?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.starts_with('.') || path.is_dir() {
            continue;
        }
        if !is_fingerprint(&name) {
            return Err(KeystoreError::FileName(path));
        }
        files.push((name.into_owned(), path));
    }
    Ok(files)
}

fn is_fingerprint(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn read(path: &Path) -> Result<Certificate, KeystoreError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(KeystoreError::io("open", path))?;
    let _ = file.take(MAX_KEY_FILE + 1).read_to_end(&mut bytes).map_err(KeystoreError::io("read", path))?;
    let failed = |source| KeystoreError::Key { path: path.to_owned(), source };
    if bytes.len() as u64 > MAX_KEY_FILE {
        return Err(failed(KeyError::TooLarge));
    }
    Certificate::parse_armored(&bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::Prefix;

    #[test]
    fn prefixes_are_names_of_images() {
        for good in ["example.com", "example.com/a-b/c", "a", "coreos.com/etcd~1"] {
            assert!(good.parse::<Prefix>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", "..", "A", "a b", "a/.b", "https://a", "a\0b"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }
}
