//! What the units of a pod look like: `docs/units.md`, as typed D-Bus properties.
//!
//! This file is the allowlist: no other property is ever set. Text from a manifest is in here only where validation has
//! bounded it to DNS names (pod, namespace, container, host name, host aliases); environment, arguments, labels and
//! annotations never are.

use std::path::{Path, PathBuf};

use pod::stage1::{self, Backoff};
use pod::unit::{self, Qos};
use pod::{AppName, PodId};
use zbus::Variant;

use crate::desired::{Desired, RestartPolicy};
use crate::resources::{self, Resources};
use crate::translate::hostname;
use crate::worker::lifecycle::{Role, policy};

/// A property's name and value.
pub(crate) type Property = (&'static str, Variant<'static>);

/// A unit that is to be made.
#[derive(Debug)]
pub(crate) struct UnitSpec {
    /// Its name.
    pub(crate) name: String,
    /// Its properties.
    pub(crate) properties: Vec<Property>,
}

/// How this host arranges cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// Version 2 only.
    Unified,
    /// Version 1, alone or beside version 2.
    Legacy,
}

/// What the units of one instance have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// The manifest.
    pub(crate) desired: &'a Desired,
    /// The rkt pod.
    pub(crate) id: PodId,
    /// The executable `rkt`.
    pub(crate) rkt: &'a Path,
    /// rkt's data directory.
    pub(crate) data: &'a Path,
    /// The stage1's executable.
    pub(crate) stage1: &'a Path,
    /// The back-off of containers.
    pub(crate) backoff: Backoff,
    /// How this host arranges cgroups.
    pub(crate) hierarchy: Hierarchy,
    /// The node's memory, bytes.
    pub(crate) node_memory: u64,
}

/// One app.
#[derive(Debug, Clone)]
pub(crate) struct AppLaunch<'a> {
    /// Its container.
    pub(crate) container: &'a k8s_openapi::api::core::v1::Container,
    /// Its part in the pod.
    pub(crate) role: Role,
    /// Its name.
    pub(crate) app: AppName,
    /// The number of the signal that asks it to stop.
    pub(crate) stop_signal: u8,
}

/// The sandbox keeps the pod's lock and its namespaces: net, ipc, uts.
const DESCRIPTORS: u32 = 8;
/// Making or taking down a sandbox takes milliseconds.
const SANDBOX_TIMEOUT: u64 = 120_000_000;
/// The processes and threads of a pod. Kubernetes has no limit of its own; a fork bomb must not be the node's end.
const TASKS: u64 = 32_768;
/// Signals that systemd takes for a clean end and Kubernetes for a failure: SIGHUP, SIGINT, SIGPIPE, SIGTERM.
const NOT_CLEAN: [i32; 4] = [1, 2, 13, 15];
const SIGKILL: i32 = 9;
const INFINITY: u64 = u64::MAX;

impl Launch<'_> {
    fn qos(&self) -> Qos {
        resources::qos(self.desired.spec())
    }

    fn slice_name(&self) -> String {
        unit::pod_slice(self.qos(), &self.desired.uid)
    }

    fn description(&self, what: &str) -> Variant<'static> {
        text(format!("Pod {}: {what}", self.desired.name))
    }

    /// The pod's slice. It goes by itself when the pod's units have gone.
    pub(crate) fn slice(&self) -> UnitSpec {
        let mut properties = vec![
            ("Description", text(format!("Pod {}", self.desired.name))),
            ("StopWhenUnneeded", true.into()),
            ("TasksMax", TASKS.into()),
        ];
        self.limits(&Resources::of_pod(self.desired.spec()), &mut properties);
        UnitSpec { name: self.slice_name(), properties }
    }

    /// The sandbox. Starting it starts the apps that it is told of.
    pub(crate) fn sandbox(&self, apps: &[AppLaunch<'_>]) -> UnitSpec {
        let wants: Vec<String> = apps.iter().map(|a| unit::app(self.id, &a.app)).collect();
        let mut up = vec!["up".to_owned(), self.id.to_string()];
        up.extend(self.sandbox_flags());
        let mut properties = vec![
            ("Description", self.description("sandbox")),
            ("Slice", text(self.slice_name())),
            ("Type", text("oneshot")),
            ("RemainAfterExit", true.into()),
            ("ExecStart", exec(self.rkt, &self.rkt_unit(&up))),
            ("ExecStopPost", exec(self.rkt, &self.rkt_unit(&["down".to_owned(), self.id.to_string()]))),
            ("FileDescriptorStoreMax", DESCRIPTORS.into()),
            ("NotifyAccess", text("main")),
            ("TimeoutStartUSec", SANDBOX_TIMEOUT.into()),
            ("TimeoutStopUSec", SANDBOX_TIMEOUT.into()),
            ("Environment", strings([interface_version()])),
            ("StandardInput", text("null")),
            ("SyslogIdentifier", text("rkt")),
            ("LogExtraFields", self.log_fields(None)),
        ];
        if !wants.is_empty() {
            properties.push(("Wants", strings(wants)));
        }
        UnitSpec { name: unit::sandbox(self.id), properties }
    }

    /// `--net`, `--hostname` and the like, for `rkt unit up`.
    fn sandbox_flags(&self) -> Vec<String> {
        let spec = self.desired.spec();
        let net = if spec.host_network == Some(true) { "host" } else { "none" };
        let mut flags =
            vec![format!("--net={net}"), format!("--hostname={}", hostname(spec, &self.desired.name.name))];
        if spec.host_ipc == Some(true) {
            flags.push("--ipc=parent".to_owned());
        }
        for alias in spec.host_aliases.iter().flatten() {
            let names = alias.hostnames.iter().flatten();
            flags.extend(names.map(|name| format!("--hosts-entry={}={name}", alias.ip)));
        }
        flags
    }

    /// One app.
    pub(crate) fn app(&self, launch: &AppLaunch<'_>) -> UnitSpec {
        let AppLaunch { container, role, app, stop_signal } = launch;
        let sandbox = unit::sandbox(self.id);
        let dir: PathBuf = self.data.join("pods/run").join(self.id.to_string());
        let become_app = ["app".to_owned(), dir.display().to_string(), app.to_string()];
        let ended = ["ended".to_owned(), self.id.to_string(), app.to_string()];
        let mut properties = vec![
            ("Description", self.description(&format!("container {}", container.name))),
            ("Slice", text(self.slice_name())),
            ("BindsTo", strings([sandbox.clone()])),
            ("After", strings([sandbox])),
            ("CollectMode", text("inactive-or-failed")),
            ("Type", text("notify")),
            // The stage1 names the app as main process, and after that says that it is ready.
            ("NotifyAccess", text("all")),
            ("ExecStart", exec(self.stage1, &become_app)),
            ("ExecStopPost", exec(self.rkt, &self.rkt_unit(&ended))),
            (
                "Environment",
                strings([interface_version(), format!("{}={}", stage1::ENV_BACKOFF, self.backoff)]),
            ),
            // The wait before a restart is part of the start.
            ("TimeoutStartUSec", INFINITY.into()),
            ("StartLimitIntervalUSec", 0_u64.into()),
            ("StandardInput", text("null")),
            ("SyslogIdentifier", text(app.to_string())),
            ("LogRateLimitIntervalUSec", 0_u64.into()),
            ("LogExtraFields", self.log_fields(Some((app, &container.name)))),
        ];
        self.restart(*role, &mut properties);
        self.stop(i32::from(*stop_signal), &mut properties);
        let wanted = Resources::of_container(container);
        let score = resources::oom_score_adjust(self.qos(), wanted.memory_request, self.node_memory);
        properties.extend([
            ("OOMPolicy", text("kill")),
            ("OOMScoreAdjust", score.into()),
            // The pod's slice has the limit.
            ("TasksMax", INFINITY.into()),
        ]);
        self.limits(&wanted, &mut properties);
        UnitSpec { name: unit::app(self.id, app), properties }
    }

    fn restart(&self, role: Role, properties: &mut Vec<Property>) {
        let word = match policy(self.desired.restart_policy(), role) {
            RestartPolicy::Always => "always",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::Never => "no",
        };
        properties.push(("Restart", text(word)));
        if word != "no" {
            properties.push(("RestartUSec", (u64::from(self.backoff.initial) * 1_000_000).into()));
        }
        if word == "on-failure" {
            let none: Vec<i32> = Vec::new();
            properties.push(("RestartForceExitStatus", (none, NOT_CLEAN.to_vec()).into()));
        }
    }

    fn stop(&self, signal: i32, properties: &mut Vec<Property>) {
        // To systemd a timeout of 0 is none at all.
        let (signal, grace) = match self.desired.grace_seconds() {
            0 => (SIGKILL, 1),
            seconds => (signal, seconds),
        };
        properties.extend([
            // The app is the first process of its PID namespace: when it is gone, so are the others.
            ("KillMode", text("mixed")),
            ("KillSignal", signal.into()),
            ("SendSIGKILL", true.into()),
            ("TimeoutStopUSec", grace.saturating_mul(1_000_000).into()),
        ]);
    }

    /// Limits and shares. Without a request a container gets the smallest share, as with Kubernetes.
    fn limits(&self, wanted: &Resources, properties: &mut Vec<Property>) {
        properties.push(share(self.hierarchy, wanted.cpu_request.unwrap_or(0)));
        if let Some(millis) = wanted.cpu_limit {
            properties.push(("CPUQuotaPerSecUSec", millis.saturating_mul(1000).into()));
        }
        if let Some(bytes) = wanted.memory_limit {
            properties.push(("MemoryMax", bytes.into()));
            if self.hierarchy == Hierarchy::Unified {
                properties.push(("MemorySwapMax", 0_u64.into()));
            }
        }
    }

    /// Fields that every line of a pod's log has.
    fn log_fields(&self, app: Option<(&AppName, &str)>) -> Variant<'static> {
        let mut fields = vec![
            format!("RKT_POD_UUID={}", self.id),
            format!("K8S_POD_NAME={}", self.desired.name.name),
            format!("K8S_POD_NAMESPACE={}", self.desired.name.namespace),
            format!("K8S_POD_UID={}", self.desired.uid),
        ];
        if let Some((app, container)) = app {
            fields.extend([format!("RKT_APP={app}"), format!("K8S_CONTAINER_NAME={container}")]);
        }
        fields.into_iter().map(String::into_bytes).collect::<Vec<Vec<u8>>>().into()
    }

    /// `rkt --dir=… unit …`
    fn rkt_unit(&self, rest: &[String]) -> Vec<String> {
        let global = [format!("--dir={}", self.data.display()), "unit".to_owned()];
        global.into_iter().chain(rest.iter().cloned()).collect()
    }
}

/// The slices of the classes that compete with guaranteed pods: all burstable pods together get what they ask for
/// (milli-CPUs), those without a request next to nothing.
pub(crate) fn classes(hierarchy: Hierarchy, burstable: u64) -> [UnitSpec; 2] {
    let slice = |qos: Qos, millis| UnitSpec {
        name: qos.slice().to_owned(),
        properties: vec![share(hierarchy, millis)],
    };
    [slice(Qos::Burstable, burstable), slice(Qos::BestEffort, 0)]
}

/// The part of the processors that a cgroup gets beside its siblings, by Kubernetes' formulas.
fn share(hierarchy: Hierarchy, millis: u64) -> Property {
    let shares = (millis.saturating_mul(1024) / 1000).clamp(2, 262_144);
    match hierarchy {
        Hierarchy::Unified => ("CPUWeight", (1 + (shares - 2) * 9999 / 262_142).into()),
        Hierarchy::Legacy => ("CPUShares", shares.into()),
    }
}

fn interface_version() -> String {
    format!("{}={}", stage1::ENV_INTERFACE_VERSION, stage1::INTERFACE_VERSION)
}

fn text(value: impl Into<String>) -> Variant<'static> {
    value.into().into()
}

fn strings(values: impl IntoIterator<Item = String>) -> Variant<'static> {
    values.into_iter().collect::<Vec<String>>().into()
}

/// One command of the type `a(sasb)`; its failure is one. systemd replaces variables in arguments: a dollar sign is
/// written twice. (`ExecStartEx` has a flag against that, but systemd 252 writes it into the unit's file under that name,
/// which a daemon-reload then does not understand.)
fn exec(path: &Path, arguments: &[String]) -> Variant<'static> {
    let path = path.display().to_string();
    let argv = std::iter::once(&path).chain(arguments).map(|a| a.replace('$', "$$")).collect::<Vec<_>>();
    vec![(path, argv, false)].into()
}

#[cfg(test)]
mod tests;
