//! Statuses, from tables.

use super::*;
use crate::runtime::{AppStatus, UnitState};
use crate::worker::tests::{app, attempt, desired, instance};
use UnitState::{Activating, Active, Failed, Inactive};
use pod::State;
use pod::attempt::{Attempt, Exit};

fn facts() -> NodeFacts {
    NodeFacts { name: "n1".to_owned(), ip: "192.0.2.7".to_owned(), memory: 1 << 30 }
}

fn status(
    policy: &str,
    init: &[&str],
    main: &[&str],
    apps: Option<Vec<AppStatus>>,
    trouble: Option<Trouble>,
) -> PodStatus {
    let desired = desired(policy, init, main);
    let instance = apps.map(|apps| instance(&desired, State::Running, Active, apps));
    let (instance, trouble, node) = (instance.as_ref(), trouble.as_ref(), &facts());
    pod(&Seen { desired: &desired, instance, trouble, node, now: jiff::Timestamp::UNIX_EPOCH }, None)
}

/// State, last state and restarts of a container, in one line.
fn line(c: &ContainerStatus) -> String {
    let word = |state: &k8s_openapi::api::core::v1::ContainerState| match (
        &state.running,
        &state.terminated,
        &state.waiting,
    ) {
        (Some(_), _, _) => "running".to_owned(),
        (_, Some(t), _) => format!("{}({})", t.reason.clone().unwrap(), t.exit_code),
        (_, _, w) => w.clone().unwrap().reason.unwrap(),
    };
    let last = c.last_state.as_ref().map(|s| format!(" after {}", word(s))).unwrap_or_default();
    let ready = if c.ready { " ready" } else { "" };
    format!("{}{last} x{}{ready}", word(c.state.as_ref().unwrap()), c.restart_count)
}

fn ended(number: u32, exit: Exit, result: &str) -> Attempt {
    let mut attempt = attempt(number, Some(1));
    let end = attempt.ended.as_mut().unwrap();
    end.exit = exit;
    end.result = result.to_owned();
    attempt
}

fn unstarted(number: u32, error: Option<&str>) -> Attempt {
    let mut attempt = attempt(number, None);
    attempt.started = None;
    attempt.error = error.map(str::to_owned);
    attempt
}

#[test]
fn one_container() {
    let table = [
        ("Always", Inactive, vec![], "Pending", "ContainerCreating x0"),
        ("Always", Activating, vec![], "Pending", "ContainerCreating x0"),
        ("Always", Activating, vec![unstarted(1, None)], "Pending", "ContainerCreating x0"),
        ("Always", Activating, vec![attempt(1, None)], "Pending", "ContainerCreating x0"),
        ("Always", Active, vec![attempt(1, None)], "Running", "running x0 ready"),
        (
            "Always",
            Active,
            vec![attempt(1, Some(3)), attempt(2, None)],
            "Running",
            "running after Error(3) x1 ready",
        ),
        ("Always", Activating, vec![attempt(1, Some(3))], "Running", "CrashLoopBackOff after Error(3) x0"),
        (
            "Always",
            Activating,
            vec![attempt(1, Some(3)), attempt(2, Some(0)), unstarted(3, None)],
            "Running",
            "CrashLoopBackOff after Completed(0) x1",
        ),
        ("OnFailure", Activating, vec![attempt(1, Some(3))], "Running", "CrashLoopBackOff after Error(3) x0"),
        ("OnFailure", Inactive, vec![attempt(1, Some(0))], "Succeeded", "Completed(0) x0"),
        ("Never", Inactive, vec![attempt(1, Some(0))], "Succeeded", "Completed(0) x0"),
        ("Never", Failed, vec![attempt(1, Some(9))], "Failed", "Error(9) x0"),
        (
            "Never",
            Failed,
            vec![ended(1, Exit::Killed("KILL".into()), "oom-kill")],
            "Failed",
            "OOMKilled(137) x0",
        ),
        ("Never", Failed, vec![ended(1, Exit::Killed("TERM".into()), "signal")], "Failed", "Error(143) x0"),
        ("Never", Failed, vec![unstarted(1, Some("no such file"))], "Failed", "StartError(128) x0"),
        ("Never", Inactive, vec![attempt(1, None)], "Failed", "ContainerStatusUnknown(137) x0"),
    ];
    for (policy, unit, attempts, phase, expected) in table {
        let got = status(policy, &[], &["a"], Some(vec![app("a", unit, attempts.clone())]), None);
        let container = &got.container_statuses.as_ref().unwrap()[0];
        assert_eq!(
            (got.phase.as_deref(), line(container).as_str()),
            (Some(phase), expected),
            "{policy} {unit:?} {attempts:?}"
        );
    }
}

#[test]
fn details_of_an_end() {
    let killed = ended(2, Exit::Killed("SEGV".into()), "signal");
    let got =
        status("Never", &[], &["a"], Some(vec![app("a", Failed, vec![attempt(1, Some(0)), killed])]), None);
    let container = &got.container_statuses.unwrap()[0];
    let t = container.state.clone().unwrap().terminated.unwrap();
    assert_eq!((t.exit_code, t.signal), (139, Some(11)));
    assert_eq!(t.started_at.unwrap().0.as_second(), 200);
    assert_eq!(t.finished_at.unwrap().0.as_second(), 205);
    let id = container.container_id.clone().unwrap();
    assert!(id.starts_with("rkt://") && id.ends_with(":a") && id.len() == 6 + 36 + 2, "{id}");
    assert_eq!(container.image_id, "sha256-00");
}

#[test]
fn init_containers() {
    let done = |n| app(n, Inactive, vec![attempt(1, Some(0))]);
    let new = |n| app(n, Inactive, vec![]);
    let runs = |n| app(n, Active, vec![attempt(1, None)]);
    let table = [
        (
            vec![runs("i"), new("j"), new("a")],
            "Pending",
            "running x0",
            "PodInitializing x0",
            "PodInitializing x0",
            "False",
        ),
        (
            vec![done("i"), runs("j"), new("a")],
            "Pending",
            "Completed(0) x0 ready",
            "running x0",
            "PodInitializing x0",
            "False",
        ),
        (
            vec![done("i"), done("j"), new("a")],
            "Pending",
            "Completed(0) x0 ready",
            "Completed(0) x0 ready",
            "ContainerCreating x0",
            "True",
        ),
        (
            vec![done("i"), done("j"), runs("a")],
            "Running",
            "Completed(0) x0 ready",
            "Completed(0) x0 ready",
            "running x0 ready",
            "True",
        ),
    ];
    for (apps, phase, i, j, a, initialized) in table {
        let got = status("Always", &["i", "j"], &["a"], Some(apps), None);
        let init: Vec<String> = got.init_container_statuses.as_ref().unwrap().iter().map(line).collect();
        assert_eq!((init[0].as_str(), init[1].as_str()), (i, j));
        assert_eq!(line(&got.container_statuses.as_ref().unwrap()[0]), a);
        assert_eq!(got.phase.as_deref(), Some(phase));
        let condition = got.conditions.as_ref().unwrap().iter().find(|c| c.type_ == "Initialized").unwrap();
        assert_eq!(condition.status, initialized);
    }
    let failed = vec![app("i", Failed, vec![attempt(1, Some(1))]), new("j"), new("a")];
    assert_eq!(status("Never", &["i", "j"], &["a"], Some(failed), None).phase.as_deref(), Some("Failed"));
}

#[test]
fn two_containers() {
    let runs = |n| app(n, Active, vec![attempt(1, None)]);
    let waits = app("b", Activating, vec![attempt(1, Some(1))]);
    let got = status("Always", &[], &["a", "b"], Some(vec![runs("a"), waits]), None);
    assert_eq!(got.phase.as_deref(), Some("Running"));
    let condition = |name: &str| {
        let found = got.conditions.as_ref().unwrap().iter().find(|c| c.type_ == name).unwrap();
        (
            found.status.clone(),
            found.reason.clone().unwrap_or_default(),
            found.message.clone().unwrap_or_default(),
        )
    };
    let not_ready = (
        "False".to_owned(),
        "ContainersNotReady".to_owned(),
        "containers with unready status: [\"b\"]".to_owned(),
    );
    assert_eq!(condition("Ready"), not_ready);
    assert_eq!(condition("PodScheduled").0, "True");
    let one_done = vec![app("a", Inactive, vec![attempt(1, Some(0))]), runs("b")];
    assert_eq!(status("Never", &[], &["a", "b"], Some(one_done), None).phase.as_deref(), Some("Running"));
}

#[test]
fn what_is_in_the_way_is_said() {
    let trouble = |container: Option<&str>| Trouble {
        container: container.map(str::to_owned),
        reason: "ImagePullBackOff".to_owned(),
        message: "no".to_owned(),
    };
    let reasons = |trouble| {
        let got = status("Always", &[], &["a", "b"], None, Some(trouble));
        assert_eq!(got.phase.as_deref(), Some("Pending"));
        got.container_statuses.unwrap().iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(reasons(trouble(Some("b"))), ["ContainerCreating x0", "ImagePullBackOff x0"]);
    assert_eq!(reasons(trouble(None)), ["ImagePullBackOff x0", "ImagePullBackOff x0"]);
}

#[test]
fn times_of_conditions_stay_until_they_change() {
    let desired = desired("Always", &[], &["a"]);
    let node = facts();
    let at = |seconds, instance, before: Option<&PodStatus>| {
        let now = jiff::Timestamp::from_second(seconds).unwrap();
        pod(&Seen { desired: &desired, instance, trouble: None, node: &node, now }, before)
    };
    let since = |status: &PodStatus, name: &str| {
        let condition = status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == name).unwrap().clone();
        condition.last_transition_time.unwrap().0.as_second()
    };
    let first = at(100, None, None);
    let second = at(200, None, Some(&first));
    assert_eq!((since(&second, "Ready"), second.start_time.clone().unwrap().0.as_second()), (100, 100));
    let there = instance(&desired, State::Running, Active, vec![app("a", Active, vec![attempt(1, None)])]);
    let third = at(300, Some(&there), Some(&second));
    assert_eq!((since(&third, "Ready"), since(&third, "PodScheduled")), (300, 100));
    assert_eq!(third.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(third.host_ip.as_deref(), Some("192.0.2.7"));
}
