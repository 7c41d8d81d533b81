//! `rkt stop`: asks pods to end, or kills them.
//!
//! A pod that `rkt run` launched is stopped through its stage1, one that systemd runs through systemd: whoever is the
//! parent must know that the end was wanted.

use anyhow::{Context as _, bail};
use pod::launch::Launcher;
use pod::stage1::Verb;
use pod::{PodDir, State, unit};

use super::command::Invocation;
use super::flag::{Flag, switch};
use super::pods;
use crate::exit::{self, SUCCESS};
use crate::stage1;

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[switch("force", "forced stopping: kill the apps")];

/// How a pod is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Ask,
    Kill,
}

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let how = if invocation.flags.switch("force") { How::Kill } else { How::Ask };
    let failed = pods::each(invocation, |pod| stop(invocation, &pod, how))?;
    if failed > 0 {
        bail!("failed to stop {failed} pod(s)");
    }
    Ok(SUCCESS)
}

fn stop(invocation: &Invocation, pod: &PodDir, how: How) -> anyhow::Result<()> {
    let id = pod.id().to_string();
    match pod.state()? {
        State::Running => {}
        state if state.is_over() => {
            exit::report(format_args!("pod {id:?} is already stopped"));
            return Ok(());
        }
        _ => bail!("pod {id:?} is not running"),
    }
    let launch = pod.launch()?.context("the pod does not say how it was launched")?;
    match launch.launcher {
        Launcher::Direct => {
            let force: &[&str] = if how == How::Kill { &["--force"] } else { &[] };
            stage1::run(&pod.stage1()?, Verb::Stop, &pod.path(), invocation.log().debug, force)
        }
        .with_context(|| format!("cannot stop pod {id:?}"))?,
        Launcher::Units => units(pod, how).with_context(|| format!("cannot stop pod {id:?}"))?,
    }
    exit::report(format_args!("{id:?}"));
    Ok(())
}

/// Stops the sandbox: the apps' services are bound to it and go first.
fn units(pod: &PodDir, how: How) -> anyhow::Result<()> {
    let apps = pod.manifest()?.apps.into_iter().map(|app| unit::app(pod.id(), &app.name)).collect();
    let sandbox = unit::sandbox(pod.id());
    // The library that speaks D-Bus is asynchronous; this is the only place of rkt that does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(call_systemd(sandbox, apps, how))
}

async fn call_systemd(sandbox: String, apps: Vec<String>, how: How) -> anyhow::Result<()> {
    const KILL: i32 = 9;
    let bus = zbus::Connection::system().await.context("cannot connect to the system bus")?;
    let systemd = zbus::Proxy::new(
        &bus,
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
    )
    .await?;
    if how == How::Kill {
        for app in apps {
            // One that is not running has nothing to kill.
            let _gone = systemd.call_method("KillUnit", &(app, "all", KILL)).await;
        }
    }
    let _job = systemd.call_method("StopUnit", &(sandbox, "replace")).await.context("systemd refused")?;
    Ok(())
}
