//! The status of each container.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pod::PodId;
use pod::attempt::{Attempt, Exit};

use super::Seen;
use crate::runtime::{AppStatus, UnitState};
use crate::translate;
use crate::worker::lifecycle::{Member, Role, members, succeeded};

/// The exit status of a container that never got to run, as other runtimes report it.
const START_ERROR: i32 = 128;
/// The exit status of a container whose end nobody saw.
const LOST: i32 = 137;

/// The statuses of all containers, the init containers first.
pub(super) fn statuses(seen: &Seen<'_>, initialized: bool) -> Vec<ContainerStatus> {
    let instance = seen.instance.map(|i| (i, members(seen.desired, i)));
    let find = |c: &Container| {
        let (instance, members) = instance.as_ref()?;
        members.iter().find(|m| m.container.name == c.name).map(|m| (instance.id, *m))
    };
    translate::containers(seen.desired.spec())
        .map(|c| match find(c) {
            Some((id, member)) => of_member(seen, id, &member, initialized),
            None => of_nothing(seen, c, initialized),
        })
        .collect()
}

/// A container of which there is no app yet.
fn of_nothing(seen: &Seen<'_>, container: &Container, initialized: bool) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(why_not(seen, container, !initialized))),
        started: Some(false),
        ..ContainerStatus::default()
    }
}

fn of_member(seen: &Seen<'_>, id: PodId, member: &Member<'_>, initialized: bool) -> ContainerStatus {
    let app = member.app;
    let seen_so_far = visible(app);
    let newest = seen_so_far.last().copied();
    let before = seen_so_far.iter().rev().nth(1).copied();
    let (state, last) = match newest {
        Some(now) if is_running(app, now) => (state_running(now), before),
        Some(over) if app.unit == UnitState::Activating => (waiting(crash_loop(seen, member)), Some(over)),
        Some(over) => (state_terminated(id, app, over), before),
        None => (waiting(why_not(seen, member.container, !initialized)), None),
    };
    let is_running = state.running.is_some();
    let is_done = member.role == Role::Init && newest.is_some_and(succeeded);
    let starts = newest.map_or(0, |a| a.number);
    ContainerStatus {
        name: member.container.name.clone(),
        image: member.container.image.clone().unwrap_or_default(),
        image_id: app.image.clone(),
        container_id: Some(container_id(id, app)),
        ready: (is_running && member.role != Role::Init) || is_done,
        started: Some(is_running),
        restart_count: i32::try_from(starts.saturating_sub(1)).unwrap_or(i32::MAX),
        last_state: last.map(|a| state_terminated(id, app, a)),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

/// `rkt://<uuid>:<app>`.
fn container_id(id: PodId, app: &AppStatus) -> String {
    format!("rkt://{id}:{}", app.app)
}

/// The attempts that have come to something. One that has begun and whose app has not been executed yet is the wait
/// before it: the unit is active only after that.
fn visible(app: &AppStatus) -> Vec<&Attempt> {
    let is_over = |a: &Attempt| a.error.is_some() || a.ended.is_some();
    let is_visible = |a: &&Attempt| is_over(a) || (a.started.is_some() && app.unit != UnitState::Activating);
    app.attempts.iter().filter(is_visible).collect()
}

fn is_running(app: &AppStatus, newest: &Attempt) -> bool {
    app.unit.is_live() && newest.error.is_none() && newest.ended.is_none()
}

fn why_not(seen: &Seen<'_>, container: &Container, waits_for_init: bool) -> (String, Option<String>) {
    if let Some(trouble) = seen.trouble {
        if trouble.container.as_ref().is_none_or(|name| *name == container.name) {
            return (trouble.reason.clone(), Some(trouble.message.clone()));
        }
    } else if waits_for_init {
        return ("PodInitializing".to_owned(), None);
    }
    ("ContainerCreating".to_owned(), None)
}

fn crash_loop(seen: &Seen<'_>, member: &Member<'_>) -> (String, Option<String>) {
    let (container, pod) = (&member.container.name, &seen.desired.name);
    ("CrashLoopBackOff".to_owned(), Some(format!("back-off restarting container {container} of pod {pod}")))
}

fn waiting((reason, message): (String, Option<String>)) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn state_running(attempt: &Attempt) -> ContainerState {
    let started_at = attempt.started.as_ref().map(|s| Time(s.at));
    ContainerState { running: Some(ContainerStateRunning { started_at }), ..ContainerState::default() }
}

fn state_terminated(id: PodId, app: &AppStatus, attempt: &Attempt) -> ContainerState {
    let (exit_code, signal) = exit(attempt);
    let ended = attempt.ended.as_ref();
    let message = attempt.error.clone().or_else(|| match ended {
        None => Some("nobody saw how the container ended".to_owned()),
        Some(_) => None,
    });
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(id, app)),
        exit_code,
        signal,
        reason: Some(reason(attempt).to_owned()),
        message,
        started_at: attempt.started.as_ref().map(|s| Time(s.at)),
        finished_at: ended.map(|e| Time(e.at)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn reason(attempt: &Attempt) -> &'static str {
    let result = attempt.ended.as_ref().map(|e| e.result.as_str());
    if attempt.error.is_some() {
        "StartError"
    } else if result == Some("oom-kill") {
        "OOMKilled"
    } else if succeeded(attempt) {
        "Completed"
    } else if attempt.ended.is_none() {
        "ContainerStatusUnknown"
    } else {
        "Error"
    }
}

/// Exit code and signal. The code of a signal is 128 and its number, as a shell has it.
fn exit(attempt: &Attempt) -> (i32, Option<i32>) {
    if attempt.error.is_some() {
        return (START_ERROR, None);
    }
    let Some(ended) = &attempt.ended else { return (LOST, None) };
    let signal = match &ended.exit {
        Exit::Killed(name) | Exit::Dumped(name) => pod::signal::number(name).map(i32::from),
        Exit::Exited(_) | Exit::Unknown => None,
    };
    (ended.exit.code().map_or(LOST, i32::from), signal)
}
