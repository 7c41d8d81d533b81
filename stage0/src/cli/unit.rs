//! `rkt unit up|down|ended`: what the services of a pod call. Not for people: `docs/units.md` is the contract. And
//! `rkt unit fetch`, what `rkt-fetch@.service` calls.

use anyhow::{Context as _, bail};
use image::PullPolicy;
use pod::attempt::{Ended, Exit};
use pod::{AppName, Phase, PodId};

use super::command::Invocation;
use super::{global, launch_flags, pods};
use crate::exit::SUCCESS;
use crate::fetch_service::server::{self, Terms};
use crate::launch::units;
use crate::oom;

/// Makes the sandbox: `unit up UUID`. Also when the unit is started anew, the pod being in `run` already.
pub(crate) fn up(invocation: &Invocation) -> anyhow::Result<u8> {
    let settings = launch_flags::settings(&invocation.flags)?;
    let pod = pods::one(invocation)?;
    let id = pod.id();
    if !matches!(pod.phase(), Phase::Prepared | Phase::Run) {
        bail!("pod {:?} is neither prepared nor running, but {}", id.to_string(), pod.state()?);
    }
    let Some(pod) = pods::lock(pod)? else { bail!("pod {:?} is held by another process", id.to_string()) };
    let never = units::up(pod, &settings, invocation.log().debug)?;
    match never {}
}

/// Releases what the pod holds: `unit down UUID`. A pod that is gone holds nothing.
pub(crate) fn down(invocation: &Invocation) -> anyhow::Result<u8> {
    let [uuid] = invocation.words.as_slice() else { bail!("exactly one pod UUID is needed") };
    let id: PodId = uuid.parse()?;
    let pod = invocation.existing_data_dir()?.map(|data| data.pod(id)).transpose()?.flatten();
    let Some(pod) = pod else { return Ok(SUCCESS) };
    let never = units::down(&pod, invocation.log().debug)?;
    match never {}
}

/// Records how an attempt ended: `unit ended UUID APP`, with systemd's words in the environment.
pub(crate) fn ended(invocation: &Invocation) -> anyhow::Result<u8> {
    let [uuid, app] = invocation.words.as_slice() else {
        bail!("a pod UUID and the name of an app are needed")
    };
    let (id, app): (PodId, AppName) = (uuid.parse()?, app.parse()?);
    let pod = invocation.existing_data_dir()?.map(|data| data.pod(id)).transpose()?.flatten();
    let pod = pod.with_context(|| format!("no matches found for {uuid:?}"))?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let exit = exit(variable("EXIT_CODE").as_deref(), variable("EXIT_STATUS").as_deref());
    let mut result = variable("SERVICE_RESULT").unwrap_or_else(|| "unknown".to_owned());
    if result == "signal" && exit == Exit::Killed("KILL".to_owned()) && oom::killed_in_own_group() {
        "oom-kill".clone_into(&mut result);
    }
    let ended = Ended { at: jiff::Timestamp::now(), exit, result };
    let invocation_id = variable("INVOCATION_ID");
    pod.app(&app)?
        .end(&ended, invocation_id.as_deref())
        .with_context(|| format!("cannot record the end of app {app:?}"))?;
    Ok(SUCCESS)
}

/// Answers the request of a member of the group rkt: `unit fetch`, with the connection as standard input.
pub(crate) fn fetch(invocation: &Invocation) -> anyhow::Result<u8> {
    let flags = &invocation.flags;
    let granted =
        flags.values("insecure-options").flat_map(|list| list.split(',')).map(str::to_owned).collect();
    let terms = Terms { dir: invocation.data_path(), insecure: granted, log: invocation.log() };
    let policy = |asked: &[String]| {
        let mut flags = flags.clone();
        flags.set("insecure-options", asked.join(","));
        global::policy(&flags, PullPolicy::Update)
    };
    server::serve(&terms, policy)?;
    Ok(SUCCESS)
}

/// systemd.exec(5): `$EXIT_CODE` is `exited`, `killed` or `dumped`, `$EXIT_STATUS` a number or the name of a signal.
fn exit(code: Option<&str>, status: Option<&str>) -> Exit {
    match (code, status) {
        (Some("exited"), Some(status)) => status.parse().map_or(Exit::Unknown, Exit::Exited),
        (Some("killed"), Some(signal)) => Exit::Killed(signal.to_owned()),
        (Some("dumped"), Some(signal)) => Exit::Dumped(signal.to_owned()),
        _ => Exit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_words() {
        assert_eq!(exit(Some("exited"), Some("42")), Exit::Exited(42));
        assert_eq!(exit(Some("killed"), Some("TERM")), Exit::Killed("TERM".to_owned()));
        assert_eq!(exit(Some("dumped"), Some("SEGV")), Exit::Dumped("SEGV".to_owned()));
        for odd in [(None, None), (Some("exited"), Some("x")), (Some("exited"), None), (Some("?"), Some("1"))]
        {
            assert_eq!(exit(odd.0, odd.1), Exit::Unknown);
        }
    }
}
