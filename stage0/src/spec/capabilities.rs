//! Which capabilities an app has: appc's retain and remove sets over rkt's default fourteen. capabilities(7).

use std::collections::BTreeSet;
use std::str::FromStr as _;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use pod::manifest::{DEFAULT_CAPABILITIES, Isolator};

use super::{Input, SpecError};

/// A set of capabilities, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set(BTreeSet<String>);

const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setgid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

impl Set {
    /// Whether it has a capability, named without `CAP_`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// As the process's sets: bounding, permitted and effective. Nothing is inheritable or ambient, so that a program
    /// run by a user other than root has none.
    pub(super) fn to_linux(&self) -> LinuxCapabilities {
        let set: Capabilities = self.0.iter().filter_map(|name| Capability::from_str(name).ok()).collect();
        let mut sets = LinuxCapabilities::default();
        let _ = sets
            .set_bounding(Some(set.clone()))
            .set_permitted(Some(set.clone()))
            .set_effective(Some(set))
            .set_inheritable(None)
            .set_ambient(None);
        sets
    }
}

/// The capabilities of an app.
pub(super) fn set(input: &Input<'_>) -> Result<Set, SpecError> {
    if input.lifted.capabilities {
        return Ok(Set(ALL.iter().map(ToString::to_string).collect()));
    }
    let app = || input.runtime.name.clone();
    let mut retain: Option<BTreeSet<String>> = None;
    let mut remove = BTreeSet::new();
    for isolator in &input.app.isolators {
        let (names, into) = match isolator {
            Isolator::CapabilitiesRetain(names) => (names, retain.get_or_insert_default()),
            Isolator::CapabilitiesRemove(names) => (names, &mut remove),
            _ => continue,
        };
        for name in names {
            let known =
                parse(name).ok_or_else(|| SpecError::Capability { app: app(), name: name.clone() })?;
            let _new = into.insert(known);
        }
    }
    match retain {
        Some(_) if !remove.is_empty() => Err(SpecError::TwoCapabilitySets { app: app() }),
        Some(retain) => Ok(Set(retain)),
        None => Ok(Set(DEFAULT_CAPABILITIES
            .iter()
            .map(|c| (*c).to_owned())
            .filter(|c| !remove.contains(c))
            .collect())),
    }
}

/// A capability's name without `CAP_`, from a name with or without it, in either case.
pub(crate) fn parse(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Capability::from_str(bare).ok().map(|c| c.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parse("CAP_NET_ADMIN").as_deref(), Some("NET_ADMIN"));
        assert_eq!(parse("sys_ptrace").as_deref(), Some("SYS_PTRACE"));
        assert_eq!(parse("CAP_NOPE"), None);
        let all: BTreeSet<String> = ALL.iter().map(ToString::to_string).collect();
        assert_eq!(all.len(), ALL.len());
        assert!(all.iter().all(|c| parse(c).as_deref() == Some(c)));
    }
}
