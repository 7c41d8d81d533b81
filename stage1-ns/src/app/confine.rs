//! What the app's process does before it is the app: the list of steps, one kernel concern each.
//!
//! It is a copy of the process that made it, in a new PID namespace, and a child of the launcher. What it fails to do
//! it tells through the channel.

use std::path::Path;

use oci_spec::runtime::{Process, Spec};
use pod::bundle::ImageRef;
use rustix::fs::{CWD, Mode, OFlags};
use stage1::channel::ChildEnd;
use stage1::commentary::say;
use stage1::credentials::Privileges;
use stage1::failure::Failure;
use stage1::mounts::Planned;
use stage1::namespaces::OwnNamespaces;
use stage1::program::{self, Program};
use stage1::relay::Pipes;
use stage1::seccomp::Filter;
use stage1::user_namespace::{self, PodUsers};
use stage1::{null_device, outputs, own_executable, pivot, resource_limits, users};

use super::{Start, tree};

/// Everything that was found out before.
pub(super) struct Plan<'a> {
    pub(super) start: &'a Start<'a>,
    pub(super) config: &'a Spec,
    pub(super) image: &'a ImageRef,
    pub(super) own: OwnNamespaces,
    pub(super) filter: Option<Filter>,
    /// In place of the journal, for an app that opens its output by name.
    pub(super) pipes: Option<Pipes>,
    /// The pod's users, if they are not the host's.
    pub(super) users: Option<&'a PodUsers>,
    /// What was mounted before, if the pod has users of its own.
    pub(super) staged: Option<Planned<'a>>,
}

/// What takes the host's root and concerns the app's process; for one in a user namespace it is done before that.
pub(super) fn with_host_privileges(process: &Process) -> Result<(), Failure> {
    null_device::replace_standard()?;
    match process.oom_score_adj() {
        Some(score) => Ok(resource_limits::set_oom_score(open_proc()?, score)?),
        None => Ok(()),
    }
}

/// Becomes the app. Returns only why it could not.
pub(super) fn become_app(plan: Plan<'_>, end: &ChildEnd) -> Failure {
    match run(plan, end) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn run(mut plan: Plan<'_>, end: &ChildEnd) -> Result<std::convert::Infallible, Failure> {
    let start = plan.start;
    let process =
        plan.config.process().as_ref().ok_or_else(|| Failure::other("config.json has no process"))?;
    own_executable::hide()?;
    outputs::connect(start.pod.id(), start.app.name(), start.launcher, plan.pipes.as_ref())?;
    leave_terminal(process)?;
    match plan.users {
        None => with_host_privileges(process)?,
        Some(_) => user_namespace::become_root()?,
    }

    say(format_args!("mount the root of {} layers and what is in it", plan.image.layers.len()));
    let root = tree::build(&mut plan, process)?;
    let identity = users::resolve(&root, plan.config)?;
    plan.users.map_or(Ok(()), |users| users.check(&identity))?;
    outputs::give_to(identity.uid, identity.gid)?;
    pivot::pivot(&root)?;
    pivot::set_propagation(plan.config.linux().as_ref())?;

    say(format_args!("become user {} and group {}", identity.uid, identity.gid));
    resource_limits::apply(process.rlimits().as_deref().unwrap_or_default())?;
    program::enter_workdir(&root, process.cwd())?;
    let _ = rustix::process::umask(Mode::from_raw_mode(process.user().umask().unwrap_or(0o022)));
    let program = Program::of(process, identity.home.as_deref())?;
    program::clean_slate()?;
    let filter = Privileges::of(process, identity, plan.filter)?.assume()?;
    start.tether.arm_in_child()?;
    end.ready()?;
    end.finish(|| filter.load().err().unwrap_or_else(|| program.exec().into()))
}

/// An app without a terminal gets a session of its own: it could otherwise put input into the terminal of whoever
/// started it (ioctl_tty(2), TIOCSTI), and would get that terminal's signals beside its launcher.
fn leave_terminal(process: &Process) -> Result<(), Failure> {
    if process.terminal() == Some(true) {
        return Ok(());
    }
    rustix::process::setsid().map(drop).map_err(|e| Failure::other(format!("start a session: {e}")))
}

/// The host's procfs, which knows this process by the number that it has there.
fn open_proc() -> Result<std::os::fd::OwnedFd, Failure> {
    rustix::fs::openat(CWD, Path::new("/proc"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::other(format!("open /proc: {e}")))
}
