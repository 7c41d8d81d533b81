//! From `linux.resources` to files of control groups, for both versions (cgroup-v1 and cgroup-v2 of the kernel's
//! admin guide).

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::LimitsError;

/// A value for a file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
}

/// Settings for both versions.
#[derive(Debug, Default)]
pub(super) struct Plan {
    first: Vec<(&'static str, Setting)>,
    second: Vec<Setting>,
}

impl Plan {
    /// Reads the limits. What cannot be limited is an error. `devices` is not a limit: see [`crate::devices`].
    pub(super) fn of(resources: &LinuxResources) -> Result<Self, LimitsError> {
        let unsupported = [
            (resources.block_io().is_some(), "block devices"),
            (resources.hugepage_limits().as_ref().is_some_and(|l| !l.is_empty()), "huge pages"),
            (resources.network().is_some(), "network classes"),
            (resources.rdma().as_ref().is_some_and(|r| !r.is_empty()), "RDMA"),
            (resources.unified().as_ref().is_some_and(|u| !u.is_empty()), "unified files"),
        ];
        if let Some((_, what)) = unsupported.into_iter().find(|(is_set, _)| *is_set) {
            return Err(LimitsError::Unsupported(what));
        }
        let mut plan = Self::default();
        resources.memory().as_ref().map_or(Ok(()), |m| plan.add_memory(m))?;
        resources.cpu().as_ref().map_or(Ok(()), |c| plan.add_cpu(c))?;
        if let Some(limit) = resources.pids().as_ref().map(|p| p.limit()).filter(|l| *l != 0) {
            let value = if limit < 0 { "max".to_owned() } else { limit.to_string() };
            plan.add("pids", "pids.max", value.clone());
            plan.add_second("pids.max", value);
        }
        Ok(plan)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }

    /// The settings of each controller of the first version, in order.
    pub(super) fn by_controller(self) -> Vec<(&'static str, Vec<Setting>)> {
        let mut all: Vec<(&'static str, Vec<Setting>)> = Vec::new();
        for (controller, setting) in self.first {
            match all.iter_mut().find(|(c, _)| *c == controller) {
                Some((_, settings)) => settings.push(setting),
                None => all.push((controller, vec![setting])),
            }
        }
        all
    }

    /// The settings of the unified hierarchy.
    pub(super) fn unified(self) -> Vec<Setting> {
        self.second
    }

    fn add(&mut self, controller: &'static str, file: &'static str, value: String) {
        self.first.push((controller, Setting { file, value }));
    }

    fn add_second(&mut self, file: &'static str, value: String) {
        self.second.push(Setting { file, value });
    }

    fn add_memory(&mut self, memory: &LinuxMemory) -> Result<(), LimitsError> {
        if let Some(limit) = memory.limit() {
            self.add("memory", "memory.limit_in_bytes", bytes(limit, "memory")?.unwrap_or("-1".to_owned()));
            self.add_second("memory.max", bytes(limit, "memory")?.unwrap_or("max".to_owned()));
        }
        if let Some(low) = memory.reservation() {
            let value = bytes(low, "the memory reservation")?;
            self.add("memory", "memory.soft_limit_in_bytes", value.clone().unwrap_or("-1".to_owned()));
            self.add_second("memory.low", value.unwrap_or("max".to_owned()));
        }
        if let Some(both) = memory.swap() {
            self.add(
                "memory",
                "memory.memsw.limit_in_bytes",
                bytes(both, "swap")?.unwrap_or("-1".to_owned()),
            );
            // The first version counts memory and swap together, the second swap alone.
            let swap =
                if both < 0 { None } else { Some(both.saturating_sub(memory.limit().unwrap_or(0)).max(0)) };
            self.add_second("memory.swap.max", swap.map_or("max".to_owned(), |s| s.to_string()));
        }
        let is_other = memory.kernel().is_some()
            || memory.kernel_tcp().is_some()
            || memory.swappiness().is_some()
            || memory.disable_oom_killer() == Some(true);
        if is_other {
            Err(LimitsError::Unsupported("kernel memory, swappiness or the OOM killer"))
        } else {
            Ok(())
        }
    }

    fn add_cpu(&mut self, cpu: &LinuxCpu) -> Result<(), LimitsError> {
        const PERIOD: u64 = 100_000;
        if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
            self.add("cpu", "cpu.shares", shares.to_string());
            self.add_second("cpu.weight", weight(shares).to_string());
        }
        if let Some(quota) = cpu.quota().filter(|q| *q != 0) {
            let period = cpu.period().filter(|p| *p != 0).unwrap_or(PERIOD);
            self.add("cpu", "cpu.cfs_period_us", period.to_string());
            self.add("cpu", "cpu.cfs_quota_us", quota.max(-1).to_string());
            let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
            self.add_second("cpu.max", format!("{quota} {period}"));
        }
        let is_set = |list: &Option<String>| list.as_ref().is_some_and(|l| !l.is_empty());
        let is_other = is_set(cpu.cpus())
            || is_set(cpu.mems())
            || cpu.realtime_runtime().is_some_and(|r| r != 0)
            || cpu.burst().is_some_and(|b| b != 0)
            || cpu.idle().is_some_and(|i| i != 0);
        if is_other {
            Err(LimitsError::Unsupported("CPU sets, bursts, idleness or real time"))
        } else {
            Ok(())
        }
    }
}

/// `None`: unlimited.
fn bytes(value: i64, what: &'static str) -> Result<Option<String>, LimitsError> {
    match value {
        -1 => Ok(None),
        0.. => Ok(Some(value.to_string())),
        _ => Err(LimitsError::Invalid(value, what)),
    }
}

/// Shares from 2 to 262144 become weights from 1 to 10000, on the same straight line as in every runtime.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: serde_json::Value) -> Result<Plan, LimitsError> {
        Plan::of(&serde_json::from_value(json).unwrap())
    }

    fn lines(settings: Vec<Setting>) -> Vec<String> {
        settings.into_iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn limits_of_both_versions() {
        let json = serde_json::json!({"memory": {"limit": 1048576, "swap": 2097152}, "pids": {"limit": 10},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000}});
        assert_eq!(
            lines(plan(json.clone()).unwrap().unified()),
            [
                "memory.max=1048576",
                "memory.swap.max=1048576",
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "pids.max=10"
            ]
        );
        let first = plan(json).unwrap().by_controller();
        assert_eq!(first.iter().map(|(c, _)| *c).collect::<Vec<_>>(), ["memory", "cpu", "pids"]);
        let cpu = first.into_iter().find(|(c, _)| *c == "cpu").unwrap().1;
        assert_eq!(lines(cpu), ["cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"]);
    }

    #[test]
    fn no_limits_need_no_groups() {
        for json in
            [serde_json::json!({}), serde_json::json!({"devices": [{"allow": false, "access": "rwm"}]})]
        {
            assert!(plan(json).unwrap().is_empty());
        }
    }

    #[test]
    fn what_cannot_be_limited_is_refused() {
        for json in [
            serde_json::json!({"cpu": {"cpus": "0-1"}}),
            serde_json::json!({"memory": {"limit": -5}}),
            serde_json::json!({"unified": {"memory.high": "1"}}),
        ] {
            assert!(plan(json).is_err());
        }
    }

    #[test]
    fn weights() {
        assert_eq!([2, 1024, 262_144, 0, u64::MAX].map(weight), [1, 39, 10_000, 1, 10_000]);
    }
}
