//! `enter`: runs a command beside an app, under the app's own restrictions (rkt's CVE-2019-10144, -10145 and -10147 were
//! an `enter` without the app's capabilities, filter and control groups).
//!
//! This process goes into the app's control groups first, so that nothing it does there escapes the app's limits, then
//! into its namespaces, all at once and by a descriptor of the very process that the record names. Only a child can be
//! in the app's PID namespace; this process waits for it, passes signals on, and with `--tty` carries the bytes between
//! the caller's terminal and one of the app's. It does not outlive a caller that is killed, and neither does the command.

mod relay;
mod terminal;

use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::{Process, Spec};
use pod::{AppName, PodDir};
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, Signal};
use rustix::thread::ThreadNameSpaceType;
use stage1::channel::{self, ChildEnd, Event, ParentEnd};
use stage1::credentials::Privileges;
use stage1::failure::Failure;
use stage1::program::{self, Program};
use stage1::running::Running;
use stage1::seccomp::Filter;
use stage1::users::{self, GROUP_ANNOTATION, USER_ANNOTATION};
use stage1::verbs::{Entry, Terminal};
use stage1::{commentary, control_group, null_device, own_executable, resource_limits, user_namespace};
use sys::clone::Parent;

use relay::Relay;
use terminal::Pty;

/// Runs the command; returns the status to exit with.
pub(crate) fn enter(pod: &PodDir, app: &AppName, entry: &Entry) -> Result<u8, Failure> {
    own_executable::ensure_read_only()?;
    let config = as_user(pod.app(app)?.config()?, entry);
    let running = Running::find(pod, app)?;
    let profile = config.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let filter = profile.map(Filter::of).transpose()?;
    let relay = Relay::new()?;
    null_device::replace_standard()?;

    commentary::say(format_args!("join process {}", running.pid()));
    join(&running, &config)?;
    if user_namespace::is_wanted(&config) {
        user_namespace::become_root()?;
    }
    own_executable::hide()?;
    let pty = match entry.terminal {
        Terminal::Own => Some(Pty::open()?),
        Terminal::Inherited => None,
    };
    let command = Command { config: &config, entry, filter, pty: pty.as_ref() };
    let (pid, channel) = channel::spawn(Parent::Caller, |end| command.become_it(&end))?;
    let child = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|e| Failure::other(format!("hold the command's process: {e}")))?;
    see_through(&channel)?;
    relay.run(&child, pty)
}

/// The config with another user, where one was asked for.
fn as_user(mut config: Spec, entry: &Entry) -> Spec {
    if entry.user.is_none() && entry.group.is_none() {
        return config;
    }
    let mut annotations = config.annotations().clone().unwrap_or_default();
    if let Some(user) = &entry.user {
        let _ = annotations.insert(USER_ANNOTATION.to_owned(), user.clone());
        let _ = annotations.remove(GROUP_ANNOTATION);
        if let Some(process) = config.process_mut() {
            let _ = process.user_mut().set_gid(0).set_additional_gids(None);
        }
    }
    if let Some(group) = &entry.group {
        let _ = annotations.insert(GROUP_ANNOTATION.to_owned(), group.clone());
    }
    let _ = config.set_annotations(Some(annotations));
    config
}

/// Moves this process into the app's control groups and namespaces.
fn join(running: &Running, config: &Spec) -> Result<(), Failure> {
    control_group::join(running.pid())?;
    let score = config.process().as_ref().and_then(Process::oom_score_adj);
    if let Some(score) = score {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Failure::other(format!("open /proc: {e}")))?;
        resource_limits::set_oom_score(proc, score)?;
    }
    let rlimits = config.process().as_ref().and_then(|p| p.rlimits().as_deref()).unwrap_or_default();
    resource_limits::raise(rlimits)?;
    let users = match user_namespace::is_wanted(config) {
        true => ThreadNameSpaceType::USER,
        false => ThreadNameSpaceType::empty(),
    };
    let kinds = users
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(running.as_fd(), kinds)
        .map_err(|e| Failure::other(format!("join the app's namespaces: {e}")))
}

fn see_through(channel: &ParentEnd) -> Result<(), Failure> {
    loop {
        match channel.receive()? {
            Event::Ready => channel.go()?,
            Event::Failed(failure) => return Err(failure),
            Event::Closed => return Ok(()),
        }
    }
}

struct Command<'a> {
    config: &'a Spec,
    entry: &'a Entry,
    filter: Option<Filter>,
    pty: Option<&'a Pty>,
}

impl Command<'_> {
    /// Becomes the command. Returns only why it could not.
    fn become_it(self, end: &ChildEnd) -> Failure {
        match self.run(end) {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    fn run(self, end: &ChildEnd) -> Result<std::convert::Infallible, Failure> {
        let process =
            self.config.process().as_ref().ok_or_else(|| Failure::other("config.json has no process"))?;
        // A session of its own: without a terminal the command must not get at the caller's.
        let _ = rustix::process::setsid().map_err(|e| Failure::other(format!("start a session: {e}")))?;
        let root = root()?;
        let identity = users::resolve(&root, self.config)?;
        if let Some(pty) = self.pty {
            pty.attach(identity.uid)?;
        }
        resource_limits::apply(process.rlimits().as_deref().unwrap_or_default())?;
        program::enter_workdir(&root, process.cwd())?;
        let _ = rustix::process::umask(Mode::from_raw_mode(process.user().umask().unwrap_or(0o022)));
        let program =
            Program::new(&self.entry.command, &self.environment(process), identity.home.as_deref())?;
        program::clean_slate()?;
        let filter = Privileges::of(process, identity, self.filter)?.assume()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| Failure::other(format!("arm the signal for the caller's end: {e}")))?;
        end.ready()?;
        end.finish(|| filter.load().err().unwrap_or_else(|| program.exec().into()))
    }

    /// The app's environment; in a terminal, also what kind it is.
    fn environment(&self, process: &Process) -> Vec<String> {
        let mut environment = process.env().clone().unwrap_or_default();
        let has_term = environment.iter().any(|e| e.starts_with("TERM="));
        if let (Some(_), false, Ok(term)) = (self.pty, has_term, std::env::var("TERM")) {
            environment.push(format!("TERM={term}"));
        }
        environment
    }
}

/// The app's root, which is this process's since it joined.
fn root() -> Result<OwnedFd, Failure> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::other(format!("open the app's root: {e}")))
}
