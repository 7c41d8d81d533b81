//! `app`: makes an attempt and becomes the app.
//!
//! This process stays outside: it takes the attempt, joins the pod's namespaces, makes the app's process as a *sibling*
//! ([`confine`] is what that does), writes down what happened, tells the launcher, and is gone. The launcher is the
//! app's real parent: it reaps it and gets its status, and no process of ours remains.

mod confine;
mod record;
mod tree;

use std::time::Duration;

use jiff::Timestamp;
use oci_spec::runtime::Spec;
use pod::attempt::{AppDir, AttemptDir};
use pod::bundle::ImageRef;
use pod::launch::Launcher;
use pod::sandbox::Sandbox;
use pod::stage1::{Backoff, ENV_BACKOFF};
use pod::{AppName, PodDir};
use rustix::fs::Mode;
use rustix::process::Pid;
use stage1::channel::{self, Event, ParentEnd};
use stage1::failure::Failure;
use stage1::limits::AppGroups;
use stage1::mounts::Planned;
use stage1::namespaces::OwnNamespaces;
use stage1::relay::Pipes;
use stage1::tether::Tether;
use stage1::user_namespace::PodUsers;
use stage1::{backoff, commentary, outputs, own_executable, resource_limits, sandbox, seccomp, unsupported};
use sys::clone::Parent;
use sys::notify::Notifier;

use confine::Plan;
pub(crate) use record::groups;

/// Starts the app. When anything fails, the attempt's record says what.
pub(crate) fn app(pod: &PodDir, name: &AppName) -> Result<(), Failure> {
    own_executable::ensure_read_only()?;
    let launch =
        pod.launch()?.ok_or_else(|| Failure::other("the pod has no launch.json: it was not launched"))?;
    let sandbox = pod.sandbox()?;
    let tether = Tether::to(launch.launcher)?;
    // Modes of what is made are exact from here on; the app gets its own mask.
    let _ = rustix::process::umask(Mode::empty());
    let app = pod.app(name)?;
    let attempts = app.attempts()?;
    let attempt = app.begin()?;
    let start = Start { pod, app: &app, attempt: &attempt, launcher: launch.launcher, tether, sandbox };
    let result = wait_for_turn(&attempts).and_then(|()| start.run());
    if let Err(failure) = &result {
        // The failure is told on stderr in any case; a record that cannot be written must not hide it.
        let _ = attempt.write_error(&failure.to_string());
    }
    result
}

/// Waits until the back-off is over. A signal ends the wait, and the process with it.
fn wait_for_turn(attempts: &[pod::attempt::Attempt]) -> Result<(), Failure> {
    let Some(text) = std::env::var_os(ENV_BACKOFF) else { return Ok(()) };
    let text = text.to_string_lossy();
    let policy: Backoff =
        text.parse().map_err(|e: pod::stage1::InvalidBackoff| Failure::other(e.to_string()))?;
    let wait = backoff::due(policy, attempts, Timestamp::now());
    let Ok(wait) = Duration::try_from(wait) else { return Ok(()) };
    if wait.is_zero() {
        return Ok(());
    }
    if let Some(notifier) = Notifier::from_env()? {
        // The wait is part of the start: the launcher's timeout must not end it.
        let micros = (wait + Duration::from_secs(60)).as_micros();
        let seconds = wait.as_secs();
        let text = format!("EXTEND_TIMEOUT_USEC={micros}\nSTATUS=Back-off: starting again in {seconds} s.");
        notifier.send(&text, &[])?;
    }
    // A launcher that reads its own signals from a descriptor leaves them blocked for us.
    sys::signal::block(&sys::signal::Set::of([]))
        .map_err(|e| Failure::other(format!("unblock signals: {e}")))?;
    std::thread::sleep(wait);
    Ok(())
}

struct Start<'a> {
    pod: &'a PodDir,
    app: &'a AppDir,
    attempt: &'a AttemptDir,
    launcher: Launcher,
    tether: Tether,
    sandbox: Option<Sandbox>,
}

impl Start<'_> {
    fn run(&self) -> Result<(), Failure> {
        let notifier = Notifier::from_env()?;
        let (config, image) = (self.app.config()?, self.app.image()?);
        unsupported::check(&config)?;
        let linux = config.linux().as_ref();
        let own = OwnNamespaces::of(linux.and_then(|l| l.namespaces().as_deref()))?;
        // Compiling, or finding what was compiled, happens in the host's tree.
        let filter = linux.and_then(|l| l.seccomp().as_ref()).map(seccomp::Filter::of).transpose()?;
        let users = PodUsers::of(&config, self.pod, self.sandbox.as_ref())?;
        record::make_layer(self.attempt, users.as_ref().map(PodUsers::range))?;
        let pipes = outputs::pipes(&config, self.pod.id(), self.app.name(), self.launcher)?;
        self.sandbox.as_ref().map_or(Ok(()), sandbox::join)?;
        let groups = self.limits(linux)?;
        let enter = |users| self.enter(users, &config, &image, pipes.as_ref());
        let staged = users.as_ref().map(enter).transpose()?;
        own.unshare_pid()?;

        commentary::say(format_args!("attempt {} of {}", self.attempt.number(), self.app.name()));
        let users = users.as_ref();
        let plan = Plan { start: self, config: &config, image: &image, own, filter, pipes, users, staged };
        let (pid, channel) = channel::spawn(Parent::CallersParent, |end| confine::become_app(plan, &end))?;
        groups.map_or(Ok(()), |groups| groups.limit())?;
        self.see_through(pid, &channel, notifier.as_ref())
    }

    /// Does what only the host's root can do for an app in the pod's user namespace, and moves into that.
    fn enter<'a>(
        &self,
        users: &PodUsers,
        config: &'a Spec,
        image: &ImageRef,
        pipes: Option<&Pipes>,
    ) -> Result<Planned<'a>, Failure> {
        let range = users.range();
        commentary::say(format_args!("enter the user namespace of ids {}+{}", range.first, range.count));
        outputs::give_to_root(range, pipes)?;
        if let Some(process) = config.process() {
            confine::with_host_privileges(process)?;
            resource_limits::raise(process.rlimits().as_deref().unwrap_or_default())?;
        }
        let staged = tree::stage(self, config, image, users)?;
        users.enter()?;
        // The change of credentials may have cleared the signal.
        self.tether.arm_in_child()?;
        Ok(staged)
    }

    /// In a direct pod the limits are control groups of our own; systemd has set a unit's.
    fn limits(&self, linux: Option<&oci_spec::runtime::Linux>) -> Result<Option<AppGroups>, Failure> {
        if self.launcher == Launcher::Units {
            return Ok(None);
        }
        let resources = linux.and_then(|l| l.resources().as_ref());
        let Some(groups) = AppGroups::of(resources, self.pod.id(), self.app.name())? else { return Ok(None) };
        record::write_groups(self.attempt, groups.paths())?;
        groups.enter()?;
        Ok(Some(groups))
    }

    /// Lets the app's process go on once everything is written down, and reports how that ended.
    ///
    /// `started` is what `enter` and `stop` find the app by: it is written when the root is complete and the host's is
    /// gone from it, not before, or a command could enter a half-built one.
    fn see_through(&self, pid: Pid, channel: &ParentEnd, notifier: Option<&Notifier>) -> Result<(), Failure> {
        let notify = |text: &str| notifier.map_or(Ok(()), |n| n.send(text, &[]));
        notify(&format!("MAINPID={}", pid.as_raw_nonzero()))?;
        let mut is_ready = false;
        loop {
            match channel.receive()? {
                Event::Ready => {
                    record::write_started(self.attempt, pid)?;
                    self.tether.check()?;
                    channel.go()?;
                    is_ready = true;
                }
                Event::Failed(failure) => return Err(failure),
                // Become the app, or killed in the last instant; the launcher is the one who can tell.
                Event::Closed if is_ready => return Ok(notify("READY=1\nSTATUS=")?),
                Event::Closed => {
                    return Err(Failure::other("the app's process was killed before it could run"));
                }
            }
        }
    }
}
