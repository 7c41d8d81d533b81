//! From what is wanted and what there is to the one next action. Pure: no clock, no I/O.
//!
//! The order of the rules is the order of a replacement: first what must go is stopped and removed, then the new
//! instance is prepared, started, and its containers are started in order. A pod that is over is stopped and kept, so
//! that its status stays visible until it is replaced.

use pod::{AppName, PodId, State};

use super::lifecycle::{Life, Member, Role, life, members, outcome};
use crate::desired::Desired;
use crate::runtime::{Instance, UnitState};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make an instance.
    Prepare,
    /// Start an instance's sandbox and these apps.
    Start(PodId, Vec<AppName>),
    /// Start these apps in a running sandbox.
    StartApps(PodId, Vec<AppName>),
    /// Stop an instance.
    Stop(PodId),
    /// Delete an instance.
    Remove(PodId),
    /// Nothing: everything is as it should be, or on its way.
    Wait,
    /// Nothing yet: something is about to happen of which no event may tell.
    LookAgain,
    /// Nothing is wanted, and nothing is left.
    Gone,
}

/// The next action for a pod of which `desired` is wanted and `instances` are there.
pub(crate) fn plan(desired: Option<&Desired>, instances: &[Instance]) -> Action {
    let current = desired.and_then(|d| current(d, instances));
    let mut obsolete = instances.iter().filter(|i| current.is_none_or(|c| c.id != i.id));
    if let Some(action) = obsolete.find_map(retire) {
        return action;
    }
    match (desired, current) {
        (None, _) => Action::Gone,
        (Some(_), None) => Action::Prepare,
        (Some(desired), Some(instance)) => run(desired, instance),
    }
}

/// The instance that is to be run: of the wanted version, and of several the one that has come furthest.
pub(crate) fn current<'a>(desired: &Desired, instances: &'a [Instance]) -> Option<&'a Instance> {
    let progress = |i: &Instance| match i.state {
        State::Running => 3,
        State::Exited => 2,
        State::Prepared => 1,
        _ => 0,
    };
    let fitting = instances.iter().filter(|i| i.hash == desired.hash && !i.is_garbage());
    fitting.max_by_key(|i| (progress(i), i.created))
}

/// The next step towards an instance's end. `None`: there is nothing to do about it.
fn retire(instance: &Instance) -> Option<Action> {
    let units = || instance.apps.iter().map(|a| a.unit).chain([instance.sandbox]);
    if instance.is_garbage() {
        // `rkt gc` has it.
        None
    } else if units().any(|u| u == UnitState::Deactivating) {
        Some(Action::Wait)
    } else if units().any(UnitState::is_live) {
        Some(Action::Stop(instance.id))
    } else if matches!(instance.state, State::Running | State::Preparing) {
        // Somebody holds the lock and it is no unit: a `rkt prepare` that survived its kubelet, or the moment between a
        // unit's end and that of its descriptors.
        Some(Action::LookAgain)
    } else {
        Some(Action::Remove(instance.id))
    }
}

/// The next step of the instance that is wanted.
fn run(desired: &Desired, instance: &Instance) -> Action {
    if outcome(desired, instance).is_some() {
        return match instance.sandbox {
            UnitState::Active | UnitState::Activating => Action::Stop(instance.id),
            UnitState::Inactive | UnitState::Deactivating | UnitState::Failed => Action::Wait,
        };
    }
    match instance.sandbox {
        UnitState::Deactivating | UnitState::Activating => Action::Wait,
        UnitState::Active => match due(desired, instance, Sandbox::Runs) {
            apps if apps.is_empty() => Action::Wait,
            apps => Action::StartApps(instance.id, apps),
        },
        UnitState::Inactive | UnitState::Failed => match instance.state {
            State::Prepared | State::Exited => {
                Action::Start(instance.id, due(desired, instance, Sandbox::IsStarted))
            }
            _ => Action::LookAgain,
        },
    }
}

/// Whether the sandbox runs already.
#[derive(Clone, Copy, PartialEq)]
enum Sandbox {
    IsStarted,
    Runs,
}

/// The apps that are to be started now: the next init container, or everything after the last.
fn due(desired: &Desired, instance: &Instance, sandbox: Sandbox) -> Vec<AppName> {
    let members = members(desired, instance);
    let life = |m: &Member<'_>| match (sandbox, m.role) {
        // Init containers run again in a new sandbox, whatever they did before.
        (Sandbox::IsStarted, Role::Init) => Life::New,
        _ => life(desired, instance, m),
    };
    let names = |m: &Member<'_>| m.app.app.clone();
    for member in members.iter().filter(|m| m.role != Role::Main) {
        match (member.role, life(member)) {
            (_, Life::New | Life::Due) => return vec![names(member)],
            (_, Life::Succeeded) => {}
            (Role::Sidecar, Life::Live) if member.app.unit == UnitState::Active => {}
            (_, Life::Live | Life::Failed) => return Vec::new(),
        }
    }
    let mains = members.iter().filter(|m| m.role == Role::Main);
    mains.filter(|m| matches!(life(m), Life::New | Life::Due)).map(names).collect()
}

impl Instance {
    /// Whether it is marked for deletion, or was never finished: a matter of `rkt gc`.
    pub(crate) fn is_garbage(&self) -> bool {
        matches!(
            self.state,
            State::Embryo | State::AbortedPrepare | State::ExitedGarbage | State::Deleting | State::Garbage
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::{app, attempt, desired, instance};
    use UnitState::{Activating, Active, Deactivating, Failed, Inactive};

    /// The action without the pod's id: what a table can hold.
    fn planned(desired: Option<&Desired>, instances: &[Instance]) -> String {
        let names = |apps: Vec<AppName>| apps.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match plan(desired, instances) {
            Action::Start(_, apps) => format!("start {}", names(apps)),
            Action::StartApps(_, apps) => format!("apps {}", names(apps)),
            Action::Stop(_) => "stop".to_owned(),
            Action::Remove(_) => "remove".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    #[test]
    fn from_nothing_to_running() {
        let web = desired("Always", &[], &["a", "b"]);
        assert_eq!(planned(Some(&web), &[]), "prepare");
        let apps = |unit| vec![app("a", unit, vec![]), app("b", unit, vec![])];
        let table = [
            (State::Preparing, Inactive, Inactive, "lookagain"),
            (State::Prepared, Inactive, Inactive, "start a,b"),
            (State::Prepared, Failed, Inactive, "start a,b"),
            (State::Prepared, Activating, Inactive, "wait"),
            (State::Running, Activating, Inactive, "wait"),
            (State::Running, Active, Inactive, "apps a,b"),
            (State::Running, Active, Activating, "wait"),
            (State::Running, Active, Active, "wait"),
            (State::Running, Deactivating, Active, "wait"),
            (State::Running, Inactive, Inactive, "lookagain"),
            (State::Exited, Inactive, Inactive, "start a,b"),
        ];
        for (state, sandbox, unit, expected) in table {
            let there = instance(&web, state, sandbox, apps(unit));
            assert_eq!(planned(Some(&web), &[there]), expected, "{state:?} {sandbox:?} {unit:?}");
        }
    }

    #[test]
    fn what_is_not_wanted_is_stopped_and_removed_first() {
        let old = desired("Always", &[], &["a"]);
        let new = desired("Never", &[], &["a"]);
        assert_ne!(old.hash, new.hash);
        let table = [
            (State::Running, Active, Active, "stop"),
            (State::Running, Active, Activating, "stop"),
            (State::Running, Inactive, Active, "stop"),
            (State::Running, Deactivating, Active, "wait"),
            (State::Running, Active, Deactivating, "wait"),
            (State::Running, Inactive, Inactive, "lookagain"),
            (State::Exited, Inactive, Inactive, "remove"),
            (State::Exited, Failed, Failed, "remove"),
            (State::Prepared, Inactive, Inactive, "remove"),
            (State::Prepared, Activating, Inactive, "stop"),
        ];
        for (state, sandbox, unit, expected) in table {
            let there = [instance(&old, state, sandbox, vec![app("a", unit, vec![])])];
            for wanted in [None, Some(&new)] {
                assert_eq!(planned(wanted, &there), expected, "{state:?} {sandbox:?} {unit:?}");
            }
        }
        assert_eq!(planned(None, &[]), "gone");
        for state in
            [State::AbortedPrepare, State::Garbage, State::ExitedGarbage, State::Deleting, State::Embryo]
        {
            let left = [instance(&old, state, Inactive, vec![])];
            assert_eq!(planned(None, &left), "gone", "{state:?}");
            assert_eq!(planned(Some(&old), &left), "prepare", "{state:?}");
        }
    }

    #[test]
    fn of_two_instances_of_one_version_the_one_that_runs_stays() {
        let web = desired("Always", &[], &["a"]);
        let runs = instance(&web, State::Running, Active, vec![app("a", Active, vec![])]);
        let spare = instance(&web, State::Prepared, Inactive, vec![app("a", Inactive, vec![])]);
        assert_eq!(plan(Some(&web), &[spare.clone(), runs.clone()]), Action::Remove(spare.id));
        assert_eq!(plan(Some(&web), &[runs]), Action::Wait);
    }

    #[test]
    fn containers_that_ended() {
        let (ok, bad, lost) = (attempt(1, Some(0)), attempt(1, Some(3)), attempt(1, None));
        let table = [
            ("Always", Inactive, vec![ok.clone()], "apps a"),
            ("Always", Failed, vec![bad.clone()], "apps a"),
            ("Always", Activating, vec![bad.clone()], "wait"),
            ("OnFailure", Inactive, vec![ok.clone()], "stop"),
            ("OnFailure", Failed, vec![bad.clone()], "apps a"),
            ("OnFailure", Inactive, vec![lost.clone()], "apps a"),
            ("Never", Inactive, vec![ok], "stop"),
            ("Never", Failed, vec![bad], "stop"),
            ("Never", Inactive, vec![lost], "stop"),
            ("Never", Inactive, vec![], "apps a"),
        ];
        for (policy, unit, attempts, expected) in table {
            let job = desired(policy, &[], &["a"]);
            let there = instance(&job, State::Running, Active, vec![app("a", unit, attempts.clone())]);
            assert_eq!(planned(Some(&job), &[there]), expected, "{policy} {unit:?} {attempts:?}");
        }
    }

    #[test]
    fn a_pod_that_is_over_is_not_started_again() {
        let job = desired("OnFailure", &[], &["a", "b"]);
        let ended = |code| attempt(1, Some(code));
        let apps = |b| vec![app("a", Inactive, vec![ended(0)]), app("b", Inactive, vec![ended(b)])];
        let there = instance(&job, State::Exited, Inactive, apps(0));
        assert_eq!(planned(Some(&job), &[there]), "wait");
        let there = instance(&job, State::Exited, Inactive, apps(1));
        assert_eq!(planned(Some(&job), &[there]), "start b", "what succeeded is not repeated");
    }

    #[test]
    fn init_containers_run_in_order() {
        let pod = desired("Always", &["i1", "i2"], &["a"]);
        let done = |name| app(name, Inactive, vec![attempt(1, Some(0))]);
        let new = |name| app(name, Inactive, vec![]);
        let table = [
            (vec![new("i1"), new("i2"), new("a")], "apps i1"),
            (vec![app("i1", Active, vec![attempt(1, None)]), new("i2"), new("a")], "wait"),
            (vec![app("i1", Activating, vec![attempt(1, Some(1))]), new("i2"), new("a")], "wait"),
            (vec![app("i1", Failed, vec![attempt(1, Some(1))]), new("i2"), new("a")], "apps i1"),
            (vec![done("i1"), new("i2"), new("a")], "apps i2"),
            (vec![done("i1"), done("i2"), new("a")], "apps a"),
            (vec![done("i1"), done("i2"), app("a", Active, vec![])], "wait"),
        ];
        for (apps, expected) in table {
            let there = instance(&pod, State::Running, Active, apps.clone());
            assert_eq!(planned(Some(&pod), &[there]), expected, "{apps:?}");
        }
        let fresh = instance(&pod, State::Prepared, Inactive, vec![new("i1"), new("i2"), new("a")]);
        assert_eq!(planned(Some(&pod), &[fresh]), "start i1");
        let again = instance(&pod, State::Exited, Inactive, vec![done("i1"), done("i2"), done("a")]);
        assert_eq!(planned(Some(&pod), &[again]), "start i1", "a new sandbox begins at the beginning");
    }

    #[test]
    fn init_containers_of_an_earlier_run_do_not_count() {
        let pod = desired("Always", &["i1"], &["a"]);
        let apps = vec![app("i1", Inactive, vec![attempt(1, Some(0))]), app("a", Inactive, vec![])];
        let mut there = instance(&pod, State::Running, Active, apps);
        there.launched = Some(jiff::Timestamp::MAX);
        assert_eq!(planned(Some(&pod), &[there]), "apps i1");
    }

    #[test]
    fn a_failed_init_container_ends_a_pod_that_is_never_restarted() {
        let pod = desired("Never", &["i1"], &["a"]);
        let apps = vec![app("i1", Failed, vec![attempt(1, Some(1))]), app("a", Inactive, vec![])];
        let there = instance(&pod, State::Running, Active, apps);
        assert_eq!(planned(Some(&pod), &[there]), "stop");
    }

    #[test]
    fn a_sidecar_is_started_in_order_and_does_not_keep_the_pod() {
        let pod = desired("Never", &["s!", "i"], &["a"]);
        let new = |name| app(name, Inactive, vec![]);
        let runs = |name| app(name, Active, vec![attempt(1, None)]);
        let done = |name| app(name, Inactive, vec![attempt(1, Some(0))]);
        let table = [
            (vec![new("s"), new("i"), new("a")], "apps s"),
            (vec![app("s", Activating, vec![]), new("i"), new("a")], "wait"),
            (vec![runs("s"), new("i"), new("a")], "apps i"),
            (vec![runs("s"), done("i"), new("a")], "apps a"),
            (vec![runs("s"), done("i"), runs("a")], "wait"),
            (vec![done("s"), done("i"), runs("a")], "apps s"),
            (vec![runs("s"), done("i"), done("a")], "stop"),
        ];
        for (apps, expected) in table {
            let there = instance(&pod, State::Running, Active, apps.clone());
            assert_eq!(planned(Some(&pod), &[there]), expected, "{apps:?}");
        }
    }
}
