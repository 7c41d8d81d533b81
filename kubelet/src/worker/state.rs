//! The state machine of [`crate::worker`]: one `step` at a time.

use std::sync::Arc;
use std::time::Duration;

use pod::stage1::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lifecycle::outcome;
use super::plan::{Action, current, plan};
use super::restart::Retry;
use crate::board::Board;
use crate::chain::chain;
use crate::desired::{Desired, FullName};
use crate::finished::Finished;
use crate::runtime::{Instance, PrepareError, Runtime, UnitState};
use crate::translate::Refusal;

/// A look without any event: repairs what was missed.
const RELIST: Duration = Duration::from_secs(20);
/// What was begun gets this long to show before it is begun again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Actions that systemd or `rkt` refused are tried again after 1 s, 2 s, … 60 s.
const ERRORS: Backoff = Backoff { initial: 1, max: 60, reset: 60 };

/// What keeps a pod from running: the words for its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// The container; `None`: all of them.
    pub(crate) container: Option<String>,
    /// Kubernetes' word.
    pub(crate) reason: String,
    /// A sentence.
    pub(crate) message: String,
}

/// One pod's worker.
#[derive(Debug)]
pub(crate) struct Worker<R> {
    name: FullName,
    runtime: Arc<R>,
    wanted: watch::Receiver<Option<Arc<Desired>>>,
    board: Board,
    finished: Finished,
    /// The version whose end is written down.
    noted: Option<String>,
    /// What was wanted last: still shown while it is being stopped.
    shown: Option<Arc<Desired>>,
    instances: Vec<Instance>,
    trouble: Option<Trouble>,
    begun: Option<(Action, Instant)>,
    prepares: Retry,
    starts: Retry,
    errors: Retry,
}

/// What the worker is about to do.
#[derive(Debug, PartialEq)]
enum State {
    /// Look at what is wanted and what is there, and decide.
    Look,
    /// Carry an action out.
    Act(Action),
    /// Wait for an event, at most until then.
    Rest(Instant),
    /// Nothing is left to do, ever.
    Gone,
}

impl<R: Runtime> Worker<R> {
    /// The worker of the pod `name`, of which it is told over `wanted`. `backoff` is for pods that cannot be made.
    pub(crate) fn new(
        name: FullName,
        runtime: Arc<R>,
        wanted: watch::Receiver<Option<Arc<Desired>>>,
        board: Board,
        finished: Finished,
        backoff: Backoff,
    ) -> Self {
        Self {
            name,
            runtime,
            wanted,
            board,
            finished,
            noted: None,
            shown: None,
            instances: Vec::new(),
            trouble: None,
            begun: None,
            prepares: Retry::new(backoff),
            starts: Retry::new(backoff),
            errors: Retry::new(ERRORS),
        }
    }

    /// Works until the pod is gone, or nobody can want anything any more because the kubelet ends. Pods are left alone
    /// then.
    pub(crate) async fn run(mut self) {
        let mut state = State::Look;
        while state != State::Gone {
            state = match state {
                State::Look => self.look().await,
                State::Act(action) => self.act(action).await,
                State::Rest(until) => self.rest(until).await,
                State::Gone => State::Gone,
            };
        }
    }

    async fn look(&mut self) -> State {
        let desired = self.wanted.borrow_and_update().clone();
        self.note_version(desired.as_ref());
        match self.runtime.observe(&self.name).await {
            Ok(instances) => self.instances = instances,
            Err(e) => {
                tracing::warn!(pod = %self.name, "cannot look at the pod: {}", chain(&e));
                return self.try_again();
            }
        }
        let desired = desired.as_deref();
        self.note_sandbox(desired);
        let end = desired.filter(|d| current(d, &self.instances).is_none()).and_then(|d| self.finished.of(d));
        match (desired, end) {
            // Its instance was collected; an older one may still have to go.
            (Some(desired), Some(status)) => {
                self.board.publish_end(desired, status);
                if self.instances.iter().all(Instance::is_garbage) {
                    return State::Rest(Instant::now() + RELIST);
                }
            }
            _ => self.publish(desired.is_none()),
        }
        match plan(desired, &self.instances) {
            Action::Gone if self.wanted.has_changed().unwrap_or(false) => State::Look,
            Action::Gone => {
                tracing::info!(pod = %self.name, "the pod is gone");
                self.board.remove(&self.name);
                self.finished.forget(&self.name);
                State::Gone
            }
            Action::Wait => {
                self.begun = None;
                State::Rest(Instant::now() + RELIST)
            }
            Action::LookAgain => State::Rest(Instant::now() + PATIENCE),
            action => match self.not_before(&action) {
                Some(due) => State::Rest(due.min(Instant::now() + RELIST)),
                None => State::Act(action),
            },
        }
    }

    /// A new version of the manifest has a fresh start.
    fn note_version(&mut self, desired: Option<&Arc<Desired>>) {
        let Some(desired) = desired else { return };
        if self.shown.as_ref().is_none_or(|shown| shown.hash != desired.hash) {
            self.trouble = None;
            self.begun = None;
            self.prepares.reset();
            self.starts.reset();
            self.errors.reset();
        }
        self.shown = Some(Arc::clone(desired));
    }

    fn note_sandbox(&mut self, desired: Option<&Desired>) {
        let Some(instance) = desired.and_then(|d| current(d, &self.instances)) else { return };
        if instance.sandbox == UnitState::Active {
            self.trouble = None;
        } else if instance.sandbox == UnitState::Failed {
            let unit = pod::unit::sandbox(instance.id);
            let message = format!("the sandbox of the pod failed; `journalctl -u {unit}` has the details");
            self.trouble =
                Some(Trouble { container: None, reason: "CreatePodSandboxError".to_owned(), message });
        }
    }

    fn publish(&mut self, is_going: bool) {
        let Some(desired) = &self.shown else { return };
        let instance = current(desired, &self.instances);
        let status = self.board.publish(desired, instance, self.trouble.as_ref(), is_going);
        let is_over = !is_going && instance.is_some_and(|i| outcome(desired, i).is_some());
        if is_over && self.noted.as_ref() != Some(&desired.hash) {
            match self.finished.note(desired, &status) {
                Ok(()) => self.noted = Some(desired.hash.clone()),
                Err(e) => tracing::warn!(pod = %self.name, "cannot write down how the pod ended: {e}"),
            }
        }
    }

    /// When the action may be begun. `None`: now.
    fn not_before(&self, action: &Action) -> Option<Instant> {
        let now = Instant::now();
        let again = self.begun.as_ref().filter(|(begun, _)| begun == action).map(|(_, at)| *at + PATIENCE);
        let series = match action {
            Action::Prepare => self.prepares.not_before(now),
            Action::Start(..) => self.starts.not_before(now),
            _ => None,
        };
        again.filter(|at| *at > now).max(series).max(self.errors.not_before(now))
    }

    async fn act(&mut self, action: Action) -> State {
        let desired = self.wanted.borrow().clone();
        self.begun = Some((action.clone(), Instant::now()));
        let done = match (&action, desired) {
            (Action::Prepare, Some(desired)) => return self.prepare(&desired).await,
            (Action::Start(id, apps), Some(desired)) => {
                tracing::info!(pod = %self.name, uuid = %id, "starting");
                self.starts.failed(Instant::now());
                self.runtime.start(&desired, *id, apps).await
            }
            (Action::StartApps(id, apps), Some(desired)) => {
                tracing::info!(pod = %self.name, uuid = %id, ?apps, "starting containers");
                self.runtime.start_apps(&desired, *id, apps).await
            }
            (Action::Stop(id), _) => {
                tracing::info!(pod = %self.name, uuid = %id, "stopping");
                match self.instances.iter().find(|i| i.id == *id) {
                    Some(instance) => self.runtime.stop(instance).await,
                    None => Ok(()),
                }
            }
            (Action::Remove(id), _) => {
                tracing::info!(pod = %self.name, uuid = %id, "removing");
                self.runtime.remove(*id).await
            }
            _ => Ok(()),
        };
        match done {
            Ok(()) => {
                self.errors.reset();
                State::Look
            }
            Err(e) => {
                let message = chain(&e);
                tracing::warn!(pod = %self.name, ?action, "failed: {message}");
                self.trouble =
                    Some(Trouble { container: None, reason: "RunContainerError".to_owned(), message });
                self.try_again()
            }
        }
    }

    async fn prepare(&mut self, desired: &Desired) -> State {
        tracing::info!(pod = %self.name, uid = %desired.uid, "preparing");
        let runtime = Arc::clone(&self.runtime);
        let prepared = tokio::select! {
            prepared = runtime.prepare(desired) => prepared,
            // What is wanted has changed: what is being made is not needed. A `rkt` that is killed leaves nothing that
            // is in the way.
            _ = self.wanted.changed() => return State::Look,
        };
        match prepared {
            Ok(id) => {
                tracing::info!(pod = %self.name, uuid = %id, "prepared");
                self.prepares.reset();
                self.trouble = None;
            }
            Err(e) => {
                self.prepares.failed(Instant::now());
                tracing::warn!(pod = %self.name, "cannot prepare: {}", chain(&e));
                self.trouble = Some(trouble(&e, self.prepares.failures()));
            }
        }
        State::Look
    }

    fn try_again(&mut self) -> State {
        let now = Instant::now();
        self.errors.failed(now);
        State::Rest(self.errors.not_before(now).unwrap_or(now))
    }

    async fn rest(&mut self, until: Instant) -> State {
        // Each of these only says that it is time to look; none holds anything that a cancellation could lose.
        tokio::select! {
            () = self.runtime.changed(&self.name) => State::Look,
            changed = self.wanted.changed() => if changed.is_ok() { State::Look } else { State::Gone },
            () = tokio::time::sleep_until(until) => State::Look,
        }
    }
}

/// The words of Kubernetes for a pod that could not be prepared.
fn trouble(error: &PrepareError, failures: u32) -> Trouble {
    let message = chain(error);
    match error {
        PrepareError::Refused(Refusal { container, reason, message }) => {
            Trouble { container: container.clone(), reason: (*reason).to_owned(), message: message.clone() }
        }
        PrepareError::Image { container, image, .. } => {
            let (reason, message) = match failures {
                0 | 1 => ("ErrImagePull", message),
                _ => ("ImagePullBackOff", format!("Back-off pulling image {image:?}: {message}")),
            };
            Trouble { container: Some(container.clone()), reason: reason.to_owned(), message }
        }
        PrepareError::NeverPull { container, .. } => {
            Trouble { container: Some(container.clone()), reason: "ErrImageNeverPull".to_owned(), message }
        }
        PrepareError::Rkt(_) | PrepareError::Write(_) => {
            Trouble { container: None, reason: "CreateContainerError".to_owned(), message }
        }
    }
}
