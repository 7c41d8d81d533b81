//! What an app's attempts and unit mean for its pod: the rules of restart policies.
//!
//! Restarts are systemd's (`Restart=`); these rules say when systemd has finished with an app for good, and when an app
//! that does not run although it should has to be started again.

use k8s_openapi::api::core::v1::Container;
use pod::attempt::Attempt;

use crate::desired::{Desired, RestartPolicy};
use crate::resources::is_sidecar;
use crate::runtime::{AppStatus, Instance};

/// Which part a container has in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It runs before the others and must succeed.
    Init,
    /// It starts in the order of the init containers and runs as long as the pod.
    Sidecar,
    /// It is what the pod is for.
    Main,
}

/// Where an app is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It has not been started in this run of the sandbox.
    New,
    /// Its unit is at work: it runs, starts, or waits for its restart.
    Live,
    /// It has ended and has to be started again, which systemd does not do by itself any more.
    Due,
    /// It has succeeded for good.
    Succeeded,
    /// It has failed for good.
    Failed,
}

/// How a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All its containers succeeded.
    Succeeded,
    /// At least one failed.
    Failed,
}

/// A container of the manifest and the app that it became.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    /// The container.
    pub(crate) container: &'a Container,
    /// Its part.
    pub(crate) role: Role,
    /// Its app.
    pub(crate) app: &'a AppStatus,
}

/// The containers of a pod with their apps, in the order of their start.
pub(crate) fn members<'a>(desired: &'a Desired, instance: &'a Instance) -> Vec<Member<'a>> {
    let spec = desired.spec();
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|c| (c, if is_sidecar(c) { Role::Sidecar } else { Role::Init }));
    let all = init.chain(spec.containers.iter().map(|c| (c, Role::Main)));
    all.zip(&instance.apps).map(|((container, role), app)| Member { container, role, app }).collect()
}

/// The policy that holds for a container.
pub(crate) fn policy(pod: RestartPolicy, role: Role) -> RestartPolicy {
    match (role, pod) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
        (_, pod) => pod,
    }
}

/// Where an app is in its life.
pub(crate) fn life(desired: &Desired, instance: &Instance, member: &Member<'_>) -> Life {
    if member.app.unit.is_live() {
        return Life::Live;
    }
    // An init container has to run again in each run of the sandbox; what another did before still counts.
    let earlier = |a: &Attempt| {
        member.role == Role::Init && begun(a) < instance.launched && instance.launched.is_some()
    };
    let Some(newest) = member.app.attempts.last().filter(|a| !earlier(a)) else { return Life::New };
    match (policy(desired.restart_policy(), member.role), succeeded(newest)) {
        (RestartPolicy::Always, _) | (RestartPolicy::OnFailure, false) => Life::Due,
        (RestartPolicy::OnFailure | RestartPolicy::Never, true) => Life::Succeeded,
        (RestartPolicy::Never, false) => Life::Failed,
    }
}

/// How the pod ended, if it has.
pub(crate) fn outcome(desired: &Desired, instance: &Instance) -> Option<Outcome> {
    let members = members(desired, instance);
    let lives = |role| members.iter().filter(move |m| m.role == role).map(|m| life(desired, instance, m));
    if lives(Role::Init).any(|l| l == Life::Failed) {
        return Some(Outcome::Failed);
    }
    let over = lives(Role::Main).all(|l| matches!(l, Life::Succeeded | Life::Failed));
    match over && !members.is_empty() {
        true if lives(Role::Main).any(|l| l == Life::Failed) => Some(Outcome::Failed),
        true => Some(Outcome::Succeeded),
        false => None,
    }
}

/// Whether an attempt ended well. One whose end nobody saw did not.
pub(crate) fn succeeded(attempt: &Attempt) -> bool {
    attempt.error.is_none() && attempt.ended.as_ref().is_some_and(|e| e.exit.code() == Some(0))
}

/// When an attempt began, or the nearest to it that is known.
fn begun(attempt: &Attempt) -> Option<jiff::Timestamp> {
    attempt
        .started
        .as_ref()
        .map(|s| s.at)
        .or(attempt.ended.as_ref().map(|e| e.at))
        .or(Some(jiff::Timestamp::MAX))
}
