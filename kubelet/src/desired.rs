//! A pod that is wanted: a manifest after defaults and validation, with its identity.
//!
//! Two things identify it. The [`FullName`] says which pod it is: there is one worker per name, and a pod of this name
//! replaces the one before. The hash says which version of it: it covers everything in the manifest, so that an instance
//! that runs an older version is noticed, whatever its UID says.

use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use pod::unit::Uid;

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FullName {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name; of a static pod, with the node's name at the end.
    pub(crate) name: String,
}

/// A pod that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Desired {
    /// Which pod.
    pub(crate) name: FullName,
    /// Kubernetes' UID.
    pub(crate) uid: Uid,
    /// Which version of its manifest.
    pub(crate) hash: String,
    /// The file that it comes from.
    pub(crate) file: String,
    /// The manifest, with defaults and the annotations of this module.
    pub(crate) pod: Pod,
}

/// Annotation: where a static pod comes from; always `file`.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation: the hash of the manifest.
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation: when the manifest was first seen, RFC 3339.
pub(crate) const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// Annotation: the manifest's file.
pub(crate) const CONFIG_FILE: &str = "rkt.kubernetes.io/config.file";

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Desired {
    /// Reads back what [`Self::to_stored`] wrote.
    pub(crate) fn from_stored(json: &str) -> Option<Self> {
        let pod: Pod = serde_json::from_str(json).ok()?;
        let annotation = |name| pod.metadata.annotations.as_ref().and_then(|a| a.get(name)).cloned();
        Some(Self {
            name: FullName { namespace: pod.metadata.namespace.clone()?, name: pod.metadata.name.clone()? },
            uid: pod.metadata.uid.as_ref()?.parse().ok()?,
            hash: annotation(CONFIG_HASH)?,
            file: annotation(CONFIG_FILE)?,
            pod,
        })
    }

    /// The manifest as JSON: it is kept with the rkt pod, so that a pod outlives the readability of its manifest.
    pub(crate) fn to_stored(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.pod)
    }

    /// What the manifest says; a pod without a specification was refused.
    pub(crate) fn spec(&self) -> &PodSpec {
        static NOTHING: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&NOTHING)
    }

    /// How long its containers get to stop, in seconds.
    pub(crate) fn grace_seconds(&self) -> u64 {
        u64::try_from(self.spec().termination_grace_period_seconds.unwrap_or(30)).unwrap_or(0)
    }

    /// What becomes of a container that ended.
    pub(crate) fn restart_policy(&self) -> RestartPolicy {
        match self.spec().restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }
}

/// What becomes of a container that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// It is started again.
    Always,
    /// It is started again unless it succeeded.
    OnFailure,
    /// It stays as it is.
    Never,
}
