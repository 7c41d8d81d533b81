//! The mounts of `config.json`, made in the order in which they are listed (runtime-spec, config.md, "mounts").
//!
//! Every mount is made detached, as a descriptor (fsmount(2), open_tree(2)), gets its attributes there, and is moved
//! (move_mount(2)) onto a descriptor of its target, which [`crate::target`] found inside the root. No path is looked up
//! twice, and no mount is ever visible with fewer restrictions than it shall have.

mod bind;
mod control_groups;
mod filesystem;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use pod::stage1::status;
use rustix::fs::OFlags;
use rustix::mount::{MountAttrFlags, MoveMountFlags};

use crate::devices::DeviceAccess;
use crate::failure::{Failure, StepError};
use crate::mount_options::{MountOptions, OptionError};
use crate::rootfs::Root;
use crate::staging::{Staged, Staging, StagingError};
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
    /// The ids of what shall be bound cannot be mapped: its files would be nobody's.
    #[error(
        "give {origin}, which is to be mounted on {target}, to the pod's users: the kernel cannot map ids on its file \
         system; use ext4, xfs, btrfs, tmpfs since Linux 6.3, an \"empty\" volume, or no --private-users",
        origin = .origin.display(), target = .target.display()
    )]
    MapIds {
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
    /// It lies in the staging area still.
    #[error("mount {target}: it was not taken from the staging area", target = .0.display())]
    Staged(PathBuf),
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

/// What the mounts of an app depend on besides its config.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Whether device nodes shall be devices.
    pub devices: DeviceAccess,
    /// The pod's user namespace.
    pub users: Option<BorrowedFd<'a>>,
}

/// The mounts of a config, understood, and what they bind opened.
#[derive(Debug)]
pub struct Planned<'a> {
    steps: Vec<Step<'a>>,
}

#[derive(Debug)]
struct Step<'a> {
    target: &'a Path,
    options: MountOptions,
    what: What<'a>,
}

#[derive(Debug)]
enum What<'a> {
    Bind(OwnedFd),
    Staged(Staged),
    ControlGroups,
    FileSystem { kind: &'a str, source: &'a Path },
}

impl<'a> Planned<'a> {
    /// Parses the list, and opens what is to be bound while the mounts still belong to the host's peer groups: a volume
    /// that shall go on exchanging mounts with the host could not do so later. Relative sources are relative to
    /// `bundle`, as the runtime-spec says.
    pub fn of(
        mounts: &'a [Mount],
        bundle: &Path,
        circumstances: Circumstances<'_>,
    ) -> Result<Self, MountError> {
        let step = |mount| Step::of(mount, bundle, circumstances);
        Ok(Self { steps: mounts.iter().map(step).collect::<Result<_, _>>()? })
    }

    /// Leaves everything that is bound in the staging area, as restricted as it shall be.
    pub fn stage(&mut self, staging: &mut Staging) -> Result<(), Failure> {
        for step in &mut self.steps {
            let What::Bind(tree) = &step.what else { continue };
            bind::restrict(tree, &step.options).map_err(|e| step.refused("bind", e))?;
            step.options =
                MountOptions { data: std::mem::take(&mut step.options.data), ..Default::default() };
            step.what = What::Staged(staging.put(tree)?);
        }
        Ok(())
    }

    /// Takes it from there.
    pub fn take_staged(&mut self) -> Result<(), StagingError> {
        for step in &mut self.steps {
            if let What::Staged(staged) = &step.what {
                step.what = What::Bind(staged.take()?);
            }
        }
        Ok(())
    }

    /// Makes the mounts.
    pub fn mount(self, root: &Root) -> Result<Mounted, MountError> {
        let mut mounted = Mounted::default();
        for Step { target, options, what } in self.steps {
            match what {
                What::Bind(tree) => {
                    bind::mount(root, &tree, target, &options)?;
                    if is_at(target, "/dev") {
                        mounted.dev = Dev::Foreign;
                    }
                }
                What::Staged(_) => return Err(MountError::Staged(target.to_owned())),
                What::ControlGroups => drop(control_groups::mount(root, target, &options)?),
                What::FileSystem { kind, source } => {
                    let made = filesystem::mount(root, kind, source, target, &options)?;
                    match kind {
                        "proc" if is_at(target, "/proc") => mounted.proc = Some(made),
                        "tmpfs" if is_at(target, "/dev") => mounted.dev = Dev::Own(made),
                        _ => {}
                    }
                }
            }
        }
        Ok(mounted)
    }
}

impl<'a> Step<'a> {
    fn refused(&self, kind: &str, e: rustix::io::Errno) -> MountError {
        MountError::Mount { kind: kind.to_owned(), target: self.target.to_owned(), source: e.into() }
    }

    fn of(mount: &'a Mount, bundle: &Path, circumstances: Circumstances<'_>) -> Result<Self, MountError> {
        let target = mount.destination();
        let mut options = MountOptions::parse(mount.options().iter().flatten())
            .map_err(|source| MountError::Options { target: target.clone(), source })?;
        let kind = mount.typ().as_deref().unwrap_or("none");
        let what = if kind == "bind" || options.bind.is_some() {
            What::Bind(bind::open(&bundle.join(source_of(mount)), target, &mut options, circumstances)?)
        } else if matches!(kind, "cgroup" | "cgroup2") {
            What::ControlGroups
        } else {
            // Terminals are devices that the kernel makes; nobody can make others there.
            if circumstances.devices == DeviceAccess::Closed && kind != "devpts" {
                options.attributes.set |= MountAttrFlags::MOUNT_ATTR_NODEV;
            }
            What::FileSystem { kind, source: source_of(mount) }
        };
        Ok(Self { target, options, what })
    }
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
