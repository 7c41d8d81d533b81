//! Protection of the stage1's own file (runc's CVE-2019-5736).
//!
//! Before a process becomes the app, `/proc/<pid>/exe` leads to the stage1's binary on the host. An image whose program is
//! `#!/proc/self/exe`, or an app that watches `enter` come in, can open it, wait until it is no longer executed, and
//! write to it: the host's next start is theirs. Two things are done about it:
//!
//! * `app` and `enter` run from a detached, read-only mount of their own file. The link then leads to that mount, which
//!   nobody can make writable any more: it is in no mount namespace. A launcher that has started them that way (or from a
//!   read-only file system) has done it already; otherwise they execute themselves again, which costs one exec. Copying
//!   the binary to sealed memory would cost more, and memory.
//! * While they are inside, they are not dumpable, so that an app without CAP_SYS_PTRACE cannot follow the link at all.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::process::DumpableBehavior;
use sys::exec::Strings;
use sys::executable;

use crate::failure::StepError;

/// The stage1's file could not be protected.
#[derive(Debug, thiserror::Error)]
#[error("protect the stage1's own executable: {act}")]
pub struct OwnExecutableError {
    act: &'static str,
    source: std::io::Error,
}

impl StepError for OwnExecutableError {}

const SELF: &str = "/proc/self/exe";

/// Set for the second execution, so that a file system that does not say that it is read-only is an error, not a circle.
const MARK: &str = "RKT_STAGE1_EXECUTABLE";

/// Returns when the process runs from a read-only mount; gets it there by executing itself again.
pub fn ensure_read_only() -> Result<(), OwnExecutableError> {
    if executable::is_read_only().map_err(error("look at it"))? {
        return name_process().map_err(error("restore the process's name"));
    }
    if std::env::var_os(MARK).is_some() {
        return Err(error("the read-only mount is not read-only")(rustix::io::Errno::PERM));
    }
    let file =
        executable::detached_read_only(Path::new(SELF)).map_err(error("make a read-only mount of it"))?;
    let environment = Strings::own_environment_and(MARK, "read-only");
    let source = sys::exec::execve_descriptor(file.as_fd(), &Strings::own_arguments(), &environment);
    Err(OwnExecutableError { act: "execute it again", source })
}

/// Keeps other processes from looking at this one, until it executes something else.
pub fn hide() -> Result<(), OwnExecutableError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(error("hide the process"))
}

/// A program that is executed by descriptor is named after the descriptor's number.
fn name_process() -> rustix::io::Result<()> {
    let argument = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&argument).file_name().unwrap_or_default();
    match std::ffi::CString::new(name.as_encoded_bytes()) {
        Ok(name) => rustix::thread::set_name(&name),
        Err(_) => Ok(()),
    }
}

fn error(act: &'static str) -> impl Fn(rustix::io::Errno) -> OwnExecutableError {
    move |e| OwnExecutableError { act, source: e.into() }
}
