//! Checks of one container.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EnvVar, ResourceRequirements, SecurityContext, VolumeMount};

use super::{absolute, cut, id, name, one_of};
use crate::image;
use crate::quantity::Quantity;

/// Checks `container`, which stands at `path`, in a pod with these volumes.
pub(super) fn check(path: &str, container: &Container, volumes: &BTreeSet<&str>, found: &mut Vec<String>) {
    found.extend(name::label(&format!("{path}.name"), &container.name));
    match container.image.as_deref() {
        None | Some("") => found.push(format!("{path}.image: is missing")),
        Some(image) if !image::is_plausible(image) => {
            found.push(format!("{path}.image: {:?} is not the name of an image", cut(image)));
        }
        Some(_) => {}
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    found.extend(one_of(
        &format!("{path}.imagePullPolicy"),
        container.image_pull_policy.as_deref(),
        &policies,
    ));
    let dir = container.working_dir.as_deref().filter(|d| !d.is_empty());
    found.extend(dir.and_then(|d| absolute(&format!("{path}.workingDir"), d)));
    if container.command.iter().chain(&container.args).flatten().any(|a| a.contains('\0')) {
        found.push(format!("{path}: an argument has a NUL character"));
    }
    for (i, variable) in container.env.iter().flatten().enumerate() {
        found.extend(check_env(&format!("{path}.env[{i}]"), variable));
    }
    check_mounts(path, container.volume_mounts.as_deref().unwrap_or_default(), volumes, found);
    container.resources.iter().for_each(|r| check_resources(path, r, found));
    container.security_context.iter().for_each(|s| check_security(path, s, found));
}

fn check_env(path: &str, variable: &EnvVar) -> Option<String> {
    let value = variable.value.as_deref().unwrap_or_default();
    if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
        Some(format!("{path}.name: {:?} cannot name an environment variable", cut(&variable.name)))
    } else if value.contains('\0') {
        Some(format!("{path}.value: has a NUL character"))
    } else if variable.value_from.is_some() && !value.is_empty() {
        Some(format!("{path}: has both a value and a valueFrom"))
    } else {
        None
    }
}

fn check_mounts(path: &str, mounts: &[VolumeMount], volumes: &BTreeSet<&str>, found: &mut Vec<String>) {
    let mut targets = BTreeSet::new();
    for (i, mount) in mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{i}]");
        if !volumes.contains(mount.name.as_str()) {
            found.push(format!("{path}.name: the pod has no volume {:?}", cut(&mount.name)));
        }
        found.extend(absolute(&format!("{path}.mountPath"), &mount.mount_path));
        if !targets.insert(mount.mount_path.trim_end_matches('/')) {
            found.push(format!("{path}.mountPath: {:?} is mounted on twice", cut(&mount.mount_path)));
        }
    }
}

fn check_resources(path: &str, resources: &ResourceRequirements, found: &mut Vec<String>) {
    let lists = [("limits", &resources.limits), ("requests", &resources.requests)];
    for (list, amounts) in lists {
        for (name, amount) in amounts.iter().flatten() {
            let path = format!("{path}.resources.{list}.{}", cut(name));
            match amount.0.parse::<Quantity>() {
                Err(e) => found.push(format!("{path}: {e}")),
                Ok(amount) if amount.is_negative() => found.push(format!("{path}: is negative")),
                Ok(_) => {}
            }
        }
    }
    let parsed =
        |amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| amount.0.parse::<Quantity>().ok();
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources.limits.as_ref().and_then(|l| l.get(name)).and_then(parsed);
        if let (Some(request), Some(limit)) = (parsed(request), limit)
            && request > limit
        {
            found.push(format!("{path}.resources.requests.{}: is more than the limit", cut(name)));
        }
    }
}

fn check_security(path: &str, security: &SecurityContext, found: &mut Vec<String>) {
    for number in security.run_as_user.iter().chain(&security.run_as_group) {
        found.extend(id(&format!("{path}.securityContext"), *number));
    }
    let names = security.capabilities.iter().flat_map(|c| c.add.iter().chain(&c.drop).flatten());
    for name in names {
        let fine = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fine {
            found.push(format!("{path}.securityContext.capabilities: {:?} is not a capability", cut(name)));
        }
    }
    if security.privileged == Some(true) && security.allow_privilege_escalation == Some(false) {
        found.push(format!("{path}.securityContext: privileged needs allowPrivilegeEscalation"));
    }
}
