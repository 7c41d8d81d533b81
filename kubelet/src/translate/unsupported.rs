//! What Kubernetes has and this kubelet has not.
//!
//! A field whose absence would change what a pod does, or how it is confined, is refused; one that only adds comfort is
//! left out and named once in the log.

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext, Volume};

use super::{Refusal, containers, security};

/// The first thing that the pod asks for and that cannot be done.
pub(crate) fn check(spec: &PodSpec) -> Result<(), Refusal> {
    let pod = |is: bool, what: &str| {
        if is { Err(Refusal::pod(format!("{what} is not supported"))) } else { Ok(()) }
    };
    pod(spec.host_pid == Some(true), "hostPID")?;
    pod(spec.share_process_namespace == Some(true), "shareProcessNamespace")?;
    let hosts = spec.host_network == Some(true) || spec.host_ipc == Some(true);
    pod(spec.host_users == Some(false) && hosts, "hostUsers: false with hostNetwork or hostIPC")?;
    pod(spec.runtime_class_name.is_some(), "runtimeClassName")?;
    pod(spec.resources.is_some(), "resources of the pod as a whole")?;
    pod(spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()), "resourceClaims")?;
    if let Some(security) = &spec.security_context {
        pod(security.sysctls.as_ref().is_some_and(|s| !s.is_empty()), "securityContext.sysctls")?;
        pod(security.se_linux_options.is_some(), "securityContext.seLinuxOptions")?;
        pod(security.app_armor_profile.as_ref().is_some_and(|a| a.type_ != "Unconfined"), "appArmorProfile")?;
    }
    spec.volumes.iter().flatten().try_for_each(volume)?;
    containers(spec).try_for_each(|c| container(spec, c))
}

fn volume(volume: &Volume) -> Result<(), Refusal> {
    let refused = |what: &str| Err(Refusal::pod(format!("volume {:?}: {what}", volume.name)));
    let medium = volume.empty_dir.as_ref().and_then(|e| e.medium.as_deref()).filter(|m| !m.is_empty());
    match (&volume.host_path, &volume.empty_dir, medium) {
        (Some(_), _, _) | (_, Some(_), None) => Ok(()),
        (_, Some(_), Some(medium)) => refused(&format!("emptyDir on the medium {medium:?} is not supported")),
        (None, None, _) => refused("only hostPath and emptyDir volumes are supported"),
    }
}

fn container(spec: &PodSpec, c: &Container) -> Result<(), Refusal> {
    let refuse = |is: bool, what: &str| match is {
        true => Err(Refusal::config(c, format!("{what} is not supported"))),
        false => Ok(()),
    };
    refuse(c.env_from.as_ref().is_some_and(|e| !e.is_empty()), "envFrom")?;
    refuse(c.volume_devices.as_ref().is_some_and(|v| !v.is_empty()), "volumeDevices")?;
    refuse(c.tty == Some(true), "tty")?;
    for mount in c.volume_mounts.iter().flatten() {
        let some = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
        refuse(some(&mount.sub_path) || some(&mount.sub_path_expr), "subPath of a volumeMount")?;
        let propagation = mount.mount_propagation.as_deref().is_some_and(|p| p != "None");
        refuse(propagation, "mountPropagation of a volumeMount")?;
        let recursive = mount.recursive_read_only.as_deref();
        refuse(recursive.is_some_and(|r| r == "Enabled"), "recursiveReadOnly of a volumeMount")?;
    }
    if let Some(resources) = &c.resources {
        let names =
            resources.limits.iter().chain(&resources.requests).flatten().map(|(name, _)| name.as_str());
        for name in names {
            let known = matches!(name, "cpu" | "memory" | "ephemeral-storage");
            refuse(!known, &format!("the resource {name:?}"))?;
        }
        refuse(resources.claims.as_ref().is_some_and(|c| !c.is_empty()), "resources.claims")?;
    }
    c.security_context.iter().try_for_each(|s| security_context(spec, s, &refuse))
}

fn security_context(
    spec: &PodSpec,
    s: &SecurityContext,
    refuse: &impl Fn(bool, &str) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    refuse(s.se_linux_options.is_some(), "securityContext.seLinuxOptions")?;
    refuse(s.windows_options.is_some(), "securityContext.windowsOptions")?;
    refuse(s.app_armor_profile.as_ref().is_some_and(|a| a.type_ != "Unconfined"), "appArmorProfile")?;
    refuse(s.proc_mount.as_deref().is_some_and(|p| p != "Default"), "securityContext.procMount")?;
    let profile = security::seccomp_profile(spec, s);
    let known = matches!(profile, None | Some("RuntimeDefault" | "Unconfined"));
    refuse(!known, &format!("the seccomp profile {:?}", profile.unwrap_or_default()))
}

/// What is left out, one phrase each.
pub(crate) fn ignored(spec: &PodSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |is: bool, what: &str| {
        if is {
            found.push(what.to_owned());
        }
    };
    note(spec.active_deadline_seconds.is_some(), "activeDeadlineSeconds");
    note(spec.dns_config.is_some(), "dnsConfig");
    note(spec.image_pull_secrets.as_ref().is_some_and(|s| !s.is_empty()), "imagePullSecrets");
    note(spec.set_hostname_as_fqdn == Some(true), "setHostnameAsFQDN");
    note(
        spec.host_network != Some(true),
        "its network: without hostNetwork a pod has a loopback interface only",
    );
    let limited =
        spec.volumes.iter().flatten().any(|v| v.empty_dir.as_ref().is_some_and(|e| e.size_limit.is_some()));
    note(limited, "sizeLimit of emptyDir");
    for c in containers(spec) {
        let mut note = |is: bool, what: &str| note(is, &format!("{what} of container {}", c.name));
        note(c.liveness_probe.is_some(), "livenessProbe");
        note(c.readiness_probe.is_some(), "readinessProbe");
        note(c.startup_probe.is_some(), "startupProbe");
        note(c.lifecycle.is_some(), "lifecycle");
        note(c.stdin == Some(true), "stdin");
        note(c.ports.iter().flatten().any(|p| p.host_port.is_some()), "hostPort");
        let privileged = c.security_context.as_ref().is_some_and(|s| s.privileged == Some(true));
        note(privileged, "devices and writable /sys of privileged");
    }
    found
}
