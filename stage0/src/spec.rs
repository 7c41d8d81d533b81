//! From an appc App to `config.json`: OCI runtime-spec 1.1 is the language that every stage1 obeys.
//!
//! Pure: everything comes from the manifest, nothing is looked up in the image or on the host. Users and groups stay
//! text (annotations [`USER`] and [`GROUP`]); the stage1 resolves them in the app's own root. Which namespaces are the
//! pod's and which the host's is decided when the pod is launched (`launch.json`); the list here is what an app of a pod
//! with a network of its own has.

mod capabilities;
mod mounts;
mod process;
mod quantity;
mod resources;
mod seccomp;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use oci_spec::runtime::{
    Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Root, Spec,
};
use pod::AppName;
use pod::bundle::STOP_SIGNAL;
use pod::manifest::{App, PodManifest, RuntimeApp};
use pod::users::IdRange;

pub(crate) use quantity::{InvalidQuantity, bytes, millicores};

/// Annotation: the user as appc writes it.
pub(crate) const USER: &str = "rkt/user";
/// Annotation: the group as appc writes it. Absent: the user's own.
pub(crate) const GROUP: &str = "rkt/group";
/// Annotation: `pipe` asks the stage1 for output that can be opened by name, which the journal's cannot.
const OUTPUT: &str = "rkt/output";
/// Annotation: the app's name.
const APP: &str = "rkt/app";

/// Protections that the operator has given up, `--insecure-options`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lifted {
    /// Apps get every capability.
    pub(crate) capabilities: bool,
    /// Nothing in /proc and /sys is masked or read-only.
    pub(crate) paths: bool,
    /// No system call is filtered.
    pub(crate) seccomp: bool,
}

/// What an app's configuration is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    /// The pod, its mounts resolved.
    pub(crate) pod: &'a PodManifest,
    /// Which app of it.
    pub(crate) runtime: &'a RuntimeApp,
    /// What it runs.
    pub(crate) app: &'a App,
    /// The image's stop signal.
    pub(crate) stop_signal: Option<&'a str>,
    /// Whether the image has links to /dev/stdout or /dev/stderr.
    pub(crate) opens_outputs: bool,
    /// Where the pod will be when it runs: `<data>/pods/run/<uuid>`.
    pub(crate) run_dir: &'a Path,
    /// What was given up.
    pub(crate) lifted: Lifted,
    /// Whether it gets the launcher's terminal.
    pub(crate) terminal: bool,
    /// The ids of the host that the pod's users are, when they are not the host's.
    pub(crate) users: Option<IdRange>,
}

/// An app cannot be expressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("app {0:?} has no command: the image has none, and neither --exec nor arguments were given")]
    NoCommand(AppName),
    #[error("app {app:?}: unknown capability {name:?}")]
    Capability { app: AppName, name: String },
    #[error("app {app:?}: capabilities-retain-set and capabilities-remove-set exclude each other")]
    TwoCapabilitySets { app: AppName },
    #[error("app {app:?}: seccomp-retain-set and seccomp-remove-set exclude each other")]
    TwoFilters { app: AppName },
    #[error("app {app:?}: unknown seccomp group {name:?}")]
    SeccompGroup { app: AppName, name: String },
    #[error("app {app:?}: {name:?} is not the name of an error number")]
    Errno { app: AppName, name: String },
    #[error("app {app:?}: {what}")]
    Quantity { app: AppName, what: &'static str, source: InvalidQuantity },
    #[error("app {app:?}: {what}")]
    Limit { app: AppName, what: &'static str },
    #[error("app {app:?}: event handlers ({event}) are not supported")]
    EventHandler { app: AppName, event: String },
    #[error("app {app:?}: isolator {name:?} is not supported")]
    Isolator { app: AppName, name: String },
}

/// Makes an app's configuration.
pub(crate) fn spec(input: &Input<'_>) -> Result<Spec, SpecError> {
    refuse_unsupported(input)?;
    let capabilities = capabilities::set(input)?;
    let mut root = Root::default();
    let _ = root.set_readonly(Some(input.runtime.read_only_root_fs));
    let mut spec = Spec::default();
    let _ = spec
        .set_version(oci_spec::runtime::VERSION.to_owned())
        .set_root(Some(root))
        .set_hostname(None)
        .set_process(Some(process::process(input, &capabilities)?))
        .set_mounts(Some(mounts::mounts(input)))
        .set_linux(Some(linux(input, &capabilities)?))
        .set_annotations(Some(annotations(input)));
    Ok(spec)
}

fn linux(input: &Input<'_>, capabilities: &capabilities::Set) -> Result<Linux, SpecError> {
    let paths =
        |paths: &[&str]| (!input.lifted.paths).then(|| paths.iter().map(|p| (*p).to_owned()).collect());
    let kinds = NAMESPACES.into_iter().chain(input.users.map(|_| LinuxNamespaceType::User));
    let mappings = input.users.map(|range| vec![mapping(range)]);
    let mut linux = Linux::default();
    let _ = linux
        .set_namespaces(Some(kinds.map(namespace).collect()))
        .set_uid_mappings(mappings.clone())
        .set_gid_mappings(mappings)
        .set_resources(resources::resources(input)?)
        .set_seccomp(seccomp::filter(input, capabilities)?)
        .set_devices(None)
        .set_masked_paths(paths(&MASKED))
        .set_readonly_paths(paths(&READ_ONLY));
    Ok(linux)
}

fn namespace(typ: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    let _ = namespace.set_typ(typ);
    namespace
}

fn mapping(range: IdRange) -> LinuxIdMapping {
    let mapping =
        LinuxIdMappingBuilder::default().container_id(0_u32).host_id(range.first).size(range.count).build();
    // All fields are given. (An empty mapping would be refused by the stage1.)
    mapping.unwrap_or_default()
}

fn annotations(input: &Input<'_>) -> HashMap<String, String> {
    let app = input.app;
    let mut annotations = HashMap::from([
        (APP.to_owned(), input.runtime.name.to_string()),
        (USER.to_owned(), app.user.clone()),
    ]);
    if !app.group.is_empty() {
        let _ = annotations.insert(GROUP.to_owned(), app.group.clone());
    }
    // An annotation of the app may ask for what its image does not show.
    let output = input.runtime.annotation(OUTPUT).or(input.opens_outputs.then_some("pipe"));
    if let Some(output) = output {
        let _ = annotations.insert(OUTPUT.to_owned(), output.to_owned());
    }
    if let Some(signal) = input.stop_signal {
        let _ = annotations.insert(STOP_SIGNAL.to_owned(), signal.to_owned());
    }
    annotations
}

/// What a stage1 cannot be told is refused: an app must not run with less than it asked for.
fn refuse_unsupported(input: &Input<'_>) -> Result<(), SpecError> {
    let app = || input.runtime.name.clone();
    if let Some(handler) = input.app.event_handlers.first() {
        return Err(SpecError::EventHandler { app: app(), event: handler.name.clone() });
    }
    for isolator in input.app.isolators.iter().chain(&input.pod.isolators) {
        if let pod::manifest::Isolator::Other { name, .. } = isolator
            && !IGNORED.contains(&name.as_str())
        {
            return Err(SpecError::Isolator { app: app(), name: name.clone() });
        }
    }
    Ok(())
}

/// Isolators that rkt ignored, and that only ask for quality of service.
const IGNORED: [&str; 3] = ["resource/block-bandwidth", "resource/block-iops", "resource/network-bandwidth"];

const NAMESPACES: [LinuxNamespaceType; 6] = [
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Cgroup,
];

/// Files that tell an app about, or let it reach, the host beneath it. What is missing on a kernel is skipped.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Kernel settings that an app may see.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
