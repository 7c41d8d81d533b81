//! What the operator says about registries: `registries.conf`, version 2, as podman, skopeo and CRI-O read it.
//!
//! [`Registries::of_host`] reads the first of `/etc/containers/registries.conf` and
//! `/usr/share/containers/registries.conf`, and then `/etc/containers/registries.conf.d/*.conf` in the order of their
//! names: a later file replaces the search list and `[[registry]]` entries of the same prefix, and adds to the aliases.
//! `CONTAINERS_REGISTRIES_CONF` names the only file to be read instead.
//!
//! Two questions are answered from it, neither with a network or a disk:
//!
//! * [`Registries::name`]: what a name without a registry stands for. Never a guess between registries, whatever
//!   `short-name-mode` says: what could mean several things is refused with the list of what it could mean.
//! * `Registries::endpoints`: where the bytes of a reference are asked for: mirrors, then the place itself, or nowhere.

mod entry;
mod file;
mod short;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::reference::{Reference, ReferenceError};

pub(crate) use entry::Endpoint;
use entry::Entry;
pub use short::NameError;

/// Where the file is looked for.
const FILES: [&str; 2] = ["/etc/containers/registries.conf", "/usr/share/containers/registries.conf"];
/// Where further files are.
const DROP_INS: &str = "/etc/containers/registries.conf.d";
/// Names the only file, in the environment.
const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";

/// What is known about registries. The default knows nothing: short names are docker.io's, as docker has it.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    entries: Vec<Entry>,
    aliases: BTreeMap<String, Reference>,
    search: Search,
    warnings: Vec<String>,
}

/// Which registries a short name may be in.
#[derive(Clone, Debug, Default)]
enum Search {
    /// No file was there to say it.
    #[default]
    Unconfigured,
    /// The list, possibly empty, of the last file that has one, or else of the first file.
    Listed { registries: Vec<String>, file: PathBuf },
}

/// A configuration file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// It is in the format of long ago.
    #[error(
        "{}: [registries.{table}] is of version 1 of the format, which is not supported: use unqualified-search-registries and [[registry]]",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// `search`, `insecure` or `block`.
        table: String,
    },
    /// An entry contradicts itself or another.
    #[error("{}: [[registry]] {entry:?}: {why}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Its prefix or location.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name in the file is no name.
    #[error("{}: {what} {text:?} is not usable", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// `alias`, `unqualified-search-registries`.
        what: &'static str,
        /// The text.
        text: String,
        /// Why not.
        source: ReferenceError,
    },
    /// The operator forbids it.
    #[error("{reference} is blocked by the entry {prefix:?} of {}", path.display())]
    Blocked {
        /// What was asked for.
        reference: String,
        /// The entry.
        prefix: String,
        /// Its file.
        path: PathBuf,
    },
    /// An entry leads to something that is no reference.
    #[error("the entry {prefix:?} of {} makes {text:?} of {reference}", path.display())]
    Rewrite {
        /// What was asked for.
        reference: String,
        /// The entry.
        prefix: String,
        /// Its file.
        path: PathBuf,
        /// What it became.
        text: String,
        /// Why that is no reference.
        source: ReferenceError,
    },
}

impl Registries {
    /// Reads the files of this host.
    ///
    /// # Errors
    /// [`RegistriesError`].
    pub fn of_host() -> Result<Self, RegistriesError> {
        match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::read(&[PathBuf::from(path)]),
            None => {
                let mut files: Vec<PathBuf> =
                    FILES.iter().map(PathBuf::from).find(|path| path.exists()).into_iter().collect();
                files.extend(drop_ins(Path::new(DROP_INS))?);
                Self::read(&files)
            }
        }
    }

    /// Reads these files, the most important last.
    ///
    /// # Errors
    /// [`RegistriesError`].
    pub fn read(files: &[PathBuf]) -> Result<Self, RegistriesError> {
        let mut all = Self::default();
        for path in files {
            let unreadable = |source| RegistriesError::Read { path: path.clone(), source };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            all.add(path, &text)?;
        }
        Ok(all)
    }

    /// Adds what one file says.
    pub(crate) fn add(&mut self, path: &Path, text: &str) -> Result<(), RegistriesError> {
        let file = file::parse(path, text)?;
        self.warnings.extend(
            file.unknown.iter().map(|key| format!("{}: {key} is not known, and ignored", path.display())),
        );
        for entry in file.entries {
            self.entries.retain(|known| known.prefix != entry.prefix);
            self.entries.push(entry);
        }
        for (name, target) in file.aliases {
            let _ = match target {
                Some(target) => self.aliases.insert(name, target),
                None => self.aliases.remove(&name),
            };
        }
        match (file.search, &self.search) {
            (Some(registries), _) => self.search = Search::Listed { registries, file: path.to_owned() },
            (None, Search::Unconfigured) => {
                self.search = Search::Listed { registries: Vec::new(), file: path.to_owned() };
            }
            (None, Search::Listed { .. }) => {}
        }
        Ok(())
    }

    /// What an operator should hear once: keys that are not understood.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Where to ask for `reference`, in this order.
    ///
    /// # Errors
    /// [`RegistriesError::Blocked`], [`RegistriesError::Rewrite`].
    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, RegistriesError> {
        let text = reference.to_string();
        let best = self.entries.iter().filter_map(|entry| Some((entry.matches(&text)?, entry)));
        match best.max_by_key(|(matched, _)| matched.weight) {
            Some((matched, entry)) => entry.endpoints(reference, &text, matched),
            None => Ok(vec![Endpoint { reference: reference.clone(), insecure: false }]),
        }
    }
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, RegistriesError> {
    let unreadable = |source| RegistriesError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(unreadable)?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf") && path.is_file());
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
