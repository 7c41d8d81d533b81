//! appc's isolators: limits and privileges of an app or a pod.
//!
//! Those of rkt 1.30 are typed. Any other is kept as it came: whether it can be ignored is for whoever applies it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A limit or a privilege.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum Isolator {
    /// `resource/memory`: bytes.
    Memory(Resource),
    /// `resource/cpu`: cores.
    Cpu(Resource),
    /// `os/linux/capabilities-retain-set`: exactly these.
    CapabilitiesRetain(Vec<String>),
    /// `os/linux/capabilities-remove-set`: the default ones without these.
    CapabilitiesRemove(Vec<String>),
    /// `os/linux/seccomp-retain-set`: only these calls.
    SeccompRetain(Seccomp),
    /// `os/linux/seccomp-remove-set`: all calls but these.
    SeccompRemove(Seccomp),
    /// `os/linux/no-new-privileges`.
    NoNewPrivileges(bool),
    /// `os/linux/oom-score-adj`: −1000 to 1000.
    OomScoreAdj(i32),
    /// `os/linux/cpu-shares`: 2 to 262144.
    CpuShares(u64),
    /// Any other, as it came.
    Other {
        /// Its name.
        name: String,
        /// Its value.
        value: Value,
    },
}

/// The capabilities of an app that says nothing about them, by name without `CAP_`: rkt's and Docker's fourteen.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kubernetes quantities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// What is set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What cannot be exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// System calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seccomp {
    /// Names, or groups such as `@rkt/default-whitelist`.
    #[serde(default)]
    pub set: Vec<String>,
    /// What a refused call returns; it kills the app when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    name: String,
    value: Value,
}

#[derive(Serialize, Deserialize)]
struct Set {
    set: Vec<String>,
}

/// An isolator's value has the wrong form.
#[derive(Debug, thiserror::Error)]
#[error("isolator {name}")]
pub struct InvalidIsolator {
    name: String,
    source: serde_json::Error,
}

const MEMORY: &str = "resource/memory";
const CPU: &str = "resource/cpu";
const CAPS_RETAIN: &str = "os/linux/capabilities-retain-set";
const CAPS_REMOVE: &str = "os/linux/capabilities-remove-set";
const SECCOMP_RETAIN: &str = "os/linux/seccomp-retain-set";
const SECCOMP_REMOVE: &str = "os/linux/seccomp-remove-set";
const NO_NEW_PRIVILEGES: &str = "os/linux/no-new-privileges";
const OOM_SCORE_ADJ: &str = "os/linux/oom-score-adj";
const CPU_SHARES: &str = "os/linux/cpu-shares";

impl TryFrom<Raw> for Isolator {
    type Error = InvalidIsolator;

    fn try_from(Raw { name, value }: Raw) -> Result<Self, InvalidIsolator> {
        use serde_json::from_value as typed;
        let set = |value| typed::<Set>(value).map(|s| s.set);
        let isolator = match name.as_str() {
            MEMORY => typed(value).map(Self::Memory),
            CPU => typed(value).map(Self::Cpu),
            CAPS_RETAIN => set(value).map(Self::CapabilitiesRetain),
            CAPS_REMOVE => set(value).map(Self::CapabilitiesRemove),
            SECCOMP_RETAIN => typed(value).map(Self::SeccompRetain),
            SECCOMP_REMOVE => typed(value).map(Self::SeccompRemove),
            NO_NEW_PRIVILEGES => typed(value).map(Self::NoNewPrivileges),
            OOM_SCORE_ADJ => typed(value).map(Self::OomScoreAdj),
            CPU_SHARES => typed(value).map(Self::CpuShares),
            _ => return Ok(Self::Other { name, value }),
        };
        isolator.map_err(|source| InvalidIsolator { name, source })
    }
}

impl From<Isolator> for Raw {
    fn from(isolator: Isolator) -> Raw {
        use serde_json::json;
        let (name, value) = match isolator {
            Isolator::Memory(r) => (MEMORY, json!(r)),
            Isolator::Cpu(r) => (CPU, json!(r)),
            Isolator::CapabilitiesRetain(set) => (CAPS_RETAIN, json!({ "set": set })),
            Isolator::CapabilitiesRemove(set) => (CAPS_REMOVE, json!({ "set": set })),
            Isolator::SeccompRetain(s) => (SECCOMP_RETAIN, json!(s)),
            Isolator::SeccompRemove(s) => (SECCOMP_REMOVE, json!(s)),
            Isolator::NoNewPrivileges(on) => (NO_NEW_PRIVILEGES, json!(on)),
            Isolator::OomScoreAdj(n) => (OOM_SCORE_ADJ, json!(n)),
            Isolator::CpuShares(n) => (CPU_SHARES, json!(n)),
            Isolator::Other { name, value } => return Raw { name, value },
        };
        Raw { name: name.to_owned(), value }
    }
}
