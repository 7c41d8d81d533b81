//! One document to one pod: what the Go kubelet does to static pods.
//!
//! The name gets the node's name as a suffix, the namespace defaults to `default`. Without a UID of its own the pod gets
//! one that is a hash of node, file and content, so that a changed manifest is another pod.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::validate;
use crate::desired::{CONFIG_FILE, CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE, Desired, FullName};
use crate::image;

/// Why a document is not a pod: everything that was found, each a phrase.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The pod's name as far as it was found.
    pub(crate) name: Option<String>,
    /// What is wrong.
    pub(crate) reasons: Vec<String>,
}

/// Makes the pod of `document`, which is in `file`.
pub(crate) fn pod(
    mut document: Value,
    file: &Path,
    node: &str,
    now: jiff::Timestamp,
) -> Result<Desired, Refusal> {
    let name = document.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let refused = |reasons| Refusal { name: name.clone(), reasons };
    numbers_to_quantities(&mut document);
    let mut pod: Pod = serde_json::from_value(document)
        .map_err(|e| refused(vec![format!("does not have the form of a Pod: {e}")]))?;
    let content =
        serde_json::to_vec(&pod).map_err(|e| refused(vec![format!("cannot be written as JSON: {e}")]))?;
    let file = file.display().to_string();
    set_identity(&mut pod, &file, node, &content);
    set_defaults(&mut pod);
    let mut reasons = validate::pod(&pod);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default().parse();
    reasons.extend(uid.as_ref().err().map(|e: &pod::unit::InvalidUid| format!("metadata.uid: {e}")));
    let (Ok(uid), true) = (uid, reasons.is_empty()) else { return Err(refused(reasons)) };

    let hash = hex(&Sha256::digest(&content), 32);
    let seen = [
        (CONFIG_SOURCE, "file".to_owned()),
        (CONFIG_HASH, hash.clone()),
        (CONFIG_SEEN, now.to_string()),
        (CONFIG_FILE, file.clone()),
    ];
    let annotations = pod.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.extend(seen.map(|(name, value)| (name.to_owned(), value)));
    let name = FullName {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
    };
    Ok(Desired { name, uid, hash, file, pod })
}

fn set_identity(pod: &mut Pod, file: &str, node: &str, content: &[u8]) {
    let meta = &mut pod.metadata;
    if let Some(name) = meta.name.as_mut().filter(|n| !n.is_empty()) {
        *name = format!("{name}-{node}");
    }
    let namespace = meta.namespace.take().filter(|n| !n.is_empty());
    meta.namespace = Some(namespace.unwrap_or_else(|| "default".to_owned()));
    if meta.uid.as_deref().is_none_or(str::is_empty) {
        let parts = [node.as_bytes(), file.as_bytes(), content];
        // Each part with its length before it: no two lists of parts read the same.
        let add = |sum: Sha256, part: &[u8]| sum.chain_update(part.len().to_le_bytes()).chain_update(part);
        let sum = parts.into_iter().fold(Sha256::new(), add).finalize();
        meta.uid = Some(hex(&sum, 32));
    }
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.to_owned());
    }
    // The API server owns the status; a manifest that has one was copied from there.
    pod.status = None;
}

fn set_defaults(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let _ = spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    let _ = spec.termination_grace_period_seconds.get_or_insert(30);
    let containers = |c: &mut Container| {
        let policy = image::default_policy(c.image.as_deref().unwrap_or_default());
        let _ = c.image_pull_policy.get_or_insert_with(|| policy.as_str().to_owned());
    };
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(containers);
}

/// `cpu: 1` is a number in YAML and a quantity to Kubernetes.
fn numbers_to_quantities(document: &mut Value) {
    let to_text = |amounts: &mut Value| {
        for amount in amounts.as_object_mut().into_iter().flat_map(|o| o.values_mut()) {
            if let Value::Number(n) = amount {
                *amount = Value::String(n.to_string());
            }
        }
    };
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in document.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for amounts in ["/resources/limits", "/resources/requests"] {
                container.pointer_mut(amounts).into_iter().for_each(to_text);
            }
        }
    }
    for volume in document.pointer_mut("/spec/volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(limit @ Value::Number(_)) = volume.pointer_mut("/emptyDir/sizeLimit") {
            *limit = Value::String(limit.to_string());
        }
    }
}

fn hex(bytes: &[u8], digits: usize) -> String {
    let mut text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
               "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
    }

    fn made(document: Value) -> Desired {
        pod(document, Path::new("/etc/m/web.yaml"), "n1", jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn identity() {
        let web = made(document());
        assert_eq!(web.name.to_string(), "default/web-n1");
        assert_eq!(web.uid.to_string().len(), 32);
        assert_eq!(made(document()), web, "the same manifest is the same pod");
        let later = pod(document(), Path::new("/etc/m/web.yaml"), "n1", jiff::Timestamp::now()).unwrap();
        assert_eq!((later.uid, later.hash), (web.uid.clone(), web.hash.clone()), "time is not part of it");
        let elsewhere =
            pod(document(), Path::new("/etc/m/b.yaml"), "n1", jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_ne!(elsewhere.uid, web.uid);
        assert_eq!(elsewhere.hash, web.hash);

        let mut changed = document();
        changed["spec"]["containers"][0]["image"] = json!("busybox:2");
        let changed = made(changed);
        assert_ne!((changed.uid, changed.hash), (web.uid, web.hash));
    }

    #[test]
    fn an_explicit_uid_is_kept_and_the_hash_still_tells_versions_apart() {
        let with = |image: &str| {
            let mut d = document();
            d["metadata"]["uid"] = json!("0b1c");
            d["spec"]["containers"][0]["image"] = json!(image);
            made(d)
        };
        let (a, b) = (with("a:1"), with("a:2"));
        assert_eq!((a.uid.to_string(), b.uid.to_string()), ("0b1c".to_owned(), "0b1c".to_owned()));
        assert_ne!(a.hash, b.hash);
    }

    #[test]
    fn defaults_and_annotations() {
        let web = made(document());
        let spec = web.spec();
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert_eq!(spec.node_name.as_deref(), Some("n1"));
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Always"));
        let annotations = web.pod.metadata.annotations.clone().unwrap();
        assert_eq!(annotations[CONFIG_HASH], web.hash);
        assert_eq!(annotations[CONFIG_FILE], "/etc/m/web.yaml");
        assert_eq!(annotations[CONFIG_SEEN], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn stored_and_back() {
        let web = made(document());
        assert_eq!(Desired::from_stored(&web.to_stored().unwrap()), Some(web));
        assert_eq!(Desired::from_stored("{}"), None);
        assert_eq!(Desired::from_stored("nonsense"), None);
    }

    #[test]
    fn numbers_are_quantities() {
        let mut d = document();
        d["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": 1, "memory": 1048576}});
        let amounts = made(d).spec().containers[0].resources.clone().unwrap().limits.unwrap();
        assert_eq!((amounts["cpu"].0.as_str(), amounts["memory"].0.as_str()), ("1", "1048576"));
    }

    #[test]
    fn refusals_name_the_pod_and_everything_that_is_wrong() {
        let mut d = document();
        d["metadata"]["uid"] = json!("A B");
        d["spec"]["restartPolicy"] = json!("Sometimes");
        let refusal = pod(d, Path::new("/m"), "n1", jiff::Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refusal.name.as_deref(), Some("web"));
        assert_eq!(refusal.reasons.len(), 2, "{:?}", refusal.reasons);
        let mut d = document();
        d["spec"]["containers"] = json!(7);
        let refusal = pod(d, Path::new("/m"), "n1", jiff::Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(refusal.reasons[0].contains("form of a Pod"), "{:?}", refusal.reasons);
    }
}
