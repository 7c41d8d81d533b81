//! Owners, modes, times and extended attributes, and when they need no system call.

use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, utimensat,
};

use super::{Refusal, UnpackError};
use crate::tarball::Entry;

/// Set-user-id, set-group-id, sticky.
const SPECIAL: u32 = 0o7000;

/// What an entry says about its inode, checked.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub(super) mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    /// `security.capability` and `user.*`.
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the kernel gives to whatever this process makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creator {
    owner: (u32, u32),
    umask: u32,
}

impl Creator {
    pub(super) fn current() -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { owner, umask: umask().unwrap_or(0o777) }
    }

    /// Whether a file made with `mode` has it.
    fn gives(&self, mode: u32) -> bool {
        mode & (self.umask | SPECIAL) == 0
    }
}

/// From /proc: asking the kernel directly would change it for a moment, under the feet of other threads.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let text = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(text.trim(), 8).ok()
}

impl Metadata {
    pub(super) fn of(entry: &Entry) -> Result<Self, UnpackError> {
        let refuse = |refusal| UnpackError::refused(&entry.path, refusal);
        // The highest number means "leave it" to chown(2).
        let id = |id: u64| {
            u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| refuse(Refusal::Owner))
        };
        let mut xattrs = Vec::new();
        for (name, value) in &entry.xattrs {
            if name.starts_with(b"trusted.") || name.starts_with(b"user.overlay.") {
                return Err(refuse(Refusal::TrustedXattr));
            }
            if name == b"security.capability" || name.starts_with(b"user.") {
                xattrs.push((name.clone(), value.clone()));
            }
        }
        let owner = (id(entry.uid)?, id(entry.gid)?);
        Ok(Self { mode: entry.mode & 0o7777, owner, mtime: entry.mtime, xattrs })
    }

    /// For a file that was just written. In this order: writing and chown take setuid and capabilities away.
    pub(super) fn apply_to_file(
        &self,
        fd: impl AsFd,
        creator: &Creator,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        if self.owner != creator.owner {
            self.chown(&fd, name)?;
        }
        if !creator.gives(self.mode) {
            fchmod(&fd, Mode::from_raw_mode(self.mode))
                .map_err(UnpackError::system("set the mode of", name))?;
        }
        self.set_xattrs(&fd, name)?;
        futimens(&fd, &self.times()).map_err(UnpackError::system("set the time of", name))
    }

    pub(super) fn has_xattrs(&self) -> bool {
        !self.xattrs.is_empty()
    }

    /// Sets the extended attributes now and lets go of them: what waits for the end of the archive must be small.
    pub(super) fn apply_xattrs(&mut self, fd: impl AsFd, name: &[u8]) -> Result<(), UnpackError> {
        self.set_xattrs(fd, name)?;
        self.xattrs = Vec::new();
        Ok(())
    }

    /// At the end of the archive.
    pub(super) fn apply_to_directory(
        &self,
        fd: impl AsFd,
        creator: &Creator,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        if self.owner != creator.owner {
            self.chown(&fd, name)?;
        }
        fchmod(&fd, Mode::from_raw_mode(self.mode)).map_err(UnpackError::system("set the mode of", name))?;
        futimens(&fd, &self.times()).map_err(UnpackError::system("set the time of", name))
    }

    /// For what cannot be opened: links and nodes, which have neither been written to nor extended attributes.
    pub(super) fn apply_to_name(
        &self,
        dir: impl AsFd,
        name: &[u8],
        creator: &Creator,
        entry: &[u8],
    ) -> Result<(), UnpackError> {
        if self.owner != creator.owner {
            let (uid, gid) = self.ids();
            chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(UnpackError::system("change the owner of", entry))?;
        }
        utimensat(&dir, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(UnpackError::system("set the time of", entry))
    }

    fn chown(&self, fd: impl AsFd, name: &[u8]) -> Result<(), UnpackError> {
        let (uid, gid) = self.ids();
        fchown(fd, Some(uid), Some(gid)).map_err(UnpackError::system("change the owner of", name))
    }

    fn ids(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1))
    }

    fn set_xattrs(&self, fd: impl AsFd, name: &[u8]) -> Result<(), UnpackError> {
        for (key, value) in &self.xattrs {
            fsetxattr(&fd, key.as_slice(), value, XattrFlags::empty())
                .map_err(UnpackError::system("set an extended attribute of", name))?;
        }
        Ok(())
    }

    fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1.into() },
        }
    }
}
