//! `rkt logs`: what a pod's apps have written, from the journal.
//!
//! `journalctl` does the work, by index: the matches are the attempts' invocation IDs and the apps' identifiers. To
//! follow a pod of units, its units are matched instead, so that attempts to come are seen, too.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use pod::launch::{Launch, Launcher};
use pod::{AppName, PodDir, unit};

use super::command::Invocation;
use super::flag::{Flag, switch, value};
use super::pods;

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    value("app", "", "only this app"),
    switch("follow", "print new lines as they come"),
    value("lines", "", "only the last lines: how many"),
    value("output", "", "journalctl's output format: cat for one app and short for several by default"),
    switch("previous", "only the attempt before the newest"),
    value("since", "", "only lines that are not older: a time as journalctl takes it"),
    value("tail", "", "the same as --lines"),
    value("until", "", "only lines that are not younger: a time as journalctl takes it"),
];

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let pod = pods::one(invocation)?;
    let id = pod.id().to_string();
    let launch = pod.launch()?.with_context(|| format!("pod {id:?} has never run"))?;
    let apps = apps(invocation, &pod)?;
    let matches = matches(invocation, &pod, &launch, &apps)?;
    let error = journalctl(invocation, apps.len())?.args(matches).exec();
    Err(error).context("cannot run journalctl")
}

/// The app that was named, or all of them.
fn apps(invocation: &Invocation, pod: &PodDir) -> anyhow::Result<Vec<AppName>> {
    let mut apps: Vec<AppName> = pod.manifest()?.apps.into_iter().map(|app| app.name).collect();
    if let Some(name) = invocation.flags.value("app").filter(|name| !name.is_empty()) {
        apps.retain(|app| app.as_str() == name);
        ensure!(!apps.is_empty(), "pod {:?} has no app {name:?}", pod.id().to_string());
    }
    Ok(apps)
}

/// The matches of journalctl(1): terms of one field are alternatives.
fn matches(
    invocation: &Invocation,
    pod: &PodDir,
    launch: &Launch,
    apps: &[AppName],
) -> anyhow::Result<Vec<String>> {
    let (follow, previous) = (invocation.flags.switch("follow"), invocation.flags.switch("previous"));
    ensure!(!(follow && previous), "--follow and --previous exclude each other");
    let identifiers = apps.iter().map(|app| format!("SYSLOG_IDENTIFIER={app}"));
    let invocations = match launch.launcher {
        Launcher::Direct => {
            ensure!(!previous, "a pod of \"rkt run\" has one attempt only");
            let id = launch.invocation_id.clone();
            vec![id.with_context(|| {
                format!(
                    "pod {:?} wrote to where \"rkt run\" was called, not to the journal",
                    pod.id().to_string()
                )
            })?]
        }
        Launcher::Units if follow => {
            let units = apps.iter().map(|app| format!("_SYSTEMD_UNIT={}", unit::app(pod.id(), app)));
            return Ok(units.chain(identifiers).collect());
        }
        Launcher::Units => invocations(pod, apps, previous)?,
    };
    if invocations.is_empty() {
        bail!(
            "no app of pod {:?} has {}",
            pod.id().to_string(),
            if previous { "a previous attempt" } else { "been started" }
        );
    }
    Ok(invocations.iter().map(|id| format!("_SYSTEMD_INVOCATION_ID={id}")).chain(identifiers).collect())
}

/// The systemd invocations of the apps' attempts.
fn invocations(pod: &PodDir, apps: &[AppName], previous: bool) -> anyhow::Result<Vec<String>> {
    let mut invocations = Vec::new();
    for app in apps {
        let mut attempts = pod.app(app)?.attempts()?;
        if previous {
            let _newest = attempts.pop();
            attempts = attempts.split_off(attempts.len().saturating_sub(1));
        }
        invocations.extend(attempts.into_iter().filter_map(|attempt| attempt.started?.invocation_id));
    }
    Ok(invocations)
}

fn journalctl(invocation: &Invocation, apps: usize) -> anyhow::Result<Command> {
    let flags = &invocation.flags;
    let mut command = Command::new("journalctl");
    let output =
        flags.value("output").filter(|o| !o.is_empty()).unwrap_or(if apps == 1 { "cat" } else { "short" });
    let _ = command.args(["--no-pager", "--quiet", "--all", &format!("--output={output}")]);
    if let Some(lines) =
        flags.value("lines").or_else(|| flags.value("tail")).filter(|lines| !lines.is_empty())
    {
        let lines: u64 = lines.parse().with_context(|| format!("--lines: {lines:?} is not a number"))?;
        let _ = command.arg(format!("--lines={lines}"));
    } else if flags.switch("follow") {
        let _ = command.arg("--no-tail");
    }
    for name in ["since", "until"] {
        if let Some(time) = flags.value(name).filter(|time| !time.is_empty()) {
            let _ = command.arg(format!("--{name}={time}"));
        }
    }
    if flags.switch("follow") {
        let _ = command.arg("--follow");
    }
    Ok(command)
}
