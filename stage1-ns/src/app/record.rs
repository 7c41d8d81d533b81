//! What `app` leaves in the attempt's directory.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pod::attempt::{AttemptDir, Started};
use pod::users::IdRange;
use pod::{PodDir, ProcessRef};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::process::Pid;
use stage1::failure::Failure;

/// The control groups of a direct pod's app, one path per line.
const GROUPS: &str = "control-groups";

/// Makes the directories of the writable layer. The upper one becomes the app's `/`, with this mode, and belongs to the
/// pod's root.
pub(super) fn make_layer(attempt: &AttemptDir, users: Option<IdRange>) -> Result<(), Failure> {
    for name in ["upper", "work"] {
        rustix::fs::mkdirat(attempt.fd(), name, Mode::from_raw_mode(0o755))
            .map_err(|e| Failure::other(format!("make the writable layer's {name}: {e}")))?;
    }
    let Some(users) = users else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(users.first), Gid::from_raw(users.first));
    rustix::fs::chownat(attempt.fd(), "upper", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Failure::other(format!("give the writable layer to the pod's root: {e}")))
}

/// Writes `started`: the app's process exists, and everything around it.
pub(super) fn write_started(attempt: &AttemptDir, pid: Pid) -> Result<(), Failure> {
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    let process = ProcessRef::now(pid).ok_or_else(|| Failure::other("the app's process was killed"))?;
    let invocation_id = std::env::var("INVOCATION_ID").ok().filter(|id| !id.is_empty());
    Ok(attempt.write_started(&Started { at: Timestamp::now(), process, invocation_id })?)
}

/// Writes down which control groups are about to be made.
pub(super) fn write_groups<'a>(
    attempt: &AttemptDir,
    groups: impl Iterator<Item = &'a Path>,
) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lines: Vec<u8> = groups.flat_map(|g| [g.as_os_str().as_bytes(), b"\n"].concat()).collect();
    rustix::fs::openat(attempt.fd(), GROUPS, flags, Mode::from_raw_mode(0o640))
        .map_err(std::io::Error::from)
        .and_then(|fd| std::fs::File::from(fd).write_all(&lines))
        .map_err(|e| Failure::other(format!("write {GROUPS}: {e}")))
}

/// The control groups of all attempts of all apps of a pod.
pub(crate) fn groups(pod: &PodDir) -> std::io::Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    let apps = pod.path().join("apps");
    for app in list(&apps)? {
        for attempt in list(&app.join("attempts"))? {
            match std::fs::read(attempt.join(GROUPS)) {
                Ok(text) => {
                    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
                    groups.extend(lines.map(|line| PathBuf::from(OsStr::from_bytes(line))));
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}

fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
