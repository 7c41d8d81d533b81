//! Limits of an app in a *direct* pod: `linux.resources`, as control groups below the caller's own.
//!
//! In a pod of units the limits are properties of the units and systemd writes them; nothing here is used. `rkt run` has
//! no systemd to ask, so that the app gets a group `rkt-<uuid>/<app>` below the one that `rkt run` was started in:
//!
//! * in each hierarchy of the first version whose controller is needed;
//! * in the unified hierarchy only where that part of the tree was handed over (`Delegate=yes`, see systemd's
//!   CGROUP_DELEGATION); systemd owns the rest, and a group that has processes cannot pass controllers on.
//!
//! The groups are written down in the attempt's directory before they are made, so that `down` finds them however this
//! process ends.

mod plan;
mod unified;

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use pod::{AppName, PodId};

use crate::control_group::{self, ControlGroupError, Layout, Mounts};
use crate::failure::{Failure, StepError};

use plan::{Plan, Setting};

/// A limit could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// A resource that this version does not limit.
    #[error("linux.resources: a limit for {0} is not supported")]
    Unsupported(&'static str),
    /// A value that is no limit.
    #[error("linux.resources: {0} is not a limit for {1}")]
    Invalid(i64, &'static str),
    /// The group or its file.
    #[error("{act} {path}", path = .path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel has no such controller, or it is not mounted.
    #[error("limit {0}: there is no control group hierarchy with that controller")]
    NoController(&'static str),
    /// Nobody handed the group over.
    #[error(
        "limit the app's resources: the control group {} is not delegated; start rkt in a unit with Delegate=yes, \
         or limit the unit itself (MemoryMax=, CPUQuota=, TasksMax=)", .0.display()
    )]
    NotDelegated(PathBuf),
}

impl StepError for LimitsError {}

/// The groups of one app, made or to be made.
#[derive(Debug)]
pub struct AppGroups {
    groups: Vec<(PathBuf, Vec<Setting>)>,
}

impl AppGroups {
    /// Finds out which groups the limits need. `None`: no limits.
    pub fn of(
        resources: Option<&LinuxResources>,
        pod: PodId,
        app: &AppName,
    ) -> Result<Option<Self>, Failure> {
        let plan = resources.map(Plan::of).transpose()?.unwrap_or_default();
        if plan.is_empty() {
            return Ok(None);
        }
        let name = Path::new(&format!("rkt-{pod}")).join(app.as_str());
        let mounts = Mounts::of_self()?;
        let groups = match control_group::layout() {
            Layout::Unified => vec![(unified::delegated(&mounts)?.join(name), plan.unified())],
            Layout::Several => first_version(plan, &mounts, &name)?,
        };
        Ok(Some(Self { groups }))
    }

    /// The groups' directories, for the record.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.groups.iter().map(|(path, _)| path.as_path())
    }

    /// Makes the groups and moves the calling process into them: what it makes from now on is limited.
    pub fn enter(&self) -> Result<(), LimitsError> {
        for (path, settings) in &self.groups {
            if control_group::layout() == Layout::Unified {
                unified::make(path, settings)?;
            }
            std::fs::create_dir_all(path).map_err(|e| io("make the control group", path, e))?;
            std::fs::write(path.join("cgroup.procs"), "0")
                .map_err(|e| io("move into the control group", path, e))?;
        }
        Ok(())
    }

    /// Sets the limits.
    pub fn limit(&self) -> Result<(), LimitsError> {
        for (group, settings) in &self.groups {
            for setting in settings {
                let path = group.join(setting.file);
                std::fs::write(&path, &setting.value).map_err(|e| io("set", &path, e))?;
            }
        }
        Ok(())
    }
}

/// Removes groups and the pod's group above them. All are tried; what could not be removed is reported.
pub fn remove<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<LimitsError> {
    let mut errors = Vec::new();
    for path in paths {
        if let Err(e) = remove_group(path) {
            errors.push(io("remove the control group", path, e));
        }
        // The last app takes the pod's group with it.
        if let Some(pod) = path.parent() {
            let _ = std::fs::remove_dir(pod);
        }
    }
    errors
}

fn remove_group(path: &Path) -> std::io::Result<()> {
    // The app's processes are killed with its PID 1, but not gone before they were reaped.
    for _ in 0..50 {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(e) => return Err(e),
        }
    }
    std::fs::remove_dir(path)
}

fn first_version(plan: Plan, mounts: &Mounts, name: &Path) -> Result<Vec<(PathBuf, Vec<Setting>)>, Failure> {
    let own = control_group::of_self()?;
    let mut groups: Vec<(PathBuf, Vec<Setting>)> = Vec::new();
    for (controller, settings) in plan.by_controller() {
        let hierarchy = own.iter().find(|h| h.controllers().iter().any(|c| c == controller));
        let hierarchy = hierarchy.ok_or(LimitsError::NoController(controller))?;
        let path = hierarchy.group(mounts).map_err(|e: ControlGroupError| Failure::from(e))?.join(name);
        match groups.iter_mut().find(|(p, _)| *p == path) {
            Some((_, all)) => all.extend(settings),
            None => groups.push((path, settings)),
        }
    }
    Ok(groups)
}

fn io(act: &'static str, path: &Path, source: std::io::Error) -> LimitsError {
    LimitsError::Io { act, path: path.to_owned(), source }
}
