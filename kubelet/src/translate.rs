//! A Kubernetes pod to an appc pod manifest: what `rkt prepare` gets.
//!
//! All containers, the init containers first, become apps of one rkt pod; they are only started one after another.
//! Everything from a manifest that a unit or a command line could misread (environment, arguments, labels) goes into the
//! pod manifest and nowhere else.
//!
//! What Kubernetes allows and we cannot do is refused by [`unsupported`] with a sentence for the pod's status; what can
//! be left out without harm is named by [`unsupported::ignored`], for the log.

mod app;
mod env;
mod names;
mod security;
pub(crate) mod unsupported;
mod volume;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use pod::manifest::{Annotation, ImageManifest, PodManifest, RuntimeApp, RuntimeImage};

pub(crate) use app::hostname;
pub(crate) use names::app_names;
pub(crate) use volume::check_host_paths;

use crate::desired::Desired;

/// Annotation of an rkt pod: `true` for those that a kubelet made.
pub(crate) const MANAGED: &str = "rkt.kubernetes.io/managed-by-kubelet";
/// Annotation of an rkt pod: the hash of the manifest that it was made from.
pub(crate) const HASH: &str = "rkt.kubernetes.io/config-hash";
/// Annotation of an rkt pod: the Kubernetes pod, as JSON.
pub(crate) const STORED: &str = "rkt.kubernetes.io/pod";
/// Annotation of an rkt app: the container's name.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";

/// An image that is in the store.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Its id.
    pub(crate) id: String,
    /// What it says about itself.
    pub(crate) manifest: ImageManifest,
}

/// What is known about the node.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    /// The node's name.
    pub(crate) name: String,
    /// Its address.
    pub(crate) ip: String,
    /// Its memory in bytes.
    pub(crate) memory: u64,
}

/// Why a pod cannot be made: the words for the status of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The container; `None`: it is about the pod as a whole.
    pub(crate) container: Option<String>,
    /// Kubernetes' word, such as `CreateContainerConfigError`.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
}

impl Refusal {
    /// The configuration of a container is at fault.
    pub(crate) fn config(container: &Container, message: impl Into<String>) -> Self {
        let container = Some(container.name.clone());
        Self { container, reason: "CreateContainerConfigError", message: message.into() }
    }

    /// The configuration of the pod is at fault.
    pub(crate) fn pod(message: impl Into<String>) -> Self {
        Self { container: None, reason: "CreateContainerConfigError", message: message.into() }
    }
}

/// All containers of a pod in the order of their start, the init containers first.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Makes the manifest. `images` has the image of each of [`containers`].
pub(crate) fn manifest(
    desired: &Desired,
    images: &[Image],
    node: &NodeFacts,
) -> Result<PodManifest, Refusal> {
    let spec = desired.spec();
    let mut manifest = PodManifest::new();
    manifest.annotations = annotations(desired)?;
    manifest.volumes = volume::volumes(spec);
    for ((container, name), image) in containers(spec).zip(app_names(spec)).zip(images) {
        let what = app::app(desired, container, image, node)?;
        let security = container.security_context.as_ref();
        manifest.apps.push(RuntimeApp {
            name,
            image: RuntimeImage { name: None, id: image.id.clone(), labels: Vec::new() },
            app: Some(what),
            read_only_root_fs: security.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
            mounts: volume::mounts(spec, container),
            annotations: vec![annotation(CONTAINER_NAME, &container.name)],
        });
    }
    manifest.validate().map_err(|e| Refusal::pod(e.to_string()))?;
    Ok(manifest)
}

fn annotations(desired: &Desired) -> Result<Vec<Annotation>, Refusal> {
    let stored =
        desired.to_stored().map_err(|e| Refusal::pod(format!("the pod cannot be written as JSON: {e}")))?;
    Ok(vec![
        annotation(MANAGED, "true"),
        annotation(POD_NAME, &desired.name.name),
        annotation(POD_NAMESPACE, &desired.name.namespace),
        annotation(POD_UID, &desired.uid.to_string()),
        annotation(HASH, &desired.hash),
        annotation(STORED, &stored),
    ])
}

fn annotation(name: &str, value: &str) -> Annotation {
    Annotation { name: name.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
mod tests;
