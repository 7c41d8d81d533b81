//! passwd(5) and group(5) of an image: opened inside the root, read with a bound, parsed without trust.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::UserError;
use crate::target;

/// Accounts.
pub(super) const PASSWD: &str = "/etc/passwd";
/// Groups.
pub(super) const GROUP: &str = "/etc/group";

/// The most that is read of a database, bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// A line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// The text of a database; empty when the image has none.
pub(super) fn read(root: impl AsFd, file: &'static str) -> Result<String, UserError> {
    // A fifo would block the open, a terminal would become ours.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match target::open(root, file, flags) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(e) => return Err(UserError::Read(file, e.into())),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| UserError::Read(file, e.into()))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && !is_kernels(&fd);
    if !is_file || u64::try_from(stat.st_size).is_ok_and(|size| size > MAX_FILE) {
        return Err(UserError::NotAFile(file));
    }
    let mut bytes = Vec::new();
    let _ = std::fs::File::from(fd)
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(|e| UserError::Read(file, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A link of the image can lead to the app's procfs or sysfs, where reading does things: /proc/kmsg takes the messages of
/// the host's kernel away from whoever they are for.
fn is_kernels(fd: impl AsFd) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    let kind = rustix::fs::fstatfs(fd).ok().and_then(|s| u64::try_from(s.f_type).ok());
    kind.is_none_or(|kind| kind == PROC || kind == SYSFS)
}

/// passwd(5): name, password, uid, gid, comment, home, shell. Broken lines are no accounts.
pub(super) fn accounts(text: &str) -> Vec<Account> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).unwrap_or_default();
        (!name.is_empty()).then(|| Account { name: name.to_owned(), uid, gid, home: home.to_owned() })
    };
    text.lines().filter_map(account).collect()
}

/// group(5): name, password, gid, members.
pub(super) fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        Some((name, fields.next()?.parse().ok()?, fields.next().unwrap_or_default()))
    })
}
