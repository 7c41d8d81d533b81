//! Compiled filters, kept as files: `/run/rkt/seccomp/<key>`.
//!
//! The directory belongs to root and is closed to everybody else; a directory or file that does not look like that is
//! not used. The key is a digest of everything that the result depends on: the profile, libseccomp's version, the
//! architecture, and the version of our own compiler. Files appear by rename, whole. /run is empty after a reboot, so
//! that a new kernel starts with a new cache. A cache that cannot be used costs time, and nothing else.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;

use oci_spec::runtime::LinuxSeccomp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};
use sys::seccomp::Program;

/// Counts changes of how profiles are compiled.
const COMPILER: u32 = 1;

const RUN: &str = "/run/rkt";
const DIR: &str = "/run/rkt/seccomp";

/// No program is larger: 4096 instructions of 8 bytes.
const MAX: u64 = 4096 * 8;

/// A file's name.
#[derive(Debug)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn of(profile: &LinuxSeccomp) -> Result<Self, serde_json::Error> {
        let mut digest = Sha256::new();
        let library = libseccomp::ScmpVersion::current().map_or_else(|_| String::new(), |v| v.to_string());
        digest.update(format!("{COMPILER} {library} {}\n", std::env::consts::ARCH));
        digest.update(serde_json::to_vec(profile)?);
        let mut name = String::with_capacity(64);
        for byte in digest.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Ok(Self(name))
    }
}

/// The filter, if it was compiled before.
pub(super) fn load(key: &Key) -> Option<Program> {
    let dir = open_dir()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, &key.0, flags, Mode::empty()).ok()?;
    if !is_private(&file, FileType::RegularFile) {
        return None;
    }
    let mut bytes = Vec::with_capacity(8192);
    let _ = std::fs::File::from(file).take(MAX + 1).read_to_end(&mut bytes).ok()?;
    Program::from_bytes(&bytes).ok()
}

/// Keeps the filter for the next start.
pub(super) fn store(key: &Key, bytes: &[u8]) {
    let _ = rustix::fs::mkdir(RUN, Mode::from_raw_mode(0o755));
    let _ = rustix::fs::mkdir(DIR, Mode::from_raw_mode(0o700));
    let Some(dir) = open_dir() else { return };
    let temporary = format!("{}.{}.tmp", key.0, std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(&dir, &temporary, flags, Mode::from_raw_mode(0o600)) else { return };
    let written = std::fs::File::from(file).write_all(bytes).is_ok()
        && rustix::fs::renameat(&dir, &temporary, &dir, &key.0).is_ok();
    if !written {
        let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
    }
}

fn open_dir() -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, DIR, flags, Mode::empty()).ok()?;
    is_private(&dir, FileType::Directory).then_some(dir)
}

/// Ours, and nobody else can write to it.
fn is_private(fd: &OwnedFd, kind: FileType) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|s| {
        FileType::from_raw_mode(s.st_mode) == kind
            && s.st_uid == rustix::process::geteuid().as_raw()
            && s.st_mode & 0o077 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(json: serde_json::Value) -> String {
        Key::of(&serde_json::from_value(json).unwrap()).unwrap().0
    }

    #[test]
    fn another_profile_has_another_key() {
        let a = key(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}));
        assert_eq!(a, key(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"})));
        assert_ne!(a, key(serde_json::json!({"defaultAction": "SCMP_ACT_LOG"})));
        assert_eq!(a.len(), 64);
    }
}
