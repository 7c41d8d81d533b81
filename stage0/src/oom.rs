//! Whether the kernel killed something in our control group for want of memory.
//!
//! On the unified hierarchy systemd sees that itself and says `oom-kill`. On the first version's hierarchies systemd 252
//! says `signal`, as for any SIGKILL. An `ExecStopPost=` process is in the group of the service it comes after, and the
//! kernel counts there: `oom_kill` in `memory.oom_control` (Linux's cgroup-v1/memory.rst).

/// Where the first version's memory controller is mounted.
const MEMORY: &str = "/sys/fs/cgroup/memory";

/// Whether the memory controller has killed in the calling process's group. `false` also where that cannot be told.
pub(crate) fn killed_in_own_group() -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = memory_group(&groups) else { return false };
    let text = std::fs::read_to_string(format!("{MEMORY}{group}/memory.oom_control")).unwrap_or_default();
    kills(&text) > 0
}

/// The group in the memory controller's hierarchy, from `/proc/<pid>/cgroup` (cgroups(7)).
fn memory_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_memory = fields.next()?.split(',').any(|controller| controller == "memory");
        fields.next().filter(|_| is_memory)
    })
}

fn kills(oom_control: &str) -> u64 {
    oom_control.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let groups = "12:cpu,cpuacct:/a\n9:memory:/kubepods.slice/x:y.service\n0::/z\n";
        assert_eq!(memory_group(groups), Some("/kubepods.slice/x:y.service"));
        assert_eq!(memory_group("0::/z\n"), None);
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(kills("oom_kill_disable 0\n"), 0);
    }
}
