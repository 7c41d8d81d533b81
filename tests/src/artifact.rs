//! Where the harness finds what was built, and where it keeps what is expensive to make.
//!
//! Everything derives from the running executable, so that debug, release and a foreign
//! `CARGO_TARGET_DIR` work alike: tests and benches are `<target>/<profile>/deps/<name>`, binaries
//! `<target>/<profile>/<name>`.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// The directory of the binaries under test, `<target>/<profile>`.
///
/// # Errors
///
/// When the running executable cannot be found, or is not in a directory.
pub fn binaries() -> Result<PathBuf> {
    let exe = env::current_exe().context("cannot find the running executable")?;
    let directory = exe.parent().context("the running executable is in no directory")?;
    let in_subfolder = directory.ends_with("deps") || directory.ends_with("examples");
    let directory = if in_subfolder { directory.parent().unwrap_or(directory) } else { directory };
    Ok(directory.to_owned())
}

/// One of the binaries of this workspace.
///
/// # Errors
///
/// When it has not been built; the error says how to.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binaries()?.join(name);
    if !path.is_file() {
        bail!("{} is not built: run `cargo build --workspace` (with --release for benches)", path.display());
    }
    Ok(path)
}

/// The cargo target directory: the parent of the profile's.
///
/// # Errors
///
/// When the running executable cannot be found.
pub fn target() -> Result<PathBuf> {
    let profile = binaries()?;
    Ok(profile.parent().unwrap_or(&profile).to_owned())
}

/// The cache outside the tree: `$XDG_CACHE_HOME/rktnetes` or `~/.cache/rktnetes`. Everything in it can be
/// made again; delete it at will while no tests run.
///
/// # Errors
///
/// When it cannot be made.
pub fn cache() -> Result<PathBuf> {
    let home = || env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = base.unwrap_or_else(|| home().join(".cache")).join("rktnetes");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make the cache {}", cache.display()))?;
    Ok(cache)
}

/// Makes `cache()/name` by `make` unless it is there. Processes that want it at once wait for one maker;
/// it appears by rename, complete or not at all.
///
/// # Errors
///
/// When the cache cannot be written, or `make` fails.
pub fn cached(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = cache()?.join(name);
    if path.exists() {
        return Ok(path);
    }
    let parent = path.parent().context("a cache entry needs a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let lock_path = beside(&path, "lock");
    let lock =
        fs::File::create(&lock_path).with_context(|| format!("cannot open {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
    if !path.exists() {
        let staging = beside(&path, "new");
        remove(&staging)?;
        fs::create_dir(&staging).with_context(|| format!("cannot make {}", staging.display()))?;
        make(&staging).with_context(|| format!("cannot make {name} for the cache"))?;
        fs::rename(&staging, &path).with_context(|| format!("cannot name {}", path.display()))?;
    }
    Ok(path)
}

/// Removes a directory tree that need not be there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// `path` with another ending after its whole name, dots and all.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
