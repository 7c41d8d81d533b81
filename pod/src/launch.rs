//! `launch.json`: how a pod runs. Written by the launcher while it holds the lock, before the pod enters `run`.

use serde::{Deserialize, Serialize};

/// How a pod runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Who is the parent of the apps.
    pub launcher: Launcher,
    /// Which network the pod has.
    pub net: Net,
    /// Its host name (UTS name).
    pub hostname: String,
    /// Whether its System V IPC and POSIX message queues are its own.
    pub ipc: Ipc,
    /// The systemd invocation in whose log a *direct* pod's output ends up, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "invocationId")]
    pub invocation_id: Option<String>,
}

/// Who is the parent of a pod's apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Launcher {
    /// A `rkt run` or `rkt run-prepared` process.
    Direct,
    /// systemd: one service for the sandbox, one for each app.
    Units,
}

/// A pod's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// The host's.
    Host,
    /// Its own, with a loopback interface only.
    None,
}

/// A pod's System V IPC objects and message queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipc {
    /// Its own.
    Private,
    /// Those of the process that launches it: the host's.
    Parent,
}
