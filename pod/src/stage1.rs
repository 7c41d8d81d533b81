//! The stage1 contract, `docs/stage1.md`: the names of verbs, variables and statuses. Both sides take them from here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of the contract that this crate speaks.
pub const INTERFACE_VERSION: u32 = 1;

/// `stage1.json`: which stage1 isolates a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage1 {
    /// Its name: `ns`, `fly`, `kvm`, or anybody's.
    pub name: String,
    /// Its executable, absolute.
    pub path: PathBuf,
    /// The version of the contract that the pod was prepared for.
    #[serde(rename = "interfaceVersion")]
    pub interface_version: u32,
}

/// What a stage1 is asked to do; the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make the sandbox.
    Up,
    /// Become an app.
    App,
    /// Run a command beside an app.
    Enter,
    /// Ask apps to end, or kill them.
    Stop,
    /// Release everything.
    Down,
}

impl Verb {
    /// The argument.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Up => "up",
            Verb::App => "app",
            Verb::Enter => "enter",
            Verb::Stop => "stop",
            Verb::Down => "down",
        }
    }
}

/// Environment: the version of the contract that the caller speaks.
pub const ENV_INTERFACE_VERSION: &str = "RKT_INTERFACE_VERSION";
/// Environment: `1` asks for a running commentary on stderr.
pub const ENV_DEBUG: &str = "RKT_DEBUG";
/// Environment of `up`: an inherited descriptor that holds the pod's lock.
pub const ENV_LOCK_FD: &str = "RKT_LOCK_FD";
/// Environment of `up`: the process that keeps the descriptors.
pub const ENV_HOLDER_PID: &str = "RKT_HOLDER_PID";
/// Environment of `app`: [`Backoff`] as text.
pub const ENV_BACKOFF: &str = "RKT_BACKOFF";

/// `FDNAME=` of the descriptor that holds the pod's lock.
pub const FDNAME_LOCK: &str = "lock";

/// Exit statuses of `app` when the app never ran. The numbers are systemd's (systemd.exec(5)).
pub mod status {
    /// The working directory is missing or not a directory.
    pub const CHDIR: u8 = 200;
    /// The executable is missing, not executable, or cannot be run here.
    pub const EXEC: u8 = 203;
    /// The user or group cannot be resolved.
    pub const USER: u8 = 217;
    /// A mount failed.
    pub const NAMESPACE: u8 = 226;
    /// Anything else.
    pub const OTHER: u8 = 254;
}

/// How long to wait before an app that ended is started again.
///
/// As text `INITIAL:MAX:RESET`, whole seconds: `10:300:600`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay, seconds.
    pub initial: u32,
    /// The longest delay, seconds.
    pub max: u32,
    /// An attempt that ran for this long, seconds, starts the series again.
    pub reset: u32,
}

/// The text is not `INITIAL:MAX:RESET`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a back-off of the form INITIAL:MAX:RESET in seconds")]
pub struct InvalidBackoff(String);

impl Backoff {
    /// Kubernetes' values: 10 s doubling to 5 min, reset after 10 min of running.
    pub const KUBERNETES: Self = Self { initial: 10, max: 300, reset: 600 };

    /// The delay in seconds after `failures` ends in a row without a long run between them; none before the first.
    pub fn delay(&self, failures: u32) -> u32 {
        match failures {
            0 => 0,
            n => self.initial.saturating_mul(1_u32.checked_shl(n - 1).unwrap_or(u32::MAX)).min(self.max),
        }
    }
}

impl std::fmt::Display for Backoff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.initial, self.max, self.reset)
    }
}

impl std::str::FromStr for Backoff {
    type Err = InvalidBackoff;

    fn from_str(text: &str) -> Result<Self, InvalidBackoff> {
        let mut numbers = text.split(':').map(|n| n.parse::<u32>().ok());
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(initial)), Some(Some(max)), Some(Some(reset)), None) => {
                Ok(Self { initial, max, reset })
            }
            _ => Err(InvalidBackoff(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_maximum() {
        let delays: Vec<u32> = (0..9).map(|n| Backoff::KUBERNETES.delay(n)).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(Backoff::KUBERNETES.delay(u32::MAX), 300);
        assert_eq!(Backoff { initial: 0, max: 0, reset: 0 }.delay(5), 0);
    }

    #[test]
    fn text_and_back() {
        assert_eq!("10:300:600".parse(), Ok(Backoff::KUBERNETES));
        assert_eq!(Backoff::KUBERNETES.to_string(), "10:300:600");
        for bad in ["", "1:2", "1:2:3:4", "a:b:c", "-1:2:3"] {
            assert!(bad.parse::<Backoff>().is_err(), "{bad}");
        }
    }
}
