//! appc's App: what runs, as whom, where, and with which limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Isolator, is_false, null_is_empty};
use crate::AppName;

/// What runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// The executable and its arguments. An executable without a slash is looked for in the app's `PATH`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub exec: Vec<String>,
    /// What runs before and after it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub event_handlers: Vec<EventHandler>,
    /// A user's name or number, or an absolute path whose owner is meant.
    pub user: User,
    /// A group's name or number, or an absolute path whose group is meant.
    pub group: Group,
    /// Further groups.
    #[serde(
        default,
        rename = "supplementaryGIDs",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub supplementary_gids: Vec<u32>,
    /// Where it starts; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Its environment.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub environment: Vec<super::Annotation>,
    /// Where it expects volumes.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub mount_points: Vec<MountPoint>,
    /// Where it listens.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub ports: Vec<Port>,
    /// Limits and privileges.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub isolators: Vec<Isolator>,
    /// Facts about the app for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_annotations: BTreeMap<String, String>,
    /// Labels of people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_labels: BTreeMap<String, String>,
}

/// A user as appc writes it; resolved in the app's own root when the app starts.
pub type User = String;
/// A group as appc writes it; resolved in the app's own root when the app starts.
pub type Group = String;

/// Something that runs before or after the app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventHandler {
    /// `pre-start` or `post-stop`.
    pub name: String,
    /// The executable and its arguments.
    pub exec: Vec<String>,
}

/// Where an app expects a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPoint {
    /// What the volume is for; `--volume` refers to it.
    pub name: AppName,
    /// Absolute path in the app.
    pub path: String,
    /// Whether the app only reads it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

/// Where an app listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Unique in the pod; `--port` refers to it.
    pub name: AppName,
    /// Transport.
    pub protocol: Protocol,
    /// First port.
    pub port: u16,
    /// How many ports from there.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u16,
    /// Whether systemd listens for the app.
    #[serde(default, skip_serializing_if = "is_false")]
    pub socket_activated: bool,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl App {
    /// The value of an environment variable.
    pub fn env(&self, name: &str) -> Option<&str> {
        super::annotation(&self.environment, name)
    }

    /// Sets an environment variable, in its place if it is there.
    pub fn set_env(&mut self, name: &str, value: &str) {
        match self.environment.iter_mut().find(|e| e.name == name) {
            Some(entry) => value.clone_into(&mut entry.value),
            None => {
                self.environment.push(super::Annotation { name: name.to_owned(), value: value.to_owned() })
            }
        }
    }
}

fn one() -> u16 {
    1
}

fn is_one(count: &u16) -> bool {
    *count == 1
}
