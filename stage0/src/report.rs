//! What `list` and `status` know about a pod: rkt's JSON (package `api/v1` of rkt 1.30), and what rkt could not say in
//! fields of its own.
//!
//! Wart kept on purpose: a pod's times are seconds, an app's are nanoseconds.

use std::collections::BTreeMap;
use std::time::SystemTime;

use pod::attempt::{AppDir, AppState, Attempt, Exit};
use pod::launch::{Launch, Net};
use pod::manifest::{PodManifest, RuntimeApp, VolumeKind};
use pod::{PodDir, State};
use serde::Serialize;

use crate::time;

/// A pod.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PodReport {
    /// Its UUID; the name of the field is rkt's.
    pub(crate) name: String,
    /// What it is doing.
    pub(crate) state: State,
    /// Its networks; there are none to speak of yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) networks: Vec<Network>,
    /// The names of its apps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) app_names: Vec<String>,
    /// Its apps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) apps: Vec<AppReport>,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<i64>,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<i64>,
    /// Facts for people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) user_annotations: BTreeMap<String, String>,
    /// Labels of people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) user_labels: BTreeMap<String, String>,
    /// Facts for programs. Not in rkt.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Which stage1 isolates it. Not in rkt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stage1: Option<String>,
    /// `direct` or `units`. Not in rkt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) launcher: Option<&'static str>,
    /// `host` or `none`. Not in rkt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) net: Option<Net>,
    /// Not in JSON: the times as they are.
    #[serde(skip)]
    pub(crate) times: (Option<SystemTime>, Option<SystemTime>),
}

/// A network of a pod, in rkt's words.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Network {
    /// Its name.
    pub(crate) net_name: String,
}

/// An app.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AppReport {
    /// Its name.
    pub(crate) name: String,
    /// What it is doing.
    pub(crate) state: AppState,
    /// Nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<i64>,
    /// Nanoseconds since the epoch: the newest attempt's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<i64>,
    /// Nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<i64>,
    /// The status of the newest attempt; 128 + n for signal n.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<u8>,
    /// `sha256-<64 hex>`
    pub(crate) image_id: String,
    /// What is mounted in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<MountReport>,
    /// Facts for people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) user_annotations: BTreeMap<String, String>,
    /// Labels of people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) user_labels: BTreeMap<String, String>,
    /// The image's name and version. Not in rkt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_name: Option<String>,
    /// Its PID 1, seen from the host, while it runs. Not in rkt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    /// How often it was started. Not in rkt.
    pub(crate) attempt_count: u32,
    /// The attempts whose records are kept, oldest first. Not in rkt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) attempts: Vec<AttemptReport>,
}

/// One attempt to run an app. Not in rkt.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct AttemptReport {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// Nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<i64>,
    /// Nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<i64>,
    /// The app's PID 1, seen from the host, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    /// 128 + n for signal n.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<u8>,
    /// The signal that killed it, without `SIG`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<String>,
    /// `success`, `exit-code`, `signal`, `oom-kill`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Why the app never got to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The key of its lines in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) invocation_id: Option<String>,
}

/// Something mounted in an app.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MountReport {
    /// The volume.
    pub(crate) name: String,
    /// Where, in the app.
    pub(crate) container_path: String,
    /// What, on the host.
    pub(crate) host_path: String,
    /// Whether the app only reads it.
    pub(crate) read_only: bool,
}

/// Looks at a pod. One that has no manifest yet is reported without apps.
pub(crate) fn pod(dir: &PodDir) -> Result<PodReport, pod::PodError> {
    let state = dir.state()?;
    let manifest = match dir.manifest() {
        Ok(manifest) => Some(manifest),
        Err(pod::PodError::File { source, .. }) if source.is_not_found() && is_incomplete(state) => None,
        Err(e) => return Err(e),
    };
    let (created, started) = (dir.created()?, dir.started()?);
    let launch = dir.launch()?;
    let apps = match &manifest {
        Some(manifest) => {
            manifest.apps.iter().map(|a| app(dir, manifest, a, state)).collect::<Result<Vec<_>, _>>()?
        }
        None => Vec::new(),
    };
    let manifest = manifest.unwrap_or_default();
    Ok(PodReport {
        name: dir.id().to_string(),
        state,
        networks: Vec::new(),
        app_names: apps.iter().map(|app| app.name.clone()).collect(),
        apps,
        created_at: created.map(time::seconds),
        started_at: started.map(time::seconds),
        user_annotations: manifest.user_annotations,
        user_labels: manifest.user_labels,
        annotations: manifest.annotations.into_iter().map(|a| (a.name, a.value)).collect(),
        stage1: dir.stage1().ok().map(|stage1| stage1.name),
        launcher: launch.as_ref().map(launcher),
        net: launch.map(|launch| launch.net),
        times: (created, started),
    })
}

/// Whether a pod in this state may lack files that others have.
fn is_incomplete(state: State) -> bool {
    matches!(
        state,
        State::Embryo | State::Preparing | State::AbortedPrepare | State::Garbage | State::Deleting
    )
}

fn launcher(launch: &Launch) -> &'static str {
    match launch.launcher {
        pod::launch::Launcher::Direct => "direct",
        pod::launch::Launcher::Units => "units",
    }
}

impl PodReport {
    /// The networks as `list` shows them.
    pub(crate) fn networks_text(&self) -> String {
        self.networks.iter().map(|n| n.net_name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The process of the first app that runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.apps.iter().find_map(|app| app.pid)
    }
}

fn app(
    dir: &PodDir,
    manifest: &PodManifest,
    runtime: &RuntimeApp,
    pod_state: State,
) -> Result<AppReport, pod::PodError> {
    let attempts = match dir.app(&runtime.name) {
        Ok(app) => attempts(dir, &app, pod_state)?,
        // It is being prepared, or deleted.
        Err(pod::PodError::File { source, .. }) if source.is_not_found() => Vec::new(),
        Err(e) => return Err(e),
    };
    let newest = attempts.last().cloned().unwrap_or_default();
    let own = runtime.app.as_ref();
    let state = match (attempts.is_empty(), newest.pid) {
        (true, _) => AppState::Created,
        (false, Some(_)) => AppState::Running,
        (false, None) => AppState::Exited,
    };
    let version = runtime.image.labels.iter().find(|l| l.name == "version").map(|l| &l.value);
    let image_name = runtime.image.name.as_ref().map(|name| match version {
        Some(version) => format!("{name}:{version}"),
        None => name.clone(),
    });
    let created = dir.created()?.and_then(|at| jiff::Timestamp::try_from(at).ok());
    Ok(AppReport {
        name: runtime.name.to_string(),
        state,
        created_at: created.map(time::nanoseconds),
        started_at: newest.started_at,
        finished_at: newest.finished_at,
        exit_code: newest.exit_code,
        image_id: runtime.image.id.clone(),
        mounts: mounts(dir, manifest, runtime),
        user_annotations: own.map(|a| a.user_annotations.clone()).unwrap_or_default(),
        user_labels: own.map(|a| a.user_labels.clone()).unwrap_or_default(),
        image_name,
        pid: newest.pid,
        attempt_count: newest.number,
        attempts,
    })
}

fn attempts(dir: &PodDir, app: &AppDir, pod_state: State) -> Result<Vec<AttemptReport>, pod::PodError> {
    let attempts = app.attempts().map_err(|source| pod::PodError::File { id: dir.id(), source })?;
    Ok(attempts.iter().map(|attempt| attempt_report(attempt, pod_state)).collect())
}

fn attempt_report(attempt: &Attempt, pod_state: State) -> AttemptReport {
    let started = attempt.started.as_ref();
    let ended = attempt.ended.as_ref();
    let running = pod_state == State::Running && attempt.is_running();
    let exit = ended.map(|e| &e.exit);
    let (unseen, failed) = (ended.is_none() && !running, attempt.error.is_some());
    AttemptReport {
        number: attempt.number,
        started_at: started.map(|s| time::nanoseconds(s.at)),
        finished_at: ended.map(|e| time::nanoseconds(e.at)),
        pid: started.filter(|_| running).map(|s| s.process.pid),
        exit_code: exit.and_then(Exit::code),
        signal: exit.and_then(|exit| match exit {
            Exit::Killed(signal) | Exit::Dumped(signal) => Some(signal.clone()),
            Exit::Exited(_) | Exit::Unknown => None,
        }),
        reason: match ended {
            Some(ended) => Some(ended.result.clone()),
            None if unseen && !failed => Some("unknown".to_owned()),
            None => None,
        },
        error: attempt.error.clone(),
        invocation_id: started.and_then(|s| s.invocation_id.clone()),
    }
}

fn mounts(dir: &PodDir, manifest: &PodManifest, runtime: &RuntimeApp) -> Vec<MountReport> {
    let report = |mount: &pod::manifest::Mount| {
        let of_pod = || manifest.volumes.iter().find(|v| v.name == mount.volume);
        let volume = mount.app_volume.as_ref().or_else(of_pod)?;
        let host_path = match &volume.kind {
            VolumeKind::Host { source } => source.clone(),
            VolumeKind::Empty { .. } => {
                dir.path().join("volumes").join(volume.name.as_str()).display().to_string()
            }
        };
        Some(MountReport {
            name: volume.name.to_string(),
            container_path: mount.path.clone(),
            host_path,
            read_only: mount.read_only || volume.read_only.unwrap_or(false),
        })
    };
    runtime.mounts.iter().filter_map(report).collect()
}
