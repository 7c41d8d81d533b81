//! A pod's status in Kubernetes' words.
//!
//! Computed from the manifest, the instance and, for a pod that does not run, what is in its way. Nothing is kept: a
//! kubelet that was restarted says the same. Only the times at which conditions changed are taken from the status before.

mod container;

use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::desired::{Desired, RestartPolicy};
use crate::resources;
use crate::runtime::Instance;
use crate::translate::NodeFacts;
use crate::worker::Trouble;
use crate::worker::lifecycle::{Life, Outcome, Role, life, members, outcome};

/// What a status is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// The manifest.
    pub(crate) desired: &'a Desired,
    /// The instance of this version, when there is one.
    pub(crate) instance: Option<&'a Instance>,
    /// What keeps the pod from running.
    pub(crate) trouble: Option<&'a Trouble>,
    /// The node.
    pub(crate) node: &'a NodeFacts,
    /// Now.
    pub(crate) now: jiff::Timestamp,
}

/// The status of a pod; `before` is the one that was last published.
pub(crate) fn pod(seen: &Seen<'_>, before: Option<&PodStatus>) -> PodStatus {
    let spec = seen.desired.spec();
    let initialized = is_initialized(seen);
    let statuses = container::statuses(seen, initialized);
    let init = spec.init_containers.as_ref().map_or(0, Vec::len);
    let (init, main) = statuses.split_at_checked(init).unwrap_or((&[], &statuses));
    let phase = phase(seen, initialized, main);
    let start = before.and_then(|b| b.start_time.clone());
    let created = seen.instance.and_then(|i| i.created).map(Time);
    let pod_ip = (spec.host_network == Some(true)).then(|| seen.node.ip.clone());
    PodStatus {
        conditions: Some(conditions(seen, initialized, phase, init, main, before)),
        container_statuses: Some(main.to_vec()),
        init_container_statuses: (!init.is_empty()).then(|| init.to_vec()),
        host_ip: Some(seen.node.ip.clone()),
        host_ips: Some(vec![HostIP { ip: seen.node.ip.clone() }]),
        pod_ips: pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip,
        phase: Some(phase.to_owned()),
        qos_class: Some(resources::qos(spec).as_str().to_owned()),
        start_time: Some(start.or(created).unwrap_or(Time(seen.now))),
        ..PodStatus::default()
    }
}

/// Whether the init containers are through.
fn is_initialized(seen: &Seen<'_>) -> bool {
    let Some(instance) = seen.instance else { return seen.desired.spec().init_containers.is_none() };
    members(seen.desired, instance).iter().all(|m| match m.role {
        Role::Init => life(seen.desired, instance, m) == Life::Succeeded,
        Role::Sidecar => !m.app.attempts.is_empty(),
        Role::Main => true,
    })
}

/// Kubernetes' rules for the phase of a pod.
fn phase(seen: &Seen<'_>, initialized: bool, main: &[ContainerStatus]) -> &'static str {
    match seen.instance.and_then(|i| outcome(seen.desired, i)) {
        Some(Outcome::Succeeded) => return "Succeeded",
        Some(Outcome::Failed) => return "Failed",
        None => {}
    }
    let has_run = |c: &ContainerStatus| {
        let state = c.state.as_ref();
        let now = state.is_some_and(|s| s.running.is_some() || s.terminated.is_some());
        now || c.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
    };
    let running = |c: &ContainerStatus| c.state.as_ref().is_some_and(|s| s.running.is_some());
    let all_have_run = main.iter().all(has_run);
    match initialized && all_have_run {
        true if main.iter().any(running) => "Running",
        // All of them are between two attempts.
        true if seen.desired.restart_policy() != RestartPolicy::Never => "Running",
        _ => "Pending",
    }
}

fn conditions(
    seen: &Seen<'_>,
    initialized: bool,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    before: Option<&PodStatus>,
) -> Vec<PodCondition> {
    let over = matches!(phase, "Succeeded" | "Failed");
    let not_ready: Vec<&str> = main.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let not_initialized: Vec<&str> = init.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let waiting = (!not_ready.is_empty()).then(|| match over {
        true => ("PodCompleted", String::new()),
        false => ("ContainersNotReady", format!("containers with unready status: {not_ready:?}")),
    });
    let incomplete = (!initialized && phase != "Succeeded").then(|| {
        ("ContainersNotInitialized", format!("containers with incomplete status: {not_initialized:?}"))
    });
    let sandbox = seen.instance.is_some_and(|i| i.sandbox.is_live());
    let no_sandbox = (!sandbox).then(|| ("", String::new()));
    let facts = [
        ("PodReadyToStartContainers", no_sandbox),
        ("Initialized", incomplete),
        ("Ready", waiting.clone()),
        ("ContainersReady", waiting),
        ("PodScheduled", None),
    ];
    facts.into_iter().map(|(name, problem)| condition(name, problem, before, seen.now)).collect()
}

/// A condition: true, unless something speaks against it.
fn condition(
    name: &str,
    problem: Option<(&str, String)>,
    before: Option<&PodStatus>,
    now: jiff::Timestamp,
) -> PodCondition {
    let status = if problem.is_none() { "True" } else { "False" };
    let (reason, message) = problem.unzip();
    let same = before.and_then(|b| b.conditions.as_ref()).into_iter().flatten();
    let since =
        same.filter(|c| c.type_ == name && c.status == status).find_map(|c| c.last_transition_time.clone());
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: reason.filter(|r| !r.is_empty()).map(str::to_owned),
        message: message.filter(|m| !m.is_empty()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests;
