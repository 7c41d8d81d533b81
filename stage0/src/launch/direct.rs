//! The direct launcher: `rkt` is the pod's parent for as long as the pod lives.
//!
//! It stays in its caller's cgroup and needs no D-Bus: what starts `rkt run` (a shell, a service, a supervisor) sees an
//! ordinary process that ends with the app's status. It holds the pod's lock and, for `up`, plays the part of systemd's
//! descriptor store, so that the kernel takes everything back when it dies, however it dies.
//!
//! 1. `up`: the sandbox; its descriptors come to us;
//! 2. `app` for each app: it becomes our child (the supervisor's work);
//! 3. an app that fails, or a signal to us, stops the others: politely first, then not;
//! 4. `down`.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pod::launch::Launcher;
use pod::stage1::{ENV_HOLDER_PID, ENV_LOCK_FD, Stage1, Verb};
use pod::{AppName, LockedPod, Phase};
use sys::notify::{ENV_NOTIFY_SOCKET, Listener, Notifier};

use super::signals::Signals;
use super::supervisor::Supervisor;
use super::{LaunchError, Settings, enter_run};
use crate::exit::Log;
use crate::stage1::{self, ReadOnly, Stage1Error};

pub(crate) use super::signals::Input;

/// How long an app may take from its stop signal to its end.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Runs a locked, prepared pod to its end. The result is the exit status: that of the first app that failed, or 0.
pub(crate) fn run(
    mut pod: LockedPod,
    settings: &Settings,
    input: Input,
    log: Log,
) -> Result<u8, LaunchError> {
    let (signals, upward) = match begin(&mut pod, settings, input) {
        Ok(begun) => begun,
        Err(e) => {
            // One that was prepared for this run only is of no use to anybody; one that was there before stays.
            if pod.dir().phase() == Phase::Prepare {
                crate::prepare::discard(pod);
            }
            return Err(e);
        }
    };
    let launcher = Direct::new(&pod, input, log)?;
    let kept = launcher.up(&signals)?;
    let result = launcher.supervise(&signals, upward);
    // Only now: the namespaces are needed until the last app is gone.
    drop(kept);
    let down = stage1::run(&launcher.stage1, Verb::Down, &launcher.path, log.debug, &[]);
    if let Err(e) = down {
        log.error(&anyhow::Error::new(e));
    }
    result
}

/// What can fail before anything runs: signals become data, the service manager is found, the pod enters `run`.
fn begin(
    pod: &mut LockedPod,
    settings: &Settings,
    input: Input,
) -> Result<(Signals, Option<Notifier>), LaunchError> {
    let signals = Signals::watch(input).map_err(LaunchError::Signals)?;
    let upward = Notifier::from_env()?;
    enter_run(pod, Launcher::Direct, settings)?;
    Ok((signals, upward))
}

/// A pod that is being launched.
pub(super) struct Direct<'a> {
    pub(super) pod: &'a LockedPod,
    pub(super) path: std::path::PathBuf,
    pub(super) stage1: Stage1,
    executable: Option<ReadOnly>,
    pub(super) listener: Listener,
    pub(super) log: Log,
    input: Input,
}

impl<'a> Direct<'a> {
    fn new(pod: &'a LockedPod, input: Input, log: Log) -> Result<Self, LaunchError> {
        let listener = Listener::bind(pod.dir().fd())?;
        let (path, stage1) = (pod.dir().path(), pod.dir().stage1()?);
        let executable = ReadOnly::mount(&stage1.path);
        Ok(Self { pod, path, stage1, executable, listener, log, input })
    }

    /// Makes the sandbox. The result is what keeps it: the descriptors that `up` stored with us.
    fn up(&self, signals: &Signals) -> Result<Vec<OwnedFd>, LaunchError> {
        let mut kept = Vec::new();
        let mut child = self.spawn(Verb::Up, &[], Stdio::null())?;
        loop {
            let ended = child.try_wait().map_err(LaunchError::Wait)?;
            // After the look at the child: whatever it sent before it ended is here now.
            while let Some(message) = self.listener.receive(Some(Duration::ZERO))? {
                if message.sender == child.id() && message.fd_name().is_some() {
                    kept.extend(message.fds);
                }
            }
            match ended {
                Some(status) if status.success() => return Ok(kept),
                Some(status) => return Err(LaunchError::Up(self.pod.dir().id(), status)),
                None => self.wait(signals, None)?,
            }
        }
    }

    fn supervise(&self, signals: &Signals, upward: Option<Notifier>) -> Result<u8, LaunchError> {
        let names: Vec<AppName> = self.pod.dir().manifest()?.apps.into_iter().map(|app| app.name).collect();
        Supervisor::start(self, names)?.run(signals, upward)
    }

    /// Starts a verb of the stage1 that reports to us.
    pub(super) fn spawn(&self, verb: Verb, args: &[&str], stdin: Stdio) -> Result<Child, LaunchError> {
        let mut command: Command = stage1::command_through(
            self.executable.as_ref(),
            &self.stage1,
            verb,
            &self.path,
            self.log.debug,
        )?;
        let _ = command
            .args(args)
            .env(ENV_NOTIFY_SOCKET, self.listener.address())
            .env(ENV_HOLDER_PID, std::process::id().to_string())
            .env_remove(ENV_LOCK_FD)
            .stdin(stdin);
        let path = self.stage1.path.clone();
        command.spawn().map_err(|source| Stage1Error::Spawn { path, source }.into())
    }

    /// What the apps read from.
    pub(super) fn stdin(&self) -> Stdio {
        match self.input {
            Input::Nothing => Stdio::null(),
            Input::Stream | Input::Terminal => Stdio::inherit(),
        }
    }

    /// Sleeps until something happens: a notification, the end of a child, a signal to us, or `timeout`.
    pub(super) fn wait(&self, signals: &Signals, timeout: Option<Duration>) -> Result<(), LaunchError> {
        use rustix::event::{PollFd, PollFlags, poll};
        let timeout = timeout.map(|t| rustix::time::Timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => signals.drain().map_err(LaunchError::Signals),
            Err(e) => Err(LaunchError::Wait(e.into())),
        }
    }
}
