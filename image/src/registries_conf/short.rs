//! Names without a registry: `nginx`, `me/tool:1`.
//!
//! 1. An alias says what is meant.
//! 2. Otherwise it is the registry of the search list, if there is one only; docker.io, if no file configures any.
//! 3. With several, what the store already has under one of the full names is meant; else nothing is: the names to
//!    choose from are told.

use std::path::PathBuf;

use super::{Registries, Search};
use crate::reference::{self, ImageName, Reference, ReferenceError};

/// A word from which no image can be told.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It breaks the grammar.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// It could mean several images.
    #[error("{name:?} names no registry, and {} lists several: choose from {}", path.display(), candidates.join(", "))]
    Ambiguous {
        /// What was written.
        name: String,
        /// The file with the list.
        path: PathBuf,
        /// What could be meant.
        candidates: Vec<String>,
    },
    /// It could mean none.
    #[error(
        "{name:?} names no registry, and {} lists none to search: write it in full, as in {example}, or list one registry in unqualified-search-registries",
        path.display()
    )]
    Unlisted {
        /// What was written.
        name: String,
        /// The file without a list.
        path: PathBuf,
        /// What it would be at docker.io.
        example: String,
    },
}

impl Registries {
    /// What a word on a command line means. `has` tells whether the store has an image of that name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn name(&self, text: &str, has: &dyn Fn(&ImageName) -> bool) -> Result<ImageName, NameError> {
        let name: ImageName = text.parse()?;
        match &name {
            ImageName::Registry(hub) if Reference::is_short(text) => {
                Ok(ImageName::Registry(self.long(text, hub, has)?))
            }
            _ => Ok(name),
        }
    }

    /// The reference that a short one stands for. `hub` is the same at docker.io.
    fn long(
        &self,
        text: &str,
        hub: &Reference,
        has: &dyn Fn(&ImageName) -> bool,
    ) -> Result<Reference, NameError> {
        if let Some(target) = self.aliases.get(reference::untagged(text)) {
            return Ok(target.with_version_of(hub));
        }
        let Search::Listed { registries, file } = &self.search else { return Ok(hub.clone()) };
        let candidates: Vec<Reference> =
            registries.iter().map(|registry| in_registry(registry, text)).collect::<Result<_, _>>()?;
        let path = file.clone();
        match candidates.as_slice() {
            [] => Err(NameError::Unlisted { name: text.to_owned(), path, example: hub.to_string() }),
            [only] => Ok(only.clone()),
            several => {
                let stored: Vec<&Reference> =
                    several.iter().filter(|r| has(&ImageName::Registry((*r).clone()))).collect();
                match stored.as_slice() {
                    [only] => Ok((*only).clone()),
                    _ => {
                        let candidates = several.iter().map(ToString::to_string).collect();
                        Err(NameError::Ambiguous { name: text.to_owned(), path, candidates })
                    }
                }
            }
        }
    }
}

fn in_registry(registry: &str, text: &str) -> Result<Reference, ReferenceError> {
    Reference::located(&format!("{registry}/{text}"))
}
