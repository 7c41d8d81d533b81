//! The mounts of `config.json`, made in the order in which they are listed (runtime-spec, config.md, "mounts").
//!
//! Every mount is made detached, as a descriptor (fsmount(2), open_tree(2)), gets its attributes there, and is moved
//! (move_mount(2)) onto a descriptor of its target, which [`crate::target`] found inside the root. No path is looked up
//! twice, and no mount is ever visible with fewer restrictions than it shall have.

mod bind;
mod control_groups;
mod filesystem;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use pod::stage1::status;
use rustix::fs::OFlags;
use rustix::mount::MoveMountFlags;

use crate::failure::StepError;
use crate::mount_options::{MountOptions, OptionError};
use crate::rootfs::Root;
use crate::target::{self, Kind};

/// A mount of `config.json` could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// An option cannot be obeyed.
    #[error("mount {target}", target = .target.display())]
    Options {
        /// Where.
        target: PathBuf,
        /// Which.
        source: OptionError,
    },
    /// The place to mount on could not be opened or made.
    #[error("open the mount point {target} in the app's root", target = .target.display())]
    Target {
        /// Where.
        target: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The image has a link where the kernel's file systems go.
    #[error("mount {target}: the image has a symbolic link there", target = .0.display())]
    TargetIsLink(PathBuf),
    /// What shall be bound is not there.
    #[error("open {origin}, which is to be mounted on {target}", origin = .origin.display(), target = .target.display())]
    Source {
        /// What.
        origin: PathBuf,
        /// Where to.
        target: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("mount {kind} on {target}", target = .target.display())]
    Mount {
        /// The type.
        kind: String,
        /// Where.
        target: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The control groups of this process could not be read.
    #[error("mount the control groups on {target}", target = .target.display())]
    ControlGroups {
        /// Where.
        target: PathBuf,
        /// Why.
        source: crate::control_group::ControlGroupError,
    },
}

impl StepError for MountError {
    const STATUS: u8 = status::NAMESPACE;
}

/// What the mounts tell the later steps.
#[derive(Debug, Default)]
pub struct Mounted {
    /// procfs at `/proc`, for what has to be written there.
    pub proc: Option<OwnedFd>,
    /// Who owns `/dev`.
    pub dev: Dev,
}

/// What `/dev` is.
#[derive(Debug, Default)]
pub enum Dev {
    /// A part of the root.
    #[default]
    Root,
    /// A tmpfs of the app's own.
    Own(OwnedFd),
    /// Somebody else's: nothing is made in it.
    Foreign,
}

/// Makes the mounts. Relative sources are relative to `bundle`, as the runtime-spec says.
pub fn mount_all(root: &Root, mounts: &[Mount], bundle: &Path) -> Result<Mounted, MountError> {
    let mut mounted = Mounted::default();
    for mount in mounts {
        let target = mount.destination();
        let options = MountOptions::parse(mount.options().iter().flatten())
            .map_err(|source| MountError::Options { target: target.clone(), source })?;
        let kind = mount.typ().as_deref().unwrap_or("none");
        if kind == "bind" || options.bind.is_some() {
            bind::mount(root, &bundle.join(source_of(mount)), target, &options)?;
            if is_at(target, "/dev") {
                mounted.dev = Dev::Foreign;
            }
            continue;
        }
        let made = match kind {
            "cgroup" | "cgroup2" => control_groups::mount(root, target, &options)?,
            _ => filesystem::mount(root, kind, source_of(mount), target, &options)?,
        };
        match kind {
            "proc" if is_at(target, "/proc") => mounted.proc = Some(made),
            "tmpfs" if is_at(target, "/dev") => mounted.dev = Dev::Own(made),
            _ => {}
        }
    }
    Ok(mounted)
}

fn source_of(mount: &Mount) -> &Path {
    mount.source().as_deref().unwrap_or(Path::new("none"))
}

fn is_at(target: &Path, place: &str) -> bool {
    target.components().eq(Path::new(place).components())
}

/// Finds or makes the directory to mount a file system on. The kernel's own may not be reached through a link: what the
/// later steps do in /proc must be done to procfs.
fn directory(root: &Root, target: &Path, kind: &str) -> Result<OwnedFd, MountError> {
    let error = |e: rustix::io::Errno| MountError::Target { target: target.to_owned(), source: e.into() };
    if matches!(kind, "proc" | "sysfs" | "cgroup" | "cgroup2") {
        match target::open_without_links(root, target, OFlags::PATH | OFlags::DIRECTORY) {
            Err(rustix::io::Errno::LOOP) => return Err(MountError::TargetIsLink(target.to_owned())),
            Err(rustix::io::Errno::NOENT) => {}
            result => return result.map_err(error),
        }
    }
    target::open_or_make(root, target, Kind::Directory).map_err(error)
}

/// Attaches a detached mount.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

pub(crate) use filesystem::detached;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_by_their_names() {
        assert!(is_at(Path::new("/dev/"), "/dev"));
        assert!(is_at(Path::new("/./dev"), "/dev"));
        assert!(!is_at(Path::new("/dev/pts"), "/dev"));
    }
}
