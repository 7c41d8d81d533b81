//! Capabilities of the app: the five sets of `process.capabilities`, capabilities(7).
//!
//! A capability that this process does not have itself cannot be given; it is left out of the sets, so that a pod that
//! asks for all of them gets all there are. Without `process.capabilities` the app gets none.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::failure::StepError;

/// The capabilities could not be set.
#[derive(Debug, thiserror::Error)]
#[error("set the app's capabilities: {act}")]
pub struct CapabilityError {
    act: &'static str,
    source: std::io::Error,
}

impl StepError for CapabilityError {}

/// The sets of one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppCapabilities {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    inheritable: CapabilitySet,
    permitted: CapabilitySet,
    ambient: CapabilitySet,
}

/// Numbers beyond the last capability of this kernel are refused by it with EINVAL; there are at most 64.
const NUMBERS: std::ops::Range<u32> = 0..64;

impl AppCapabilities {
    /// Reads the sets, cut down to what the calling process may give.
    pub fn of(config: Option<&LinuxCapabilities>) -> Result<Self, CapabilityError> {
        let error = |e: rustix::io::Errno| CapabilityError { act: "read our own", source: e.into() };
        let own = rustix::thread::capabilities(None).map_err(error)?.permitted;
        let Some(config) = config else { return Ok(Self::cut(&none(), own)) };
        Ok(Self::cut(config, own))
    }

    fn cut(config: &LinuxCapabilities, own: CapabilitySet) -> Self {
        let set = |list: &Option<Capabilities>| {
            list.iter().flatten().map(|c| bit(*c)).collect::<CapabilitySet>() & own
        };
        let (permitted, inheritable) = (set(config.permitted()), set(config.inheritable()));
        Self {
            bounding: set(config.bounding()),
            effective: set(config.effective()) & permitted,
            inheritable,
            permitted,
            // The kernel's own rule: ambient is what is both permitted and inheritable.
            ambient: set(config.ambient()) & permitted & inheritable,
        }
    }

    /// Takes what is not in the bounding set out of it, for good. Needs CAP_SETPCAP.
    pub fn drop_bounding(&self) -> Result<(), CapabilityError> {
        for number in NUMBERS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding.contains(capability) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                Err(rustix::io::Errno::INVAL) => break,
                Err(e) => return Err(CapabilityError { act: "lower the bounding set", source: e.into() }),
            }
        }
        Ok(())
    }

    /// Sets the other four. The user has been changed before, with capabilities kept.
    pub fn apply(&self) -> Result<(), CapabilityError> {
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        };
        let error = |act| move |e: rustix::io::Errno| CapabilityError { act, source: e.into() };
        rustix::thread::clear_ambient_capability_set().map_err(error("clear the ambient set"))?;
        rustix::thread::set_capabilities(None, sets).map_err(error("capset"))?;
        for capability in self.ambient.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)
                .map_err(error("raise the ambient set"))?;
        }
        Ok(())
    }
}

/// No capabilities. (The type's own default is a set of some.)
fn none() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    let _ = none
        .set_bounding(None)
        .set_effective(None)
        .set_inheritable(None)
        .set_permitted(None)
        .set_ambient(None);
    none
}

fn bit(capability: Capability) -> CapabilitySet {
    match capability {
        Capability::AuditControl => CapabilitySet::AUDIT_CONTROL,
        Capability::AuditRead => CapabilitySet::AUDIT_READ,
        Capability::AuditWrite => CapabilitySet::AUDIT_WRITE,
        Capability::BlockSuspend => CapabilitySet::BLOCK_SUSPEND,
        Capability::Bpf => CapabilitySet::BPF,
        Capability::CheckpointRestore => CapabilitySet::CHECKPOINT_RESTORE,
        Capability::Chown => CapabilitySet::CHOWN,
        Capability::DacOverride => CapabilitySet::DAC_OVERRIDE,
        Capability::DacReadSearch => CapabilitySet::DAC_READ_SEARCH,
        Capability::Fowner => CapabilitySet::FOWNER,
        Capability::Fsetid => CapabilitySet::FSETID,
        Capability::IpcLock => CapabilitySet::IPC_LOCK,
        Capability::IpcOwner => CapabilitySet::IPC_OWNER,
        Capability::Kill => CapabilitySet::KILL,
        Capability::Lease => CapabilitySet::LEASE,
        Capability::LinuxImmutable => CapabilitySet::LINUX_IMMUTABLE,
        Capability::MacAdmin => CapabilitySet::MAC_ADMIN,
        Capability::MacOverride => CapabilitySet::MAC_OVERRIDE,
        Capability::Mknod => CapabilitySet::MKNOD,
        Capability::NetAdmin => CapabilitySet::NET_ADMIN,
        Capability::NetBindService => CapabilitySet::NET_BIND_SERVICE,
        Capability::NetBroadcast => CapabilitySet::NET_BROADCAST,
        Capability::NetRaw => CapabilitySet::NET_RAW,
        Capability::Perfmon => CapabilitySet::PERFMON,
        Capability::Setgid => CapabilitySet::SETGID,
        Capability::Setfcap => CapabilitySet::SETFCAP,
        Capability::Setpcap => CapabilitySet::SETPCAP,
        Capability::Setuid => CapabilitySet::SETUID,
        Capability::SysAdmin => CapabilitySet::SYS_ADMIN,
        Capability::SysBoot => CapabilitySet::SYS_BOOT,
        Capability::SysChroot => CapabilitySet::SYS_CHROOT,
        Capability::SysModule => CapabilitySet::SYS_MODULE,
        Capability::SysNice => CapabilitySet::SYS_NICE,
        Capability::SysPacct => CapabilitySet::SYS_PACCT,
        Capability::SysPtrace => CapabilitySet::SYS_PTRACE,
        Capability::SysRawio => CapabilitySet::SYS_RAWIO,
        Capability::SysResource => CapabilitySet::SYS_RESOURCE,
        Capability::SysTime => CapabilitySet::SYS_TIME,
        Capability::SysTtyConfig => CapabilitySet::SYS_TTY_CONFIG,
        Capability::Syslog => CapabilitySet::SYSLOG,
        Capability::WakeAlarm => CapabilitySet::WAKE_ALARM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(list: &[Capability]) -> LinuxCapabilities {
        let mut config = none();
        let set = || Some(list.iter().copied().collect());
        let _ = config.set_bounding(set()).set_effective(set()).set_permitted(set()).set_ambient(set());
        config
    }

    #[test]
    fn nothing_is_given_that_is_not_there() {
        let own = CapabilitySet::CHOWN | CapabilitySet::KILL;
        let cut = AppCapabilities::cut(&config(&[Capability::Chown, Capability::SysAdmin]), own);
        assert_eq!(
            (cut.bounding, cut.permitted, cut.effective),
            (CapabilitySet::CHOWN, CapabilitySet::CHOWN, CapabilitySet::CHOWN)
        );
        assert!(cut.ambient.is_empty(), "ambient without inheritable");
        assert!(AppCapabilities::cut(&none(), own).permitted.is_empty());
    }
}
