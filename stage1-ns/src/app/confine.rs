//! What the app's process does before it is the app: the list of steps, one kernel concern each.
//!
//! It is a copy of the process that made it, in a new PID namespace, and a child of the launcher. What it fails to do
//! it tells through the channel.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process, Spec};
use pod::bundle::ImageRef;
use rustix::fs::{CWD, Mode, OFlags};
use stage1::channel::ChildEnd;
use stage1::commentary::say;
use stage1::credentials::Privileges;
use stage1::devices::DeviceAccess;
use stage1::failure::Failure;
use stage1::mounts::{Mounted, Planned};
use stage1::namespaces::{self, OwnNamespaces};
use stage1::program::{self, Program};
use stage1::relay::Pipes;
use stage1::rootfs::{Root, RootParts};
use stage1::seccomp::Filter;
use stage1::sysctls::{self, Scope};
use stage1::{devices, masks, null_device, outputs, own_executable, pivot, resource_limits, users};

use super::Start;

/// Everything that was found out before.
pub(super) struct Plan<'a> {
    pub(super) start: &'a Start<'a>,
    pub(super) config: &'a Spec,
    pub(super) image: &'a ImageRef,
    pub(super) own: OwnNamespaces,
    pub(super) filter: Option<Filter>,
    /// In place of the journal, for an app that opens its output by name.
    pub(super) pipes: Option<Pipes>,
}

/// Becomes the app. Returns only why it could not.
pub(super) fn become_app(plan: Plan<'_>, end: &ChildEnd) -> Failure {
    match run(plan, end) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn run(plan: Plan<'_>, end: &ChildEnd) -> Result<std::convert::Infallible, Failure> {
    let start = plan.start;
    let process =
        plan.config.process().as_ref().ok_or_else(|| Failure::other("config.json has no process"))?;
    own_executable::hide()?;
    outputs::connect(start.pod.id(), start.app.name(), start.launcher, plan.pipes.as_ref())?;
    null_device::replace_standard()?;
    leave_terminal(process)?;
    if let Some(score) = process.oom_score_adj() {
        resource_limits::set_oom_score(open_proc()?, score)?;
    }

    say(format_args!("mount the root of {} layers and what is in it", plan.image.layers.len()));
    plan.own.unshare_mount()?;
    let root = build_root(&plan, process)?;
    let identity = users::resolve(&root, plan.config)?;
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

/// Mounts the root and everything in it, in the app's own mount namespace.
fn build_root(plan: &Plan<'_>, process: &Process) -> Result<Root, Failure> {
    let linux = plan.config.linux().as_ref();
    let device_access = DeviceAccess::of(linux.and_then(|l| l.resources().as_ref()));
    let bundle = plan.start.pod.path().join("apps").join(plan.start.app.name().as_str());
    let attempt: PathBuf = bundle.join("attempts").join(plan.start.attempt.number().to_string());

    let mounts = plan.config.mounts().as_deref().unwrap_or_default();
    let planned = Planned::of(mounts, &bundle, device_access)?;
    namespaces::cut_off_mounts()?;
    let root = Root::mount(&RootParts {
        layers: &plan.image.layers,
        attempt: &attempt,
        target: &bundle.join("rootfs"),
        devices: device_access,
    })?;
    let mounted = planned.mount(&root)?;
    set_sysctls(plan, linux, &mounted)?;
    let extra = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
    devices::make_all(&root, &mounted.dev, extra, console(process))?;
    let paths = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let (masked, read_only) =
        (linux.and_then(|l| l.masked_paths().as_ref()), linux.and_then(|l| l.readonly_paths().as_ref()));
    masks::apply(&root, &paths(masked), &paths(read_only))?;
    if plan.config.root().as_ref().is_some_and(|r| r.readonly() == Some(true)) {
        root.make_read_only()?;
    }
    Ok(root)
}

fn set_sysctls(plan: &Plan<'_>, linux: Option<&Linux>, mounted: &Mounted) -> Result<(), Failure> {
    use pod::sandbox::Kind;
    let Some(settings) = linux.and_then(|l| l.sysctl().as_ref()) else { return Ok(()) };
    let namespaces = plan.start.pod.sandbox()?.map(|s| s.namespaces).unwrap_or_default();
    let scope = Scope { net: namespaces.contains_key(&Kind::Net), ipc: namespaces.contains_key(&Kind::Ipc) };
    Ok(sysctls::apply(mounted.proc.as_ref(), Some(settings), scope)?)
}

/// An app without a terminal gets a session of its own: it could otherwise put input into the terminal of whoever
/// started it (ioctl_tty(2), TIOCSTI), and would get that terminal's signals beside its launcher.
fn leave_terminal(process: &Process) -> Result<(), Failure> {
    if process.terminal() == Some(true) {
        return Ok(());
    }
    rustix::process::setsid().map(drop).map_err(|e| Failure::other(format!("start a session: {e}")))
}

/// The launcher's terminal, when the app shall have it.
fn console(process: &Process) -> Option<BorrowedFd<'static>> {
    let stdin = rustix::stdio::stdin();
    (process.terminal() == Some(true) && rustix::termios::isatty(stdin)).then_some(stdin)
}

/// The host's procfs, which knows this process by the number that it has there.
fn open_proc() -> Result<std::os::fd::OwnedFd, Failure> {
    rustix::fs::openat(CWD, Path::new("/proc"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::other(format!("open /proc: {e}")))
}
