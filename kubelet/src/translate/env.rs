//! A container's environment: the image's, under the container's own, in which `$(VAR)` is expanded.

use k8s_openapi::api::core::v1::{Container, EnvVar, ObjectFieldSelector};

use super::{NodeFacts, Refusal};
use crate::desired::Desired;
use crate::expand::expand;

/// The variables of a container, in their order, as its own manifest sets them. A name that comes twice has its last
/// value; a value sees the variables before it.
pub(super) fn variables(
    desired: &Desired,
    container: &Container,
    node: &NodeFacts,
) -> Result<Vec<(String, String)>, Refusal> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for variable in container.env.iter().flatten() {
        let value = value(desired, container, variable, node, &variables)?;
        variables.retain(|(name, _)| *name != variable.name);
        variables.push((variable.name.clone(), value));
    }
    Ok(variables)
}

/// Looks a variable up.
pub(super) fn lookup<'a>(variables: &'a [(String, String)]) -> impl Fn(&str) -> Option<&'a str> {
    move |name| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn value(
    desired: &Desired,
    container: &Container,
    variable: &EnvVar,
    node: &NodeFacts,
    before: &[(String, String)],
) -> Result<String, Refusal> {
    let refused = |what: &str| {
        Err(Refusal::config(container, format!("environment variable {}: {what}", variable.name)))
    };
    let Some(from) = &variable.value_from else {
        return Ok(expand(variable.value.as_deref().unwrap_or_default(), lookup(before)));
    };
    let Some(field) = &from.field_ref else {
        let what = match (&from.secret_key_ref, &from.config_map_key_ref, &from.resource_field_ref) {
            (Some(_), _, _) => "secretKeyRef needs an API server, which this kubelet does not have",
            (_, Some(_), _) => "configMapKeyRef needs an API server, which this kubelet does not have",
            (_, _, Some(_)) => "resourceFieldRef is not supported",
            _ => "this kind of valueFrom is not supported",
        };
        return refused(what);
    };
    match field_value(desired, field, node) {
        Some(value) => Ok(value),
        None => refused(&format!("the field {:?} is not known", field.field_path)),
    }
}

/// The downward API.
fn field_value(desired: &Desired, field: &ObjectFieldSelector, node: &NodeFacts) -> Option<String> {
    let meta = &desired.pod.metadata;
    let spec = desired.spec();
    if let Some((map, key)) = subscript(&field.field_path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return None,
        };
        return Some(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    match field.field_path.as_str() {
        "metadata.name" => Some(desired.name.name.clone()),
        "metadata.namespace" => Some(desired.name.namespace.clone()),
        "metadata.uid" => Some(desired.uid.to_string()),
        "spec.nodeName" => Some(node.name.clone()),
        "spec.serviceAccountName" => Some(spec.service_account_name.clone().unwrap_or_default()),
        "status.hostIP" | "status.hostIPs" => Some(node.ip.clone()),
        // A pod with a network of its own has no address yet.
        "status.podIP" | "status.podIPs" if spec.host_network == Some(true) => Some(node.ip.clone()),
        _ => None,
    }
}

/// `metadata.labels['a']` to `("metadata.labels", "a")`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}
