//! `rkt status`: one pod, as `name=value` lines.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pod::attempt::AppState;
use pod::{PodDir, State};

use super::command::Invocation;
use super::flag::{Flag, Given, optional};
use super::list::Format;
use super::pods;
use crate::exit::SUCCESS;
use crate::report::{self, AppReport, PodReport};
use crate::time;

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    optional("wait", "true", "wait for the pod to exit: true, false, or for how long at most (30s)"),
    optional("wait-ready", "true", "wait until the pod is ready: true, false, or for how long at most (30s)"),
];

/// How often we look. There is no event to wait for: a lock that is let go of tells nobody.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let format = Format::from_flags(&invocation.flags)?;
    let ready = patience(&invocation.flags, "wait-ready")?;
    let exit = patience(&invocation.flags, "wait")?;
    let mut dir = pods::one(invocation)?;
    if let Some(patience) = ready {
        dir = wait(dir, patience, is_ready)?;
    }
    if let Some(patience) = exit {
        dir = wait(dir, patience, |dir| Ok(dir.state()?.is_over()))?;
    }
    let report = report::pod(&dir).context("unable to print status")?;
    let text = match format {
        Some(format) => format.render(&report)? + "\n",
        None => lines(&report),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(SUCCESS)
}

/// How long a flag says to wait. `None`: not at all.
fn patience(flags: &Given, name: &'static str) -> anyhow::Result<Option<Duration>> {
    match flags.value(name) {
        None | Some("false") => Ok(None),
        Some("true") => Ok(Some(Duration::MAX)),
        Some(text) => Ok(Some(time::duration(text).with_context(|| format!("--{name}"))?)),
    }
}

/// The pod's sandbox is made and every app has been started, or it is all over.
fn is_ready(dir: &PodDir) -> anyhow::Result<bool> {
    let state = dir.state()?;
    if state != State::Running {
        return Ok(state.is_over());
    }
    if dir.sandbox()?.is_none() {
        return Ok(false);
    }
    let started = |app: &pod::manifest::RuntimeApp| {
        Ok(dir.app(&app.name)?.newest()?.is_some_and(|a| a.started.is_some() || a.error.is_some()))
    };
    dir.manifest()?.apps.iter().map(started).try_fold(true, |all, one: anyhow::Result<bool>| Ok(all && one?))
}

/// Looks again and again, finding the pod anew when it has moved.
fn wait(
    mut dir: PodDir,
    patience: Duration,
    done: impl Fn(&PodDir) -> anyhow::Result<bool>,
) -> anyhow::Result<PodDir> {
    let start = Instant::now();
    loop {
        dir = dir.data_dir().pod(dir.id())?.unwrap_or(dir);
        if done(&dir)? || start.elapsed() >= patience {
            return Ok(dir);
        }
        std::thread::sleep(POLL);
    }
}

fn lines(pod: &PodReport) -> String {
    let mut lines = vec![format!("state={}", pod.state)];
    let (created, started) = pod.times;
    lines.extend(created.map(|at| format!("created={}", time::full(at))));
    lines.extend(started.map(|at| format!("started={}", time::full(at))));
    let has_run = pod.state == State::Running || pod.state.is_over();
    if has_run && started.is_some() {
        lines.push(format!("networks={}", pod.networks_text()));
        lines.extend(pod.pid().map(|pid| format!("pid={pid}")));
        lines.push(format!("exited={}", pod.state.is_over()));
    }
    if has_run {
        // Of a running pod: the apps that have ended. rkt 1.30 told only when the pod was over.
        let status = |app: &AppReport| {
            let code = app.exit_code.filter(|_| app.state == AppState::Exited)?;
            Some(format!("app-{}={code}", app.name))
        };
        lines.extend(pod.apps.iter().filter_map(status));
    }
    lines.push(String::new());
    lines.join("\n")
}
