//! Files that appear complete or not at all, and survive a crash once they have appeared.
//!
//! Written in `tmp/`, synced, renamed, and the directory synced. Callers hold a [`super::Pin`]: garbage collection, which
//! has the store to itself, may therefore remove any `*.new` in `tmp/`.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The ending of files being written.
pub(super) const NEW: &str = "new";

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Replaces `path`.
pub(super) fn replace(tmp: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = format!("{}-{}.{NEW}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let new = tmp.join(name);
    let outcome = write(&new, bytes).and_then(|()| std::fs::rename(&new, path));
    if outcome.is_err() {
        // On a full disk this is what makes room again.
        let _ = std::fs::remove_file(&new);
    }
    outcome?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Who may read is decided by the directories, not by somebody's umask.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
