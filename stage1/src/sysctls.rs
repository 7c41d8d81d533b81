//! `linux.sysctl`: kernel settings of the app's namespaces.
//!
//! Only settings that belong to a namespace the pod has for itself are written; anything else would change the host.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::failure::StepError;

/// A setting could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// It would change the host, or does not exist in a namespace.
    #[error("the sysctl {0:?} does not belong to a namespace of the pod")]
    NotNamespaced(String),
    /// It could not be written.
    #[error("set the sysctl {name}")]
    Write {
        /// Which.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The app has no procfs.
    #[error("set sysctls: the app has no /proc")]
    NoProc,
}

impl StepError for SysctlError {}

/// Which namespaces the pod has for itself.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// network_namespaces(7)
    pub net: bool,
    /// ipc_namespaces(7)
    pub ipc: bool,
}

const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Writes the settings to `proc`, the app's procfs.
pub fn apply(
    proc: Option<impl AsFd>,
    settings: Option<&HashMap<String, String>>,
    scope: Scope,
) -> Result<(), SysctlError> {
    let Some(settings) = settings.filter(|s| !s.is_empty()) else { return Ok(()) };
    let proc = proc.ok_or(SysctlError::NoProc)?;
    for (name, value) in settings {
        let path = file(name, scope).ok_or_else(|| SysctlError::NotNamespaced(name.clone()))?;
        write(&proc, &path, value).map_err(|source| SysctlError::Write { name: name.clone(), source })?;
    }
    Ok(())
}

/// The file below /proc. A name may use dots or slashes between its parts, sysctl(8); a dot in an interface's name is
/// written as a slash in the dotted form.
fn file(name: &str, scope: Scope) -> Option<String> {
    let is_slashed = name.find(['.', '/']).is_some_and(|i| name.get(i..=i) == Some("/"));
    let dotted = if is_slashed {
        name.replace('.', "\0").replace('/', ".").replace('\0', "/")
    } else {
        name.to_owned()
    };
    let allowed = (scope.net && dotted.starts_with("net."))
        || (scope.ipc && (IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.")));
    let path = dotted.replace('.', "\0").replace('/', ".").replace('\0', "/");
    let is_plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (allowed && is_plain).then(|| format!("sys/{path}"))
}

fn write(proc: impl AsFd, path: &str, value: &str) -> std::io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let fd = rustix::fs::openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    std::fs::File::from(fd).write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_the_pods_own_namespaces() {
        let all = Scope { net: true, ipc: true };
        assert_eq!(file("net.ipv4.ip_forward", all).unwrap(), "sys/net/ipv4/ip_forward");
        assert_eq!(
            file("net/ipv4/conf/eth0.1/forwarding", all).unwrap(),
            "sys/net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            file("net.ipv4.conf.eth0/1.forwarding", all).unwrap(),
            "sys/net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(file("kernel.shmmax", all).unwrap(), "sys/kernel/shmmax");
        for bad in [
            "kernel.core_pattern",
            "vm.swappiness",
            "net",
            "net..",
            "net./..",
            "net/../kernel/core_pattern",
            "",
        ] {
            assert_eq!(file(bad, all), None, "{bad}");
        }
        assert_eq!(file("net.ipv4.ip_forward", Scope { net: false, ipc: true }), None);
        assert_eq!(file("kernel.shmmax", Scope { net: true, ipc: false }), None);
    }
}
