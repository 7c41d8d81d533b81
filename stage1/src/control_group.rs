//! Control groups of a process: which hierarchies there are, where it is in each, and joining it there.
//!
//! `/proc/<pid>/cgroup` has a line per hierarchy, `id:controllers:path` (cgroups(7)); the unified one has id 0 and no
//! controllers. Where a hierarchy is mounted says `/proc/self/mountinfo`. Nothing assumes one version: a host has the
//! second, the first, or both.

use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::failure::StepError;

/// Where every distribution mounts the control groups.
pub const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// What is mounted at [`MOUNT_POINT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The unified hierarchy, alone.
    Unified,
    /// Hierarchies of the first version, perhaps with an (almost) empty unified one beside them.
    Several,
}

/// One hierarchy, and where a process is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    controllers: Vec<String>,
    path: PathBuf,
}

/// A process's control groups could not be read or joined.
#[derive(Debug, thiserror::Error)]
pub enum ControlGroupError {
    /// A file of /proc could not be read.
    #[error("read {file}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The hierarchy is not mounted where we could reach it.
    #[error("the control group hierarchy {0:?} is not mounted")]
    NotMounted(String),
    /// The group did not take the process.
    #[error("move into the control group {group}", group = .group.display())]
    Join {
        /// Which.
        group: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl StepError for ControlGroupError {}

/// What is mounted at `/sys/fs/cgroup`.
pub fn layout() -> Layout {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    let unified =
        rustix::fs::statfs(MOUNT_POINT).is_ok_and(|s| u64::try_from(s.f_type) == Ok(CGROUP2_SUPER_MAGIC));
    if unified { Layout::Unified } else { Layout::Several }
}

/// The groups of the calling process.
pub fn of_self() -> Result<Vec<Hierarchy>, ControlGroupError> {
    read("/proc/self/cgroup").map(|text| parse(&text))
}

/// The systemd unit that the calling process is in, by its group in systemd's own hierarchy. `None`: it is in none.
pub fn unit_of_self() -> Option<String> {
    let is_systemds = |h: &&Hierarchy| h.is_unified() || h.controllers == ["name=systemd"];
    of_self().ok()?.iter().filter(is_systemds).find_map(Hierarchy::unit)
}

/// The groups of a process.
pub fn of(pid: u32) -> Result<Vec<Hierarchy>, ControlGroupError> {
    read(&format!("/proc/{pid}/cgroup")).map(|text| parse(&text))
}

fn read(file: &str) -> Result<String, ControlGroupError> {
    std::fs::read_to_string(file).map_err(|source| ControlGroupError::Read { file: file.to_owned(), source })
}

fn parse(text: &str) -> Vec<Hierarchy> {
    text.lines().filter_map(Hierarchy::parse).collect()
}

impl Hierarchy {
    /// A line of `/proc/<pid>/cgroup`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, ':');
        let (_id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let controllers = controllers.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        Some(Self { controllers, path: path.into() })
    }

    /// Whether it is the second version's hierarchy.
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Its controllers; a named hierarchy has one, `name=…`.
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }

    /// The service or scope whose group this is, or is below.
    fn unit(&self) -> Option<String> {
        let components = self.path.components().rev().filter_map(|c| c.as_os_str().to_str());
        let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
        components.into_iter().find(is_unit).map(str::to_owned)
    }

    /// Where the process is in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory below `/sys/fs/cgroup` where it is mounted by custom.
    pub fn directory(&self) -> String {
        match self.controllers.as_slice() {
            [] => "unified".to_owned(),
            [name] => name.strip_prefix("name=").unwrap_or(name).to_owned(),
            several => several.join(","),
        }
    }

    /// The options that mount it.
    pub fn mount_data(&self) -> Vec<(&str, Option<&str>)> {
        self.controllers
            .iter()
            .flat_map(|c| match c.split_once('=') {
                Some((key, value)) => vec![("none", None), (key, Some(value))],
                None => vec![(c.as_str(), None)],
            })
            .collect()
    }

    /// The directory of the process's group, in the mounts of `mountinfo`.
    pub fn group(&self, mounts: &Mounts) -> Result<PathBuf, ControlGroupError> {
        let (point, root) =
            mounts.find(self).ok_or_else(|| ControlGroupError::NotMounted(self.directory()))?;
        // The mount shows the hierarchy from `root` down.
        let below =
            self.path.strip_prefix(root).or_else(|_| self.path.strip_prefix("/")).unwrap_or(&self.path);
        Ok(point.join(below))
    }
}

/// Where the hierarchies are mounted.
#[derive(Debug, Clone)]
pub struct Mounts {
    mounts: Vec<ControlGroupMount>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ControlGroupMount {
    point: PathBuf,
    root: PathBuf,
    is_unified: bool,
    options: Vec<String>,
}

impl Mounts {
    /// Reads `/proc/self/mountinfo`.
    pub fn of_self() -> Result<Self, ControlGroupError> {
        read("/proc/self/mountinfo").map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        Self { mounts: text.lines().filter_map(ControlGroupMount::parse).collect() }
    }

    fn find(&self, hierarchy: &Hierarchy) -> Option<(&Path, &Path)> {
        let matches = |m: &&ControlGroupMount| match hierarchy.controllers.as_slice() {
            [] => m.is_unified,
            controllers => !m.is_unified && controllers.iter().all(|c| m.options.contains(c)),
        };
        self.mounts.iter().find(matches).map(|m| (m.point.as_path(), m.root.as_path()))
    }
}

impl ControlGroupMount {
    /// `id parent dev root point options [fields] - type source super-options`, proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let is_unified = match filesystem.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = filesystem.nth(1)?.split(',').map(str::to_owned).collect();
        let mut mount = mount.split(' ').skip(3);
        Some(Self { root: mount.next()?.into(), point: mount.next()?.into(), is_unified, options })
    }
}

/// Moves the calling process into every control group of process `pid`. All or an error: a process that is in some of
/// them would escape the limits of the others.
pub fn join(pid: u32) -> Result<(), ControlGroupError> {
    let mounts = Mounts::of_self()?;
    let own = of_self()?;
    for hierarchy in of(pid)? {
        if own.contains(&hierarchy) {
            continue;
        }
        let group = hierarchy.group(&mounts)?;
        std::fs::write(group.join("cgroup.procs"), "0")
            .map_err(|source| ControlGroupError::Join { group, source })?;
    }
    Ok(())
}

/// Moves a process out of its groups, into the roots of the hierarchies, as far as that can be: a hierarchy may not be
/// mounted, and a root that is a container's may not take processes.
pub fn move_to_root(pid: Pid) -> Result<(), ControlGroupError> {
    let mounts = Mounts::of_self()?;
    let to_root = |hierarchy: Hierarchy| {
        let group = Hierarchy { path: "/".into(), ..hierarchy }.group(&mounts)?;
        std::fs::write(group.join("cgroup.procs"), pid.as_raw_nonzero().to_string())
            .map_err(|source| ControlGroupError::Join { group, source })
    };
    let outcomes: Vec<_> = of_self()?.into_iter().map(to_root).collect();
    outcomes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "4:memory:/pods/a\n3:cpu,cpuacct:/pods/a\n2:name=systemd:/x\n0::/x:y\n";
    const MOUNTS: &str = "\
24 1 0:21 / /proc rw - proc proc rw
31 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 24 0:29 /pods /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
33 24 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 24 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn the_unit_is_the_innermost_service_or_scope() {
        let unit = |line: &str| Hierarchy::parse(line).unwrap().unit();
        assert_eq!(unit("0::/system.slice/web.service").as_deref(), Some("web.service"));
        assert_eq!(unit("1:name=systemd:/user.slice/s.scope/rkt-x/app").as_deref(), Some("s.scope"));
        assert_eq!(unit("0::/user.slice"), None);
    }

    #[test]
    fn lines_become_hierarchies() {
        let groups = parse(GROUPS);
        let names: Vec<_> = groups.iter().map(Hierarchy::directory).collect();
        assert_eq!(names, ["memory", "cpu,cpuacct", "systemd", "unified"]);
        assert_eq!(groups[3].path(), Path::new("/x:y"));
        assert_eq!(groups[2].mount_data(), [("none", None), ("name", Some("systemd"))]);
    }

    #[test]
    fn a_group_is_found_where_its_hierarchy_is_mounted() {
        let mounts = Mounts::parse(MOUNTS);
        let found: Vec<_> = parse(GROUPS).iter().map(|h| h.group(&mounts).unwrap()).collect();
        let expected = ["memory/a", "cpu,cpuacct/pods/a", "systemd/x", "unified/x:y"];
        assert_eq!(found, expected.map(|e| Path::new(MOUNT_POINT).join(e)));
    }

    #[test]
    fn a_hierarchy_that_is_not_mounted_is_named() {
        let error = parse("7:pids:/a").remove(0).group(&Mounts::parse(MOUNTS)).unwrap_err();
        assert_eq!(error.to_string(), "the control group hierarchy \"pids\" is not mounted");
    }
}
