//! Small files beneath a directory descriptor: read with a bound, written whole by rename.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No file of a pod is larger than this many bytes; a larger one is not ours.
const MAX: u64 = 16 << 20;

/// A file of a pod could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{act} {name}")]
    Io {
        /// What was being done, as a verb: `read`, `write`, …
        act: &'static str,
        /// The file, relative to the pod's directory.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The content is not what the file should hold.
    #[error("understand {name}")]
    Json {
        /// The file, relative to the pod's directory.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The file is larger than any that we write.
    #[error("read {name}: it has more than {MAX} bytes")]
    TooLarge {
        /// The file, relative to the pod's directory.
        name: String,
    },
}

impl FileError {
    pub(crate) fn io(act: &'static str, name: &str, source: impl Into<std::io::Error>) -> Self {
        Self::Io { act, name: name.to_owned(), source: source.into() }
    }

    /// Whether the file, or the directory it should be in, is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Opens the directory `name` beneath `dir`.
pub(crate) fn open_dir(dir: impl AsFd, name: &str) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| FileError::io("open", name, e))
}

/// Makes the directory `name` beneath `dir`, or takes the one that is there.
pub(crate) fn make_dir(dir: impl AsFd, name: &str, mode: Mode) -> Result<(), FileError> {
    match rustix::fs::mkdirat(dir, name, mode) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(FileError::io("make", name, e)),
    }
}

/// Reads a whole file.
pub(crate) fn read(dir: impl AsFd, name: &str) -> Result<Vec<u8>, FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd =
        rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| FileError::io("read", name, e))?;
    let mut bytes = Vec::new();
    let _ =
        File::from(fd).take(MAX + 1).read_to_end(&mut bytes).map_err(|e| FileError::io("read", name, e))?;
    if bytes.len() as u64 > MAX {
        return Err(FileError::TooLarge { name: name.to_owned() });
    }
    Ok(bytes)
}

/// Reads a file as JSON.
pub(crate) fn read_json<T: DeserializeOwned>(dir: impl AsFd, name: &str) -> Result<T, FileError> {
    serde_json::from_slice(&read(dir, name)?)
        .map_err(|source| FileError::Json { name: name.to_owned(), source })
}

/// Reads a file as JSON; a file that is not there is `None`.
pub(crate) fn read_json_if_there<T: DeserializeOwned>(
    dir: impl AsFd,
    name: &str,
) -> Result<Option<T>, FileError> {
    match read_json(dir, name) {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a file whole: a temporary beside it, then a rename over it. Not durable before [`sync`].
pub(crate) fn write(dir: impl AsFd, name: &str, bytes: &[u8], mode: Mode) -> Result<(), FileError> {
    let temporary = format!("{name}.{}.tmp", std::process::id());
    let result = (|| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::openat(&dir, &temporary, flags, mode)?);
        file.write_all(bytes)?;
        Ok(rustix::fs::renameat(&dir, &temporary, &dir, name)?)
    })();
    result.map_err(|e: std::io::Error| {
        let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
        FileError::io("write", name, e)
    })
}

/// Writes a value as one line of JSON.
pub(crate) fn write_json(
    dir: impl AsFd,
    name: &str,
    value: &impl Serialize,
    mode: Mode,
) -> Result<(), FileError> {
    let mut bytes =
        serde_json::to_vec(value).map_err(|source| FileError::Json { name: name.to_owned(), source })?;
    bytes.push(b'\n');
    write(dir, name, &bytes, mode)
}

/// Makes a file or a directory survive a loss of power.
pub(crate) fn sync(dir: impl AsFd, name: &str) -> Result<(), FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, name, flags, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(|e| FileError::io("make durable", name, e))
}
