//! Security contexts to appc: user and groups, capabilities, new privileges, seccomp.
//!
//! Privileges are Kubernetes', not rkt's: new privileges may be gained (setuid programs work) unless
//! `allowPrivilegeEscalation` is false. Without a `seccompProfile` the default profile applies. `privileged` means every
//! capability and no seccomp filter; devices and /sys stay as they are for every container, which appc cannot say.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};
use pod::manifest::{App, DEFAULT_CAPABILITIES, Isolator, Seccomp};

use super::Refusal;

/// Every capability of capabilities(7), in the kernel's order.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// appc's name for no system call at all; to remove none is to allow all.
const NO_CALLS: &str = "@appc.io/empty";

/// Applies the pod's and the container's security context.
pub(super) fn apply(spec: &PodSpec, container: &Container, app: &mut App) -> Result<(), Refusal> {
    let of_container = container.security_context.clone().unwrap_or_default();
    apply_user(spec, container, &of_container, app)?;
    let privileged = of_container.privileged == Some(true);
    let capabilities = if privileged { ALL.into() } else { capabilities(container, &of_container)? };
    let unconfined = privileged || seccomp_profile(spec, &of_container) == Some("Unconfined");
    let escalation = of_container.allow_privilege_escalation.unwrap_or(true);

    app.isolators.retain(|i| !matches!(i, Isolator::CapabilitiesRemove(_) | Isolator::CapabilitiesRetain(_)));
    app.isolators
        .push(Isolator::CapabilitiesRetain(capabilities.iter().map(|c| format!("CAP_{c}")).collect()));
    app.isolators.push(Isolator::NoNewPrivileges(!escalation));
    if unconfined {
        app.isolators.push(Isolator::SeccompRemove(Seccomp { set: vec![NO_CALLS.to_owned()], errno: None }));
    }
    Ok(())
}

fn apply_user(
    spec: &PodSpec,
    container: &Container,
    own: &SecurityContext,
    app: &mut App,
) -> Result<(), Refusal> {
    let pod = spec.security_context.clone().unwrap_or_default();
    if let Some(user) = own.run_as_user.or(pod.run_as_user) {
        app.user = user.to_string();
        // The image's group is that of the image's user.
        app.group = "0".to_owned();
    }
    if let Some(group) = own.run_as_group.or(pod.run_as_group) {
        app.group = group.to_string();
    }
    let groups = pod.supplemental_groups.iter().flatten().chain(&pod.fs_group);
    for group in groups.filter_map(|g| u32::try_from(*g).ok()) {
        if !app.supplementary_gids.contains(&group) {
            app.supplementary_gids.push(group);
        }
    }
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        check_non_root(container, &app.user)?;
    }
    Ok(())
}

fn check_non_root(container: &Container, user: &str) -> Result<(), Refusal> {
    match user.parse::<u32>() {
        Ok(0) => Err(Refusal::config(container, "runAsNonRoot is set, and the container would run as root")),
        Ok(_) => Ok(()),
        Err(_) if matches!(user, "" | "root") => {
            Err(Refusal::config(container, "runAsNonRoot is set, and the image runs as root"))
        }
        Err(_) => Err(Refusal::config(
            container,
            format!("runAsNonRoot is set, and the image's user {user:?} is not a number: set runAsUser"),
        )),
    }
}

fn capabilities(container: &Container, own: &SecurityContext) -> Result<BTreeSet<&'static str>, Refusal> {
    let (add, drop) = own.capabilities.clone().map(|c| (c.add, c.drop)).unwrap_or_default();
    let mut set: BTreeSet<&'static str> = DEFAULT_CAPABILITIES.into();
    let drop = known(container, drop)?;
    let add = known(container, add)?;
    set.retain(|c| !drop.contains(c));
    set.extend(add);
    Ok(set)
}

/// Names of capabilities, with or without `CAP_`; `ALL` means every one.
fn known(container: &Container, names: Option<Vec<String>>) -> Result<BTreeSet<&'static str>, Refusal> {
    let mut set = BTreeSet::new();
    for name in names.into_iter().flatten() {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match ALL.into_iter().find(|c| *c == short) {
            Some(capability) => set.extend([capability]),
            None if short == "ALL" => set.extend(ALL),
            None => return Err(Refusal::config(container, format!("there is no capability {name:?}"))),
        }
    }
    Ok(set)
}

/// The container's profile, else the pod's.
pub(super) fn seccomp_profile<'a>(spec: &'a PodSpec, own: &'a SecurityContext) -> Option<&'a str> {
    let pod = spec.security_context.as_ref().and_then(|p| p.seccomp_profile.as_ref());
    own.seccomp_profile.as_ref().or(pod).map(|p| p.type_.as_str())
}
