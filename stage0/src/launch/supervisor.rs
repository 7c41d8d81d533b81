//! Watching the apps of a directly launched pod from start to end.
//!
//! Each app is a state: being started by its stage1 `app` process, running as our own child (`CLONE_PARENT`, announced by
//! `MAINPID=`), or over. A process ID is trusted only when it comes from the process that we spawned for that app, and is
//! waited for by number: children that we have not been told of yet stay zombies, and nothing is lost.

use std::process::Child;
use std::time::{Duration, Instant};

use pod::AppName;
use pod::attempt::{Ended, Exit};
use pod::stage1::{Verb, status};
use rustix::process::{Pid, Signal, WaitOptions};
use sys::notify::{Message, Notifier};

use super::LaunchError;
use super::direct::{Direct, GRACE};
use super::signals::Signals;

/// All apps of a pod.
pub(super) struct Supervisor<'a> {
    launcher: &'a Direct<'a>,
    apps: Vec<App>,
    /// What stage1s are doing for us besides: `stop`.
    errands: Vec<Child>,
    stopping: Stopping,
    /// The status of the first app that failed.
    status: u8,
    announced: bool,
}

struct App {
    name: AppName,
    state: State,
}

enum State {
    /// Stage1 `app` is at work; it may have told us the app's process already.
    Starting { stage1: Child, main: Option<Pid>, ready: bool },
    /// The app's process is our child.
    Running(Pid),
    /// The app is over.
    Over,
}

/// How urgently the apps are being asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Asked { deadline: Instant },
    Forced,
}

impl<'a> Supervisor<'a> {
    /// Starts every app.
    pub(super) fn start(launcher: &'a Direct<'a>, names: Vec<AppName>) -> Result<Self, LaunchError> {
        let mut this = Self {
            launcher,
            apps: Vec::new(),
            errands: Vec::new(),
            stopping: Stopping::No,
            status: 0,
            announced: false,
        };
        for name in names {
            let stage1 = launcher.spawn(Verb::App, &[name.as_str()], launcher.stdin())?;
            this.apps.push(App { name, state: State::Starting { stage1, main: None, ready: false } });
        }
        Ok(this)
    }

    /// Until every app is over. The result is the pod's exit status.
    pub(super) fn run(mut self, signals: &Signals, upward: Option<Notifier>) -> Result<u8, LaunchError> {
        loop {
            self.receive()?;
            self.look()?;
            if self.apps.iter().all(|app| matches!(app.state, State::Over)) {
                break;
            }
            self.announce(upward.as_ref());
            self.urge(signals.take_stops(), upward.as_ref())?;
            self.launcher.wait(signals, self.patience())?;
        }
        for mut errand in self.errands {
            let _ = errand.wait();
        }
        Ok(self.status)
    }

    fn receive(&mut self) -> Result<(), LaunchError> {
        while let Some(message) = self.launcher.listener.receive(Some(Duration::ZERO))? {
            self.apps.iter_mut().for_each(|app| app.hear(&message));
        }
        Ok(())
    }

    /// Looks which processes have ended.
    fn look(&mut self) -> Result<(), LaunchError> {
        self.errands.retain_mut(|errand| !matches!(errand.try_wait(), Ok(Some(_))));
        for at in 0..self.apps.len() {
            self.look_at_starting(at)?;
            self.look_at_running(at)?;
        }
        Ok(())
    }

    fn look_at_starting(&mut self, at: usize) -> Result<(), LaunchError> {
        let Some(app) = self.apps.get_mut(at) else { return Ok(()) };
        let State::Starting { stage1, .. } = &mut app.state else { return Ok(()) };
        let Some(status) = stage1.try_wait().map_err(LaunchError::Wait)? else { return Ok(()) };
        // Whatever it told us before it ended has arrived by now.
        self.receive()?;
        let Some(app) = self.apps.get_mut(at) else { return Ok(()) };
        let State::Starting { main, .. } = app.state else { return Ok(()) };
        match main {
            // The stage1 is gone and nothing of it is left: the app is on its own.
            Some(main) if status.success() => app.state = State::Running(main),
            // A child was made, but the app never ran in it: it is on its way out. Its status is the stage1's.
            Some(main) => {
                reap(main)?;
                self.over(at, exit_of(status));
            }
            // It gave us no process: it failed before, or it stood for the app itself.
            None => self.over(at, exit_of(status)),
        }
        Ok(())
    }

    fn look_at_running(&mut self, at: usize) -> Result<(), LaunchError> {
        let Some(State::Running(pid)) = self.apps.get(at).map(|app| &app.state) else { return Ok(()) };
        match rustix::process::waitpid(Some(*pid), WaitOptions::NOHANG) {
            Ok(None) => {}
            Ok(Some((_, status))) => self.over(at, exit(status)),
            // It is not our child: a stage1 that breaks the contract must not make us wait for ever.
            Err(rustix::io::Errno::CHILD) => self.over(at, Exit::Unknown),
            Err(e) => return Err(LaunchError::Wait(e.into())),
        }
        Ok(())
    }

    /// Records the end of an app. One that failed ends the pod.
    fn over(&mut self, at: usize, exit: Exit) {
        let Some(app) = self.apps.get_mut(at) else { return };
        app.state = State::Over;
        let name = app.name.clone();
        let status = exit.code().unwrap_or(crate::exit::FAILURE);
        // The app is over whether or not that can be written down; its status matters more.
        if let Err(e) = self.record(&name, exit) {
            self.launcher.log.error(&e.context(format!("record the end of app {name:?}")));
        }
        if status != 0 && self.status == 0 {
            self.status = status;
        }
        if status != 0 && self.stopping == Stopping::No {
            self.blame(&name, status);
            self.ask();
        }
    }

    /// Writes down how an app ended. If it could not even be executed, says what that may mean: the kernel's "no such
    /// file" may be about a file that is named nowhere in the pod.
    fn record(&self, name: &AppName, exit: Exit) -> anyhow::Result<()> {
        let result = match &exit {
            Exit::Exited(0) => "success",
            Exit::Exited(_) => "exit-code",
            Exit::Killed(_) | Exit::Unknown => "signal",
            Exit::Dumped(_) => "core-dump",
        };
        let never_executed = exit == Exit::Exited(status::EXEC);
        let ended = Ended { at: jiff::Timestamp::now(), exit, result: result.to_owned() };
        let app = self.launcher.pod.dir().app(name)?;
        app.end(&ended, None)?;
        if never_executed && app.newest()?.is_some_and(|attempt| attempt.error.is_some()) {
            self.launcher.log.say(format_args!(
                "app {:?} could not be executed: its file, and the interpreter (#!) or dynamic loader that the file \
                 names, must be in its root, be executable, and be made for this machine ({})",
                name.as_str(),
                std::env::consts::ARCH
            ));
        }
        Ok(())
    }

    /// Of several apps, says which one ends them all.
    fn blame(&self, name: &AppName, status: u8) {
        if self.apps.iter().any(|app| !matches!(app.state, State::Over)) {
            let name = name.as_str();
            self.launcher
                .log
                .say(format_args!("app {name:?} ended with status {status}: stopping the others"));
        }
    }

    /// Tells the service manager that started us, once, when every app runs or has run.
    fn announce(&mut self, upward: Option<&Notifier>) {
        let is_up = |app: &App| !matches!(app.state, State::Starting { ready: false, .. });
        if self.announced || !self.apps.iter().all(is_up) {
            return;
        }
        self.announced = true;
        let text = format!("READY=1\nSTATUS=Running pod {}", self.launcher.pod.dir().id());
        self.tell(upward, &text);
    }

    fn tell(&self, upward: Option<&Notifier>, text: &str) {
        if let Some(Err(e)) = upward.map(|u| u.send(text, &[])) {
            self.launcher.log.error(&anyhow::Error::new(e));
        }
    }

    /// Goes from asking to forcing when a signal or the clock says so.
    fn urge(&mut self, stops: usize, upward: Option<&Notifier>) -> Result<(), LaunchError> {
        let expired = matches!(self.stopping, Stopping::Asked { deadline } if Instant::now() >= deadline);
        match (self.stopping, stops) {
            (Stopping::No, 1..) => {
                self.tell(upward, "STOPPING=1");
                self.ask();
                // Two at once are a first and a second.
                if stops > 1 {
                    self.force();
                }
            }
            (Stopping::Asked { .. }, 1..) => self.force(),
            _ if expired => self.force(),
            _ => {}
        }
        Ok(())
    }

    fn ask(&mut self) {
        self.stopping = Stopping::Asked { deadline: Instant::now() + GRACE };
        self.errand(&[]);
    }

    fn force(&mut self) {
        self.stopping = Stopping::Forced;
        self.errand(&["--force"]);
        // The stage1 knows best, but must not be the only one who can end a pod.
        for app in &mut self.apps {
            match &mut app.state {
                State::Starting { stage1, main, .. } => {
                    let _ = stage1.kill();
                    main.iter().for_each(|pid| kill(*pid));
                }
                State::Running(pid) => kill(*pid),
                State::Over => {}
            }
        }
    }

    fn errand(&mut self, args: &[&str]) {
        match self.launcher.spawn(Verb::Stop, args, std::process::Stdio::null()) {
            Ok(child) => self.errands.push(child),
            Err(e) => self.launcher.log.error(&anyhow::Error::new(e)),
        }
    }

    fn patience(&self) -> Option<Duration> {
        match self.stopping {
            Stopping::Asked { deadline } => Some(deadline.saturating_duration_since(Instant::now())),
            Stopping::No | Stopping::Forced => None,
        }
    }
}

impl App {
    /// Takes note of a message, if it is this app's stage1 that speaks.
    fn hear(&mut self, message: &Message) {
        let State::Starting { stage1, main, ready } = &mut self.state else { return };
        if message.sender != stage1.id() {
            return;
        }
        let announced = message.main_pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        *main = announced.or(*main);
        *ready |= message.is_ready();
    }
}

fn kill(pid: Pid) {
    // It may be gone; being our child, its number cannot be anybody else's before we have waited for it.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

/// Waits for a child that cannot live.
fn reap(pid: Pid) -> Result<(), LaunchError> {
    kill(pid);
    match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
        Ok(_) | Err(rustix::io::Errno::CHILD) => Ok(()),
        Err(e) => Err(LaunchError::Wait(e.into())),
    }
}

fn exit(status: rustix::process::WaitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    exit_of(std::process::ExitStatus::from_raw(status.as_raw()))
}

fn exit_of(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = |n: i32| pod::signal::name(u8::try_from(n).unwrap_or(0));
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Exited(u8::try_from(code).unwrap_or(crate::exit::FAILURE)),
        (None, Some(n)) if status.core_dumped() => Exit::Dumped(signal(n)),
        (None, Some(n)) => Exit::Killed(signal(n)),
        (None, None) => Exit::Unknown,
    }
}
