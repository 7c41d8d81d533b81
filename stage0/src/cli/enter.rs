//! `rkt enter`: a command beside an app, under the app's own restrictions.

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use pod::attempt::{AppDir, AppState};
use pod::stage1::Verb;
use pod::{AppName, PodDir, State};

use super::command::Invocation;
use super::flag::{Flag, value};
use super::pods;
use crate::{report, stage1};

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[value("app", "", "name of the app to enter within the specified pod")];

const SHELL: &str = "/bin/bash";
const SMALL_SHELL: &str = "/bin/sh";

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let Some((uuid, command)) = invocation.words.split_first() else {
        bail!("a pod UUID is needed (see --help)");
    };
    let pod = pods::find(invocation, uuid)?;
    if pod.state()? != State::Running {
        bail!("pod {:?} isn't currently running", pod.id().to_string());
    }
    let app = choose(invocation, &pod)?;
    let running =
        report::pod(&pod)?.apps.iter().any(|a| a.name == app.as_str() && a.state == AppState::Running);
    ensure!(running, "app {:?} of pod {:?} is not running", app.as_str(), pod.id().to_string());
    let command = match command {
        [] => vec![shell(invocation, &pod.app(&app)?)],
        given => given.to_vec(),
    };
    let stage1 = pod.stage1()?;
    let mut enter = stage1::command(&stage1, Verb::Enter, &pod.path(), invocation.log().debug)?;
    let _ = enter.arg(app.as_str());
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        let _ = enter.arg("--tty");
    }
    let error = enter.arg("--").args(command).env_remove(sys::notify::ENV_NOTIFY_SOCKET).exec();
    Err(error).with_context(|| format!("cannot run stage1 {}", stage1.path.display()))
}

/// The app that was named, or the only one.
fn choose(invocation: &Invocation, pod: &PodDir) -> anyhow::Result<AppName> {
    let apps: Vec<AppName> = pod.manifest()?.apps.into_iter().map(|app| app.name).collect();
    if let Some(name) = invocation.flags.value("app").filter(|name| !name.is_empty()) {
        let app = apps.into_iter().find(|app| app.as_str() == name);
        return app.with_context(|| format!("pod {:?} has no app {name:?}", pod.id().to_string()));
    }
    match <[AppName; 1]>::try_from(apps) {
        Ok([app]) => Ok(app),
        Err(apps) if apps.is_empty() => bail!("pod {:?} has no apps", pod.id().to_string()),
        Err(apps) => {
            let log = invocation.log();
            log.say("pod contains multiple apps:");
            apps.iter().for_each(|app| log.say(format_args!("\t{app}")));
            bail!("specify app using \"rkt enter --app= ...\"")
        }
    }
}

/// The shell that the app's image has.
fn shell(invocation: &Invocation, app: &AppDir) -> String {
    let layers = app.image().map(|image| image.layers).unwrap_or_default();
    let has = |path: &str| layers.iter().any(|tree| Path::new(tree).join(path).symlink_metadata().is_ok());
    let shell = if has("bin/bash") || has("usr/bin/bash") { SHELL } else { SMALL_SHELL };
    invocation.log().say(format_args!("no command specified, assuming {shell:?}"));
    shell.to_owned()
}
