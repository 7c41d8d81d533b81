//! The control groups of a node in namespaces, as the machine outside sees them.
//!
//! A node gets one group in every mounted hierarchy and enters it before its cgroup namespace is made, so
//! that inside, its group is the root. On v1 the group is below the caller's own, whose limits therefore
//! hold for the node; on v2 a group with processes cannot delegate controllers, so it is beside the
//! caller's. The paths are written down first, so that whoever finds the list can remove them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// v1 controllers, comma-separated as mount options want them; `None` for v2.
    pub(crate) controllers: Option<String>,
    /// Where groups of a node go.
    base: PathBuf,
}

impl Hierarchy {
    /// Whether this is a v1 hierarchy with a controller, and not only a name.
    pub(crate) fn limits(&self) -> bool {
        self.controllers.as_deref().is_some_and(|c| !c.starts_with("name="))
    }
}

/// The hierarchies of this machine.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let own = fs::read_to_string("/proc/self/cgroup").context("cannot read our control groups")?;
    Ok(parse(&mounts, &own))
}

/// Joins `mountinfo` (proc(5)) and `cgroup` (cgroups(7)) of one process.
fn parse(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let groups: Vec<(&str, &str)> = own
        .lines()
        .filter_map(|line| line.split_once(':').and_then(|(_, rest)| rest.split_once(':')))
        .collect();
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3);
        let (Some(root), Some(point)) = (left.next(), left.next()) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
        let name = |wanted: &str| options.split(',').any(|o| o == wanted);
        let group = match kind {
            "cgroup2" => groups.iter().find(|(controllers, _)| controllers.is_empty()),
            "cgroup" => groups.iter().find(|(c, _)| !c.is_empty() && c.split(',').all(name)),
            _ => None,
        };
        let Some((controllers, path)) = group else { continue };
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let base = Path::new(point).join(below);
        let v2 = kind == "cgroup2";
        let has_parent = below.components().next().is_some();
        let base = if v2 && has_parent { base.parent().unwrap_or(&base).to_owned() } else { base };
        let hierarchy = Hierarchy { controllers: (!v2).then(|| (*controllers).to_owned()), base };
        if !found.iter().any(|h| h.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

/// Makes the groups `name`, writing their paths to `list` before they exist.
pub(crate) fn create(name: &str, list: &Path) -> Result<Vec<PathBuf>> {
    let hierarchies = hierarchies()?;
    let groups: Vec<PathBuf> = hierarchies.iter().map(|h| h.base.join(name)).collect();
    let lines: String = groups.iter().map(|g| format!("{}\n", g.display())).collect();
    fs::write(list, lines).with_context(|| format!("cannot write {}", list.display()))?;
    for (hierarchy, group) in hierarchies.iter().zip(&groups) {
        fs::create_dir(group)
            .with_context(|| format!("cannot make the control group {}", group.display()))?;
        match hierarchy.controllers.as_deref() {
            Some(c) if c.split(',').any(|c| c == "cpuset") => fill_cpuset(&hierarchy.base, group)?,
            Some(_) => {}
            None => delegate(&hierarchy.base),
        }
    }
    Ok(groups)
}

/// Moves the calling process into the groups. It must have one thread only.
pub(crate) fn enter(groups: &[PathBuf]) -> Result<()> {
    for group in groups {
        let procs = group.join("cgroup.procs");
        fs::write(&procs, "0").with_context(|| format!("cannot enter {}", group.display()))?;
    }
    Ok(())
}

/// The groups that `list` names.
pub(crate) fn read(list: &Path) -> Vec<PathBuf> {
    fs::read_to_string(list).unwrap_or_default().lines().map(PathBuf::from).collect()
}

/// Kills whatever is in the groups and removes them, innermost first. A group stays busy for a moment
/// after its last process is gone, so this tries for some seconds.
pub(crate) fn remove(groups: &[PathBuf]) -> Result<()> {
    for _ in 0..100 {
        let left: Vec<&PathBuf> = groups.iter().filter(|group| !remove_tree(group)).collect();
        if left.is_empty() {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    bail!("control groups stay busy: {groups:?}")
}

/// Whether the group and all below it are gone.
fn remove_tree(group: &Path) -> bool {
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let _ = remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(e) => e.kind() == ErrorKind::NotFound,
    }
}

/// A new v1 cpuset group has no CPU and no memory node, and takes no process until it has.
fn fill_cpuset(from: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = fs::read(from.join(file)).with_context(|| format!("cannot read {file}"))?;
        fs::write(group.join(file), value).with_context(|| format!("cannot set {file}"))?;
    }
    Ok(())
}

/// Asks v2 for each controller; those that v1 holds are refused one by one, which is no error here.
fn delegate(base: &Path) {
    for controller in ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"] {
        let _ = fs::write(base.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_come_from_the_mount_table() {
        let mounts = "\
26 20 0:24 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
27 26 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
28 26 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
29 26 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 26 0:28 /outer /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let own = "4:memory:/outer/us\n3:cpu,cpuacct:/\n1:name=systemd:/a/b\n0::/user/session\n";
        let bases: Vec<_> = parse(mounts, own).into_iter().map(|h| (h.controllers, h.base)).collect();
        let v1 = |c: &str, p: &str| (Some(c.to_owned()), PathBuf::from(p));
        assert_eq!(
            bases,
            [
                v1("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
                v1("name=systemd", "/sys/fs/cgroup/systemd/a/b"),
                (None, PathBuf::from("/sys/fs/cgroup/unified/user")),
                v1("memory", "/sys/fs/cgroup/memory/us"),
            ]
        );
    }
}
