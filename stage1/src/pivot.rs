//! Making the root the root, and letting the host's go, pivot_root(2).

use oci_spec::runtime::Linux;
use pod::stage1::status;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::failure::StepError;
use crate::rootfs::Root;

/// The root could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("{act}")]
pub struct PivotError {
    act: &'static str,
    source: std::io::Error,
}

impl StepError for PivotError {
    const STATUS: u8 = status::NAMESPACE;
}

/// Enters the root for good. Afterwards nothing of the host's tree can be reached but what was mounted in the root.
pub fn pivot(root: &Root) -> Result<(), PivotError> {
    let step = |act| move |e: rustix::io::Errno| PivotError { act, source: e.into() };
    rustix::process::fchdir(root).map_err(step("enter the app's root"))?;
    // The same directory twice: the old root is stacked on top of the new one, and no directory is needed for it.
    rustix::process::pivot_root(".", ".").map_err(step("make the app's root the root"))?;
    // `.` is the old root now. Everything of the host goes; busy or not, this namespace has no further use of it.
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(step("let go of the host's root"))?;
    rustix::process::chdir("/").map_err(step("change to the app's root"))
}

/// Sets the propagation of the root as the config wants it; private when it says nothing.
pub fn set_propagation(linux: Option<&Linux>) -> Result<(), PivotError> {
    let flags = match linux.and_then(|l| l.rootfs_propagation().as_deref()) {
        None | Some("" | "private" | "rprivate" | "slave" | "rslave") => return Ok(()),
        Some("shared" | "rshared") => MountPropagationFlags::SHARED,
        Some("unbindable" | "runbindable") => MountPropagationFlags::UNBINDABLE,
        Some(_) => {
            let act = "set linux.rootfsPropagation: it is none of private, slave, shared, unbindable";
            return Err(PivotError { act, source: rustix::io::Errno::INVAL.into() });
        }
    };
    rustix::mount::mount_change("/", flags)
        .map_err(|e| PivotError { act: "set the propagation of the root", source: e.into() })
}
