//! What the kubelet knows about its pods, for those who ask: the worker of each pod writes, the server reads.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::desired::{Desired, FullName};
use crate::runtime::Instance;
use crate::status;
use crate::translate::NodeFacts;
use crate::worker::Trouble;

/// The pods with their status.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    node: Arc<NodeFacts>,
    pods: Arc<RwLock<BTreeMap<FullName, Pod>>>,
}

impl Board {
    /// An empty board of this node.
    pub(crate) fn new(node: Arc<NodeFacts>) -> Self {
        Self { node, pods: Arc::default() }
    }

    /// Writes down how a pod is, and returns that. `is_going`: it is not wanted any more.
    pub(crate) fn publish(
        &self,
        desired: &Desired,
        instance: Option<&Instance>,
        trouble: Option<&Trouble>,
        is_going: bool,
    ) -> PodStatus {
        let now = jiff::Timestamp::now();
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let before = pods.get(&desired.name).filter(|p| p.metadata.uid == desired.pod.metadata.uid);
        let mut pod = desired.pod.clone();
        if is_going {
            let first = before.and_then(|p| p.metadata.deletion_timestamp.clone());
            pod.metadata.deletion_timestamp = Some(first.unwrap_or(Time(now)));
        }
        let seen = status::Seen { desired, instance, trouble, node: &self.node, now };
        let status = status::pod(&seen, before.and_then(|p| p.status.as_ref()));
        pod.status = Some(status.clone());
        let _ = pods.insert(desired.name.clone(), pod);
        status
    }

    /// Writes down how a pod was when it ended.
    pub(crate) fn publish_end(&self, desired: &Desired, status: PodStatus) {
        let pod = Pod { status: Some(status), ..desired.pod.clone() };
        let _ = self.pods.write().unwrap_or_else(PoisonError::into_inner).insert(desired.name.clone(), pod);
    }

    /// Whether a pod is known to be over.
    pub(crate) fn is_over(&self, name: &FullName) -> bool {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        let phase = pods.get(name).and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// The pod is gone.
    pub(crate) fn remove(&self, name: &FullName) {
        let _ = self.pods.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Every pod, by namespace and name.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
