//! Pods for the tables of other tests, and a worker against a runtime that pretends.

use super::*;
use crate::desired::Desired;
use crate::runtime::{AppStatus, Instance, UnitState};
use pod::attempt::{Attempt, Ended, Exit, Started};
use pod::{PodId, ProcessRef, State};

/// A pod with these containers; `!` at the end of an init container makes it a sidecar.
pub(crate) fn desired(policy: &str, init: &[&str], main: &[&str]) -> Desired {
    let container = |name: &&str| match name.strip_suffix('!') {
        Some(name) => serde_json::json!({"name": name, "image": "i", "restartPolicy": "Always"}),
        None => serde_json::json!({"name": name, "image": "i"}),
    };
    let list = |names: &[&str]| names.iter().map(container).collect::<Vec<_>>();
    let mut document = serde_json::json!({
        "metadata": {"name": "web"},
        "spec": {"restartPolicy": policy, "containers": list(main)}});
    if !init.is_empty() {
        document["spec"]["initContainers"] = serde_json::json!(list(init));
    }
    let file = std::path::Path::new("/m/web.yaml");
    crate::source::static_pod::pod(document, file, "n1", jiff::Timestamp::UNIX_EPOCH).unwrap()
}

/// An instance of it.
pub(crate) fn instance(
    desired: &Desired,
    state: State,
    sandbox: UnitState,
    apps: Vec<AppStatus>,
) -> Instance {
    let epoch = Some(jiff::Timestamp::UNIX_EPOCH);
    let (id, hash) = (PodId::random(), desired.hash.clone());
    Instance { id, hash, state, created: epoch, launched: epoch, sandbox, apps }
}

/// An app of it.
pub(crate) fn app(name: &str, unit: UnitState, attempts: Vec<Attempt>) -> AppStatus {
    AppStatus { app: name.parse().unwrap(), image: "sha256-00".to_owned(), unit, attempts }
}

/// An attempt that ended with this status, or has not ended.
pub(crate) fn attempt(number: u32, status: Option<u8>) -> Attempt {
    let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
    let (start, end) = (i64::from(number) * 100, i64::from(number) * 100 + 5);
    let started = Started { at: at(start), process: ProcessRef { pid: 1, start: 1 }, invocation_id: None };
    let result = if status == Some(0) { "success" } else { "exit-code" }.to_owned();
    let ended = status.map(|s| Ended { at: at(end), exit: Exit::Exited(s), result });
    Attempt { number, started: Some(started), error: None, ended }
}

mod fake {
    use super::*;
    use crate::desired::FullName;
    use crate::runtime::{ActError, ObserveError, PrepareError, Runtime};
    use crate::translate::Refusal;
    use std::sync::Mutex;

    /// Pods in memory. What is begun is finished at the next look, as with systemd.
    #[derive(Debug, Default)]
    pub(super) struct Fake {
        pub(super) instances: Mutex<Vec<Instance>>,
        pub(super) log: Mutex<Vec<String>>,
        /// This many preparations fail.
        pub(super) refusals: Mutex<u32>,
        pub(super) changed: tokio::sync::Notify,
    }

    impl Fake {
        pub(super) fn log(&self) -> Vec<String> {
            std::mem::take(&mut self.log.lock().unwrap())
        }

        fn note(&self, what: impl Into<String>) {
            self.log.lock().unwrap().push(what.into());
        }

        pub(super) fn edit(&self, id: PodId, change: impl FnOnce(&mut Instance)) {
            change(self.instances.lock().unwrap().iter_mut().find(|i| i.id == id).unwrap());
            self.changed.notify_one();
        }

        fn activate(&self, id: PodId, apps: &[pod::AppName]) {
            self.edit(id, |i| {
                i.sandbox = UnitState::Active;
                i.state = State::Running;
                for a in i.apps.iter_mut().filter(|a| apps.contains(&a.app)) {
                    a.unit = UnitState::Active;
                    let number = u32::try_from(a.attempts.len()).unwrap() + 1;
                    a.attempts.push(attempt(number, None));
                }
            });
        }
    }

    impl Runtime for Fake {
        async fn observe(&self, _: &FullName) -> Result<Vec<Instance>, ObserveError> {
            Ok(self.instances.lock().unwrap().clone())
        }

        async fn prepare(&self, desired: &Desired) -> Result<PodId, PrepareError> {
            self.note("prepare");
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(PrepareError::Refused(Refusal::pod("not today")));
            }
            let names = crate::translate::app_names(desired.spec());
            let apps = names.iter().map(|n| app(n.as_str(), UnitState::Inactive, vec![])).collect();
            let new = instance(desired, State::Prepared, UnitState::Inactive, apps);
            let id = new.id;
            self.instances.lock().unwrap().push(new);
            Ok(id)
        }

        async fn start(&self, _: &Desired, id: PodId, apps: &[pod::AppName]) -> Result<(), ActError> {
            self.note(format!("start {apps:?}"));
            self.activate(id, apps);
            Ok(())
        }

        async fn start_apps(&self, _: &Desired, id: PodId, apps: &[pod::AppName]) -> Result<(), ActError> {
            self.note(format!("apps {apps:?}"));
            self.activate(id, apps);
            Ok(())
        }

        async fn stop(&self, instance: &Instance) -> Result<(), ActError> {
            self.note("stop");
            self.edit(instance.id, |i| {
                i.sandbox = UnitState::Inactive;
                i.state = State::Exited;
                i.apps.iter_mut().for_each(|a| a.unit = UnitState::Inactive);
            });
            Ok(())
        }

        async fn remove(&self, id: PodId) -> Result<(), ActError> {
            self.note("remove");
            self.instances.lock().unwrap().retain(|i| i.id != id);
            Ok(())
        }

        async fn changed(&self, _: &FullName) {
            self.changed.notified().await;
        }
    }
}

use crate::board::Board;
use crate::finished::Finished;
use crate::translate::NodeFacts;
use fake::Fake;
use pod::stage1::Backoff;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Rig {
    /// Held until the end.
    _root: tempfile::TempDir,
    fake: Arc<Fake>,
    board: Board,
    wanted: watch::Sender<Option<Arc<Desired>>>,
    task: JoinHandle<()>,
}

fn rig(fake: Arc<Fake>, first: &Desired) -> Rig {
    let facts = NodeFacts { name: "n1".to_owned(), ip: "192.0.2.1".to_owned(), memory: 1 << 30 };
    let board = Board::new(Arc::new(facts));
    let (wanted, receiver) = watch::channel(Some(Arc::new(first.clone())));
    let root = tempfile::tempdir().unwrap();
    let finished = Finished::new(root.path());
    let (name, runtime) = (first.name.clone(), Arc::clone(&fake));
    let worker = Worker::new(name, runtime, receiver, board.clone(), finished, Backoff::KUBERNETES);
    Rig { _root: root, fake, board, wanted, task: tokio::spawn(worker.run()) }
}

impl Rig {
    /// Lets the worker work, and says what it did.
    async fn after(&self, time: Duration) -> Vec<String> {
        tokio::time::sleep(time).await;
        self.fake.log()
    }

    fn phase(&self) -> String {
        self.board.pods()[0].status.clone().unwrap().phase.unwrap()
    }

    fn first(&self) -> PodId {
        self.fake.instances.lock().unwrap()[0].id
    }
}

const MOMENT: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn a_pod_is_made_replaced_and_removed() {
    let rig = rig(Arc::default(), &desired("Always", &[], &["a"]));
    assert_eq!(rig.after(MOMENT).await, ["prepare", "start [\"a\"]"]);
    assert_eq!(rig.phase(), "Running");
    assert_eq!(rig.after(Duration::from_secs(100)).await, Vec::<String>::new());

    let _ = rig.wanted.send_replace(Some(Arc::new(desired("Always", &[], &["b"]))));
    assert_eq!(rig.after(MOMENT).await, ["stop", "remove", "prepare", "start [\"b\"]"]);

    let _ = rig.wanted.send_replace(None);
    assert_eq!(rig.after(MOMENT).await, ["stop", "remove"]);
    assert!(rig.task.is_finished());
    assert_eq!(rig.board.pods(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_ends_leaves_its_pods_and_the_next_one_touches_nothing() {
    let web = desired("Always", &["i"], &["a"]);
    let first = rig(Arc::default(), &web);
    assert_eq!(first.after(MOMENT).await, ["prepare", "start [\"i\"]"]);
    first.fake.edit(first.first(), |i| {
        i.apps[0].unit = UnitState::Inactive;
        i.apps[0].attempts = vec![attempt(1, Some(0))];
    });
    assert_eq!(first.after(MOMENT).await, ["apps [\"a\"]"]);
    drop(first.wanted);
    tokio::time::sleep(MOMENT).await;
    assert!(first.task.is_finished() && first.fake.log().is_empty());

    let second = rig(Arc::clone(&first.fake), &web);
    assert_eq!(second.after(Duration::from_secs(100)).await, Vec::<String>::new());
    assert_eq!(second.phase(), "Running");
}

#[tokio::test(start_paused = true)]
async fn a_prepared_pod_of_a_kubelet_that_was_killed_is_used() {
    let web = desired("Always", &[], &["a"]);
    let fake = Arc::new(Fake::default());
    let apps = vec![app("a", UnitState::Inactive, vec![])];
    fake.instances.lock().unwrap().push(instance(&web, State::Prepared, UnitState::Inactive, apps));
    let rig = rig(fake, &web);
    assert_eq!(rig.after(MOMENT).await, ["start [\"a\"]"]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_with_growing_waits() {
    let fake = Arc::new(Fake::default());
    *fake.refusals.lock().unwrap() = 3;
    let rig = rig(fake, &desired("Always", &[], &["a"]));
    assert_eq!(rig.after(Duration::from_secs(9)).await, ["prepare"]);
    let status = rig.board.pods()[0].status.clone().unwrap();
    let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
    let waiting = state.waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CreateContainerConfigError"));
    assert_eq!(waiting.message.as_deref(), Some("not today"));
    assert_eq!(rig.after(Duration::from_secs(2)).await, ["prepare"]);
    assert_eq!(rig.after(Duration::from_secs(18)).await, Vec::<String>::new());
    assert_eq!(rig.after(Duration::from_secs(3)).await, ["prepare"]);
    assert_eq!(rig.after(Duration::from_secs(41)).await, ["prepare", "start [\"a\"]"]);
    assert_eq!(rig.phase(), "Running");
}

#[tokio::test(start_paused = true)]
async fn a_new_version_does_not_wait_for_the_back_off_of_the_old() {
    let fake = Arc::new(Fake::default());
    *fake.refusals.lock().unwrap() = 1;
    let rig = rig(fake, &desired("Always", &[], &["a"]));
    assert_eq!(rig.after(MOMENT).await, ["prepare"]);
    let _ = rig.wanted.send_replace(Some(Arc::new(desired("Always", &[], &["b"]))));
    assert_eq!(rig.after(MOMENT).await, ["prepare", "start [\"b\"]"]);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_keeps_dying_is_not_started_in_a_frenzy() {
    let rig = rig(Arc::default(), &desired("Always", &[], &["a"]));
    assert_eq!(rig.after(MOMENT).await.len(), 2);
    let mut starts = 0;
    for _ in 0..100 {
        rig.fake.edit(rig.first(), |i| {
            i.sandbox = UnitState::Failed;
            i.state = State::Exited;
            i.apps[0].unit = UnitState::Inactive;
        });
        starts += rig.after(Duration::from_secs(1)).await.len();
    }
    assert!((3..=4).contains(&starts), "10, 20, 40 s: {starts}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_over_is_stopped_once_and_kept() {
    let rig = rig(Arc::default(), &desired("Never", &[], &["a"]));
    assert_eq!(rig.after(MOMENT).await.len(), 2);
    rig.fake.edit(rig.first(), |i| {
        i.apps[0].unit = UnitState::Inactive;
        i.apps[0].attempts = vec![attempt(1, Some(0))];
    });
    assert_eq!(rig.after(Duration::from_secs(100)).await, ["stop"]);
    assert_eq!(rig.phase(), "Succeeded");
    assert_eq!(rig.fake.instances.lock().unwrap().len(), 1);

    // Somebody collects garbage: the job does not run again, and a new version of it does.
    rig.fake.instances.lock().unwrap().clear();
    assert_eq!(rig.after(Duration::from_secs(100)).await, Vec::<String>::new());
    assert_eq!(rig.phase(), "Succeeded");
    let _ = rig.wanted.send_replace(Some(Arc::new(desired("Never", &[], &["b"]))));
    assert_eq!(rig.after(MOMENT).await, ["prepare", "start [\"b\"]"]);
}
