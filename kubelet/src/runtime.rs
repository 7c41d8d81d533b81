//! What a worker needs from the node: look at the instances of a pod, and change them.
//!
//! An instance is one rkt pod. [`Runtime`] is the seam: [`node::Node`] is the real one (`rkt` and systemd), the tests
//! of [`crate::worker`] have another. Everything that is known about an instance is read from the pod directory and from
//! systemd each time; a worker keeps no state that could disagree with them.

pub(crate) mod node;
pub(crate) mod observe;
mod pull;
pub(crate) mod rkt;

use std::future::Future;

use pod::attempt::Attempt;
use pod::{AppName, PodId, State};

use crate::desired::{Desired, FullName};
use crate::systemd::BusError;
use crate::translate::Refusal;
use rkt::RktError;

/// What a systemd unit is doing, as far as a pod is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitState {
    /// systemd does not know it, or it has stopped.
    Inactive,
    /// It is being started; for an app that includes the wait before a restart.
    Activating,
    /// It has started.
    Active,
    /// It is being stopped.
    Deactivating,
    /// It has failed and is still there to be looked at.
    Failed,
}

impl UnitState {
    /// Whether there is something to stop.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Activating | Self::Active | Self::Deactivating)
    }
}

/// One rkt pod that was made for a Kubernetes pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    /// The rkt pod.
    pub(crate) id: PodId,
    /// Which version of the manifest it was made from.
    pub(crate) hash: String,
    /// What it does.
    pub(crate) state: State,
    /// When it was made.
    pub(crate) created: Option<jiff::Timestamp>,
    /// When its sandbox was last started.
    pub(crate) launched: Option<jiff::Timestamp>,
    /// The sandbox's unit.
    pub(crate) sandbox: UnitState,
    /// Its apps, in the order of their start.
    pub(crate) apps: Vec<AppStatus>,
}

/// One app of an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AppStatus {
    /// The app's name.
    pub(crate) app: AppName,
    /// The image's id.
    pub(crate) image: String,
    /// Its unit.
    pub(crate) unit: UnitState,
    /// Its attempts, as far as they are kept, oldest first.
    pub(crate) attempts: Vec<Attempt>,
}

/// An instance could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// The manifest asks for what cannot be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A container's image is not to be had.
    #[error("get the image {image:?} of container {container}")]
    Image {
        /// The container.
        container: String,
        /// The image's name.
        image: String,
        /// Why.
        source: RktError,
    },
    /// A container's image is not in the store, and must not be pulled.
    #[error(
        "look for the image {image:?} of container {container} in the store, as its imagePullPolicy is Never"
    )]
    NeverPull {
        /// The container.
        container: String,
        /// The image's name.
        image: String,
        /// Why.
        source: RktError,
    },
    /// `rkt prepare` failed.
    #[error("prepare the pod")]
    Rkt(#[from] RktError),
    /// A file could not be written.
    #[error("write the pod manifest for rkt")]
    Write(#[from] std::io::Error),
}

/// An instance could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    /// The pod directory could not be read.
    #[error("read the pod directory")]
    Pod(#[from] pod::PodError),
    /// systemd did not answer.
    #[error("ask systemd for the units")]
    Bus(#[from] BusError),
    /// The thread that looked has died.
    #[error("look at the pods")]
    Task(#[from] tokio::task::JoinError),
}

/// An instance could not be started, stopped or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// systemd refused.
    #[error("ask systemd")]
    Bus(#[from] BusError),
    /// `rkt` refused.
    #[error("ask rkt")]
    Rkt(#[from] RktError),
    /// The pod directory could not be read.
    #[error("read the pod directory")]
    Pod(#[from] pod::PodError),
    /// The thread that looked has died.
    #[error("look at the pod")]
    Task(#[from] tokio::task::JoinError),
    /// The pod has disappeared.
    #[error("pod {0} is gone")]
    Gone(PodId),
}

/// Looks at instances and changes them.
pub(crate) trait Runtime: Send + Sync + 'static {
    /// Every instance of a pod.
    fn observe(&self, name: &FullName) -> impl Future<Output = Result<Vec<Instance>, ObserveError>> + Send;

    /// Fetches images and makes an instance. Dropped half-way, it leaves nothing that is in the way later.
    fn prepare(&self, desired: &Desired) -> impl Future<Output = Result<PodId, PrepareError>> + Send;

    /// Starts an instance's sandbox, and these apps in it. Returns when systemd has taken the job.
    fn start(
        &self,
        desired: &Desired,
        id: PodId,
        apps: &[AppName],
    ) -> impl Future<Output = Result<(), ActError>> + Send;

    /// Starts further apps in a running sandbox. Returns when systemd has taken the jobs.
    fn start_apps(
        &self,
        desired: &Desired,
        id: PodId,
        apps: &[AppName],
    ) -> impl Future<Output = Result<(), ActError>> + Send;

    /// Stops an instance, gracefully. Returns when systemd has taken the job.
    fn stop(&self, instance: &Instance) -> impl Future<Output = Result<(), ActError>> + Send;

    /// Deletes an instance that does not run.
    fn remove(&self, id: PodId) -> impl Future<Output = Result<(), ActError>> + Send;

    /// Returns when something may have happened to an instance of this pod since the last time.
    fn changed(&self, name: &FullName) -> impl Future<Output = ()> + Send;
}
