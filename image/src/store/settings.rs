//! What an operator may say about the store: `store.d/*.json` in a configuration directory.
//!
//! ```json
//! { "rktKind": "store", "rktVersion": "v1", "keepLayerBlobs": false }
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// How a store is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Whether layers are kept as they were transported, beside their trees.
    pub keep_layer_blobs: bool,
}

/// The configuration of the store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreSettingsError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("cannot understand {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file is of another kind or version.
    #[error("{} must have rktKind \"store\" and rktVersion \"v1\"", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Two files of one directory say the same thing.
    #[error("{}: keepLayerBlobs was already given in this directory", path.display())]
    Duplicate {
        /// The second file.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SettingsFile {
    rkt_kind: String,
    rkt_version: String,
    keep_layer_blobs: Option<bool>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { keep_layer_blobs: true }
    }
}

impl StoreSettings {
    /// Reads `store.d` of each of these directories, the most important first: what it says counts.
    ///
    /// # Errors
    /// [`StoreSettingsError`].
    pub fn read(config_dirs: &[PathBuf]) -> Result<Self, StoreSettingsError> {
        for dir in config_dirs {
            if let Some(keep_layer_blobs) = read_dir(&dir.join("store.d"))? {
                return Ok(Self { keep_layer_blobs });
            }
        }
        Ok(Self::default())
    }
}

fn read_dir(dir: &Path) -> Result<Option<bool>, StoreSettingsError> {
    let unreadable = |source| StoreSettingsError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json") && path.is_file());
    paths.sort();
    let mut found = None;
    for path in paths {
        if let Some(keep) = read_file(&path)?
            && found.replace(keep).is_some()
        {
            return Err(StoreSettingsError::Duplicate { path });
        }
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<Option<bool>, StoreSettingsError> {
    let bytes =
        std::fs::read(path).map_err(|source| StoreSettingsError::Read { path: path.to_owned(), source })?;
    let file: SettingsFile = serde_json::from_slice(&bytes)
        .map_err(|source| StoreSettingsError::Parse { path: path.to_owned(), source })?;
    if (file.rkt_kind.as_str(), file.rkt_version.as_str()) != ("store", "v1") {
        return Err(StoreSettingsError::Kind { path: path.to_owned() });
    }
    Ok(file.keep_layer_blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::create_dir_all(dir.join("store.d")).unwrap();
        std::fs::write(dir.join("store.d").join(name), text).unwrap();
    }

    #[test]
    fn the_most_important_directory_that_says_something_counts() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ["user", "local", "system"].map(|name| dir.path().join(name));
        assert_eq!(StoreSettings::read(&dirs).unwrap(), StoreSettings { keep_layer_blobs: true });
        let text = |keep: &str| format!(r#"{{"rktKind":"store","rktVersion":"v1"{keep}}}"#);
        write(&dirs[2], "a.json", &text(r#","keepLayerBlobs":false"#));
        write(&dirs[1], "a.json", &text(""));
        write(&dirs[1], "ignored.txt", "nonsense");
        assert_eq!(StoreSettings::read(&dirs).unwrap(), StoreSettings { keep_layer_blobs: false });
        write(&dirs[0], "a.json", &text(r#","keepLayerBlobs":true"#));
        assert_eq!(StoreSettings::read(&dirs).unwrap(), StoreSettings { keep_layer_blobs: true });
        write(&dirs[0], "b.json", &text(r#","keepLayerBlobs":true"#));
        assert!(matches!(StoreSettings::read(&dirs), Err(StoreSettingsError::Duplicate { .. })));
        write(&dirs[0], "b.json", r#"{"rktKind":"auth","rktVersion":"v1"}"#);
        assert!(matches!(StoreSettings::read(&dirs), Err(StoreSettingsError::Kind { .. })));
        write(&dirs[0], "b.json", "{");
        assert!(matches!(StoreSettings::read(&dirs), Err(StoreSettingsError::Parse { .. })));
    }
}
