//! Limits in the unified hierarchy: only below a group that was handed over.
//!
//! systemd marks such a group with the extended attribute `user.delegate` (`trusted.delegate` before version 251). A
//! group with processes of its own cannot pass controllers on, so that whoever is in it (`rkt run` and we) first moves
//! to a group beside the pods', `rkt-launcher`.

use std::path::{Path, PathBuf};

use super::{LimitsError, Setting, io};
use crate::control_group::{self, Mounts};
use crate::failure::Failure;

/// Where the processes of a delegated group go.
const LAUNCHER: &str = "rkt-launcher";

/// The delegated group that the calling process is in.
pub(super) fn delegated(mounts: &Mounts) -> Result<PathBuf, Failure> {
    let own = control_group::of_self()?;
    let unified = own.iter().find(|h| h.is_unified()).ok_or(LimitsError::NoController("anything"))?;
    let group = unified.group(mounts)?;
    let group = match group.parent() {
        Some(parent) if group.ends_with(LAUNCHER) => parent.to_owned(),
        _ => group,
    };
    if is_delegated(&group) { Ok(group) } else { Err(LimitsError::NotDelegated(group).into()) }
}

/// Makes the app's group, with the controllers that the settings need passed on to it.
pub(super) fn make(app: &Path, settings: &[Setting]) -> Result<(), LimitsError> {
    let Some((pod, top)) = app.parent().and_then(|pod| pod.parent().map(|top| (pod, top))) else {
        return Err(LimitsError::NotDelegated(app.to_owned()));
    };
    vacate(top)?;
    std::fs::create_dir_all(pod).map_err(|e| io("make the control group", pod, e))?;
    let mut controllers: Vec<String> =
        settings.iter().filter_map(|s| s.file.split_once('.')).map(|(c, _)| format!("+{c}")).collect();
    controllers.dedup();
    for group in [top, pod] {
        let path = group.join("cgroup.subtree_control");
        std::fs::write(&path, controllers.join(" ")).map_err(|e| io("pass controllers on in", &path, e))?;
    }
    Ok(())
}

/// Moves the processes that are in the group itself one level down.
fn vacate(group: &Path) -> Result<(), LimitsError> {
    let own = group.join("cgroup.procs");
    let processes = std::fs::read_to_string(&own).map_err(|e| io("read", &own, e))?;
    if processes.is_empty() {
        return Ok(());
    }
    let launcher = group.join(LAUNCHER);
    std::fs::create_dir_all(&launcher).map_err(|e| io("make the control group", &launcher, e))?;
    let target = launcher.join("cgroup.procs");
    for process in processes.lines() {
        match std::fs::write(&target, process) {
            Ok(()) => {}
            // It has ended meanwhile.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(e) => return Err(io("move processes into", &target, e)),
        }
    }
    Ok(())
}

fn is_delegated(group: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(group, name, &mut value).is_ok_and(|n| value.get(..n) == Some(b"1"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_nobody_handed_over_is_refused() {
        assert!(!is_delegated(Path::new("/sys/fs/cgroup")));
        let sentence = LimitsError::NotDelegated("/sys/fs/cgroup/user.slice".into()).to_string();
        assert!(
            sentence.contains("/sys/fs/cgroup/user.slice") && sentence.contains("Delegate=yes"),
            "{sentence}"
        );
    }
}
