//! `/dev` of an app: the devices that every runtime must provide, those that the config adds, and the usual links
//! (runtime-spec, config-linux.md, "Default Devices").
//!
//! Devices are made in the directory's descriptor. In a `/dev` that is not the app's own (a privileged pod that mounts
//! the host's) nothing is made.
//!
//! The default capabilities have CAP_MKNOD: an app could make a node for the host's disk and open it. Other runtimes
//! forbid that with the device controller, which takes a control group (and in the unified hierarchy a BPF program) per
//! app. Here everything that the app can write to is mounted `nodev`, and each device it shall have is a mount of its
//! own without it: a node that the app makes is no device ([`DeviceAccess::Closed`]).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use pod::stage1::status;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::process::{Gid, Uid};
use sys::mount_attributes::{self, Change, Reach};

use crate::failure::StepError;
use crate::mounts::{Dev, attach};
use crate::rootfs::Root;
use crate::target::{self, Kind};

/// A device of the app could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The root has no usable /dev.
    #[error("open /dev in the app's root")]
    Dev(#[source] std::io::Error),
    /// The node or link could not be made.
    #[error("make the device {path}", path = .path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The config asks for a node that is none, or with numbers that no device has.
    #[error("{0:?} in linux.devices is not a device that can be made")]
    Invalid(PathBuf),
}

impl StepError for DeviceError {
    const STATUS: u8 = status::NAMESPACE;
}

/// Whether nodes that the app makes or finds are devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Only those that were made for it.
    Closed,
    /// All: the config allows every device, as it does for privileged apps.
    Open,
}

impl DeviceAccess {
    /// Open when the last rule of `linux.resources.devices` for all devices allows them.
    pub fn of(resources: Option<&LinuxResources>) -> Self {
        let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
        let is_for_all = |rule: &&LinuxDeviceCgroup| {
            matches!(rule.typ(), None | Some(LinuxDeviceType::A))
                && rule.major().is_none_or(|n| n < 0)
                && rule.minor().is_none_or(|n| n < 0)
        };
        match rules.iter().rev().find(is_for_all) {
            Some(rule) if rule.allow() => Self::Open,
            _ => Self::Closed,
        }
    }
}

/// Name, major and minor number (Linux's devices.txt); all character devices, 0666.
const DEFAULT: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the devices. `console`: a terminal of the host that becomes `/dev/console`.
pub fn make_all(
    root: &Root,
    dev: &Dev,
    extra: &[LinuxDevice],
    console: Option<BorrowedFd<'_>>,
) -> Result<(), DeviceError> {
    let opened;
    let dir = match dev {
        Dev::Foreign => return Ok(()),
        Dev::Own(fd) => fd,
        Dev::Root => {
            opened = target::open_or_make(root, "/dev", Kind::Directory)
                .map_err(|e| DeviceError::Dev(e.into()))?;
            &opened
        }
    };
    for (name, major, minor) in DEFAULT {
        make_default(dir, name, rustix::fs::makedev(*major, *minor)).map_err(|e| error(name, e))?;
    }
    for (name, to) in LINKS {
        match rustix::fs::symlinkat(*to, dir, *name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(error(name, e)),
        }
    }
    extra.iter().try_for_each(|device| make_extra(root, device))?;
    console.map_or(Ok(()), |terminal| bind_console(dir, terminal).map_err(|e| error("console", e)))
}

fn error(name: &str, e: Errno) -> DeviceError {
    DeviceError::Make { path: Path::new("/dev").join(name), source: e.into() }
}

/// Makes a node, or binds the host's where nodes may not be made (a container without the right).
fn make_default(dir: &OwnedFd, name: &str, device: u64) -> rustix::io::Result<()> {
    match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device) {
        Ok(()) | Err(Errno::EXIST) => enable(dir, name.as_ref(), device),
        Err(Errno::PERM) => {
            let host = rustix::mount::open_tree(CWD, Path::new("/dev").join(name), CLONE)?;
            check(&host, device)?;
            crate::null_device::restrict(&host)?;
            attach(&host, make_file(dir, name)?)
        }
        Err(e) => Err(e),
    }
}

/// Puts a mount of the node over the node, without `nodev`.
fn enable(dir: &OwnedFd, name: &OsStr, device: u64) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    check(&node, device)?;
    let mount = rustix::mount::open_tree(&node, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?;
    let change = Change { clear: MountAttrFlags::MOUNT_ATTR_NODEV, ..Change::new(Reach::Mount) };
    mount_attributes::change(&mount, &change)?;
    attach(&mount, &node)
}

/// What is there must be the device that was meant: an image can have had a file of that name.
fn check(node: impl AsFd, device: u64) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(node)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    if is_device && stat.st_rdev == device { Ok(()) } else { Err(Errno::NODEV) }
}

fn make_extra(root: &Root, device: &LinuxDevice) -> Result<(), DeviceError> {
    let path = device.path();
    let invalid = || DeviceError::Invalid(path.clone());
    let failed = |e: Errno| DeviceError::Make { path: path.clone(), source: e.into() };
    let (parent, name) = (path.parent().ok_or_else(invalid)?, path.file_name().ok_or_else(invalid)?);
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(invalid()),
    };
    let number = |n: i64| u32::try_from(n).map_err(|_| invalid());
    let numbers = rustix::fs::makedev(number(device.major())?, number(device.minor())?);
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777);
    let dir = target::open_or_make(root, parent, Kind::Directory).map_err(failed)?;
    match rustix::fs::mknodat(&dir, name, kind, mode, numbers) {
        Ok(()) => {}
        // One of the defaults, named again.
        Err(Errno::EXIST) => return Ok(()),
        Err(e) => return Err(failed(e)),
    }
    let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
    rustix::fs::chownat(&dir, name, uid, gid, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if kind == FileType::Fifo { Ok(()) } else { enable(&dir, name, numbers).map_err(failed) }
}

/// Puts the terminal itself, by its descriptor, at /dev/console: no path of the image is followed.
fn bind_console(dir: &OwnedFd, terminal: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let path = rustix::termios::ttyname(terminal, Vec::new())?;
    let source = rustix::mount::open_tree(CWD, path.as_c_str(), CLONE)?;
    let (theirs, ours) = (rustix::fs::fstat(&source)?, rustix::fs::fstat(terminal)?);
    if theirs.st_rdev != ours.st_rdev {
        return Err(Errno::NOTTY);
    }
    attach(&source, make_file(dir, "console")?)
}

fn make_file(dir: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(devices: serde_json::Value) -> DeviceAccess {
        DeviceAccess::of(Some(&serde_json::from_value(serde_json::json!({ "devices": devices })).unwrap()))
    }

    #[test]
    fn devices_are_closed_unless_all_are_allowed() {
        assert_eq!(DeviceAccess::of(None), DeviceAccess::Closed);
        assert_eq!(access(serde_json::json!([{"allow": false, "access": "rwm"}])), DeviceAccess::Closed);
        assert_eq!(access(serde_json::json!([{"allow": true, "access": "rwm"}])), DeviceAccess::Open);
        let one = serde_json::json!([{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 3}]);
        assert_eq!(access(one), DeviceAccess::Closed);
        assert_eq!(access(serde_json::json!([{"allow": true}, {"allow": false}])), DeviceAccess::Closed);
    }

    #[test]
    fn a_file_that_poses_as_a_device_is_noticed() {
        let null = rustix::fs::open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(check(&null, rustix::fs::makedev(1, 3)), Ok(()));
        assert_eq!(check(&null, rustix::fs::makedev(1, 5)), Err(Errno::NODEV));
        assert_eq!(check(std::fs::File::open("/etc/passwd").unwrap(), 0), Err(Errno::NODEV));
    }
}
