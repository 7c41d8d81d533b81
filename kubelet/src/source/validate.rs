//! Whether a manifest can be a pod: the checks that the API server makes and a static pod has missed.
//!
//! Each finding is a phrase that begins with the path of the field. What is fine with Kubernetes but not (yet) possible
//! here is not a matter of this module: such a pod exists and says in its status why it does not run
//! ([`crate::translate`]).

mod container;
mod name;
mod volume;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// What is wrong with the pod.
pub(crate) fn pod(pod: &Pod) -> Vec<String> {
    let mut found = Vec::new();
    match pod.metadata.name.as_deref() {
        None | Some("") => found.push("metadata.name: is missing".to_owned()),
        Some(name) => found.extend(name::subdomain("metadata.name", name)),
    }
    found.extend(name::label("metadata.namespace", pod.metadata.namespace.as_deref().unwrap_or_default()));
    match &pod.spec {
        None => found.push("spec: is missing".to_owned()),
        Some(spec) => check_spec(spec, &mut found),
    }
    found
}

fn check_spec(spec: &PodSpec, found: &mut Vec<String>) {
    found.extend(one_of(
        "spec.restartPolicy",
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    ));
    if let Some(grace @ ..0) = spec.termination_grace_period_seconds {
        found.push(format!("spec.terminationGracePeriodSeconds: {grace} is negative"));
    }
    found.extend(spec.hostname.as_ref().and_then(|h| name::label("spec.hostname", h)));
    if spec.containers.is_empty() {
        found.push("spec.containers: a pod must have at least one container".to_owned());
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
        found.push("spec.ephemeralContainers: cannot be part of a manifest".to_owned());
    }
    let volumes = volume::check(spec.volumes.as_deref().unwrap_or_default(), found);
    let mut names = BTreeSet::new();
    let lists = [("containers", Some(&spec.containers)), ("initContainers", spec.init_containers.as_ref())];
    for (list, containers) in lists {
        for (i, c) in containers.into_iter().flatten().enumerate() {
            let path = format!("spec.{list}[{i}]");
            if !c.name.is_empty() && !names.insert(c.name.as_str()) {
                found.push(format!("{path}.name: {:?} is the name of another container of this pod", c.name));
            }
            container::check(&path, c, &volumes, found);
            let sidecar = list == "initContainers" && c.restart_policy.as_deref() == Some("Always");
            if c.restart_policy.is_some() && !sidecar {
                found.push(format!("{path}.restartPolicy: can only be Always, on an init container"));
            }
        }
    }
    if let Some(security) = &spec.security_context {
        let groups = security.supplemental_groups.iter().flatten();
        let numbers = security.run_as_user.iter().chain(&security.run_as_group).chain(&security.fs_group);
        for number in numbers.chain(groups) {
            found.extend(id("spec.securityContext", *number));
        }
    }
}

/// A choice among words.
fn one_of(path: &str, value: Option<&str>, words: &[&str]) -> Option<String> {
    let value = value.filter(|v| !words.contains(v))?;
    Some(format!("{path}: {value:?} is none of {}", words.join(", ")))
}

/// A user's or group's number, as far as Kubernetes lets it go.
fn id(path: &str, number: i64) -> Option<String> {
    let fine = (0..=i64::from(i32::MAX)).contains(&number);
    (!fine).then(|| format!("{path}: {number} is not a user's or group's number (0 to 2147483647)"))
}

/// An absolute path without `..`.
fn absolute(path: &str, value: &str) -> Option<String> {
    let odd = !value.starts_with('/')
        || value.len() >= 4096
        || value.contains('\0')
        || value.split('/').any(|part| part == "..");
    odd.then(|| format!("{path}: {:?} is not an absolute path without \"..\"", cut(value)))
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn base() -> Value {
        json!({"metadata": {"name": "web", "namespace": "default"},
               "spec": {"containers": [{"name": "c", "image": "busybox"}],
                        "volumes": [{"name": "v", "emptyDir": {}}]}})
    }

    /// The base manifest with one place changed.
    fn findings(place: &str, value: Value) -> Vec<String> {
        let mut document = base();
        let (parent, field) = place.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[field] = value;
        pod(&serde_json::from_value(document).unwrap())
    }

    #[test]
    fn the_base_is_fine() {
        assert_eq!(pod(&serde_json::from_value(base()).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn each_mistake_is_found_and_named() {
        let container = |extra: Value| {
            let mut c = json!({"name": "c", "image": "busybox"});
            c.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!([c])
        };
        let mount = |extra: Value| {
            let mut m = json!({"name": "v", "mountPath": "/v"});
            m.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            container(json!({ "volumeMounts": [m] }))
        };
        let resources = |r: Value| container(json!({ "resources": r }));
        let containers = "/spec/containers";
        let table = [
            ("/metadata/name", json!(""), "metadata.name: is missing"),
            ("/metadata/name", json!("Web"), "metadata.name"),
            ("/metadata/name", json!("a\nb"), "metadata.name"),
            ("/metadata/name", json!("-a"), "metadata.name"),
            ("/metadata/name", json!("a".repeat(254)), "metadata.name"),
            ("/metadata/namespace", json!("a.b"), "metadata.namespace"),
            ("/spec/restartPolicy", json!("Sometimes"), "spec.restartPolicy: \"Sometimes\""),
            ("/spec/terminationGracePeriodSeconds", json!(-1), "is negative"),
            ("/spec/hostname", json!("a%n"), "spec.hostname"),
            (containers, json!([]), "at least one container"),
            (
                containers,
                json!([{"name": "c", "image": "a"}, {"name": "c", "image": "b"}]),
                "another container",
            ),
            ("/spec/initContainers", json!([{"name": "c", "image": "b"}]), "another container"),
            (containers, container(json!({"name": "C_1"})), "containers[0].name"),
            (containers, container(json!({"name": ""})), "containers[0].name"),
            (containers, container(json!({"image": ""})), "image: is missing"),
            (containers, container(json!({"image": "-rm"})), "image"),
            (containers, container(json!({"image": "a b"})), "image"),
            (containers, container(json!({"imagePullPolicy": "Maybe"})), "imagePullPolicy"),
            (containers, container(json!({"workingDir": "tmp"})), "workingDir"),
            (containers, container(json!({"args": ["a\u{0}b"]})), "NUL"),
            (containers, container(json!({"env": [{"name": "A=B", "value": "x"}]})), "env"),
            (containers, container(json!({"env": [{"name": "", "value": "x"}]})), "env"),
            (containers, container(json!({"env": [{"name": "A", "value": "a\u{0}"}]})), "NUL"),
            (
                containers,
                container(
                    json!({"env": [{"name": "A", "value": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
                ),
                "both",
            ),
            (containers, mount(json!({"name": "gone"})), "no volume \"gone\""),
            (containers, mount(json!({"mountPath": "v"})), "mountPath"),
            (containers, mount(json!({"mountPath": "/a/../b"})), "mountPath"),
            (
                containers,
                container(
                    json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]}),
                ),
                "mounted on twice",
            ),
            (containers, resources(json!({"limits": {"memory": "lots"}})), "\"lots\" is not a quantity"),
            (containers, resources(json!({"requests": {"cpu": "-1"}})), "negative"),
            (
                containers,
                resources(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})),
                "more than the limit",
            ),
            (containers, container(json!({"restartPolicy": "Always"})), "restartPolicy"),
            (containers, container(json!({"securityContext": {"runAsUser": -1}})), "-1"),
            (containers, container(json!({"securityContext": {"runAsUser": 4294967296_i64}})), "4294967296"),
            (
                containers,
                container(json!({"securityContext": {"capabilities": {"add": ["sys admin"]}}})),
                "capabilit",
            ),
            ("/spec/securityContext", json!({"supplementalGroups": [-5]}), "-5"),
            (
                "/spec/volumes",
                json!([{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
                "another volume",
            ),
            ("/spec/volumes", json!([{"name": "V", "emptyDir": {}}]), "volumes[0].name"),
            ("/spec/volumes", json!([{"name": "v"}]), "says nothing"),
            ("/spec/volumes", json!([{"name": "v", "hostPath": {"path": "etc"}}]), "hostPath.path"),
            ("/spec/volumes", json!([{"name": "v", "hostPath": {"path": "/a/../b"}}]), "hostPath.path"),
            (
                "/spec/volumes",
                json!([{"name": "v", "hostPath": {"path": "/a", "type": "Dir"}}]),
                "hostPath.type",
            ),
            ("/spec/volumes", json!([{"name": "v", "emptyDir": {"sizeLimit": "x"}}]), "sizeLimit"),
        ];
        for (place, value, expected) in table {
            let found = findings(place, value.clone());
            assert!(found.iter().any(|f| f.contains(expected)), "{place} = {value}: {found:?}");
        }
    }

    #[test]
    fn no_spec() {
        let nothing = pod(&serde_json::from_value(json!({"metadata": {}})).unwrap());
        assert!(nothing.iter().any(|f| f == "spec: is missing"), "{nothing:?}");
    }
}
