//! What a `config.json` can ask for and no stage1 of ours does. It is refused: an app that runs without a confinement
//! that its config names is worse than one that does not run.

use oci_spec::runtime::{Hooks, Linux, Process, Spec};

use crate::failure::StepError;

/// The config asks for something that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json: {0} is not supported")]
pub struct Unsupported(&'static str);

impl StepError for Unsupported {}

/// Looks through the config for what would otherwise be ignored. `hostname` is not among it: the host name is the pod's.
pub fn check(config: &Spec) -> Result<(), Unsupported> {
    let of_process = config.process().as_ref().map_or([("", false); 5], process);
    let of_linux = config.linux().as_ref().map_or([("", false); 6], linux);
    let top = [
        ("hooks", config.hooks().as_ref().is_some_and(has_hooks)),
        ("domainname", config.domainname().as_ref().is_some_and(|name| !name.is_empty())),
        ("vm", config.vm().is_some()),
    ];
    let mut all = top.into_iter().chain(of_process).chain(of_linux);
    all.find(|(_, is_set)| *is_set).map_or(Ok(()), |(name, _)| Err(Unsupported(name)))
}

fn process(process: &Process) -> [(&'static str, bool); 5] {
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    [
        ("process.apparmorProfile", is_set(process.apparmor_profile())),
        ("process.selinuxLabel", is_set(process.selinux_label())),
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
        ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ]
}

fn linux(linux: &Linux) -> [(&'static str, bool); 6] {
    let is_filled = |list: Option<usize>| list.is_some_and(|n| n > 0);
    [
        ("linux.netDevices", is_filled(linux.net_devices().as_ref().map(std::collections::HashMap::len))),
        ("linux.mountLabel", linux.mount_label().as_ref().is_some_and(|l| !l.is_empty())),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.timeOffsets", is_filled(linux.time_offsets().as_ref().map(std::collections::HashMap::len))),
    ]
}

fn has_hooks(hooks: &Hooks) -> bool {
    let all = [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    all.into_iter().flatten().any(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> Result<(), Unsupported> {
        check(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn nothing_is_ignored() {
        let process = |extra: serde_json::Value| {
            let mut process = serde_json::json!({"user": {"uid": 0, "gid": 0}, "cwd": "/"});
            process.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            serde_json::json!({ "process": process })
        };
        let hook = serde_json::json!([{"path": "/bin/true"}]);
        for (json, name) in [
            (serde_json::json!({"hooks": {"prestart": hook}}), "hooks"),
            (serde_json::json!({"hooks": {"poststop": hook}}), "hooks"),
            (process(serde_json::json!({"apparmorProfile": "x"})), "process.apparmorProfile"),
            (process(serde_json::json!({"selinuxLabel": "x"})), "process.selinuxLabel"),
            (serde_json::json!({"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}}), "linux.timeOffsets"),
            (serde_json::json!({"linux": {"personality": {"domain": "LINUX32"}}}), "linux.personality"),
        ] {
            assert_eq!(config(json), Err(Unsupported(name)));
        }
    }

    #[test]
    fn what_is_empty_asks_for_nothing() {
        let json = serde_json::json!({"hooks": {"prestart": []}, "hostname": "h", "linux": {"timeOffsets": {}},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "apparmorProfile": ""}});
        assert_eq!(config(json), Ok(()));
    }
}
