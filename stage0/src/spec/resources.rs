//! Limits of an app as cgroup settings. Stage1s apply them to pods that were launched directly; for pods of systemd
//! units the same limits are unit properties.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use pod::manifest::{Isolator, Resource};

use super::{Input, SpecError, bytes, millicores};

/// The period that a CPU quota is measured over, microseconds: the kernel's default.
const PERIOD: u64 = 100_000;
/// The smallest memory limit that rkt accepted, bytes: one page.
const SMALLEST: i64 = 4096;

/// The limits of an app; `None`: it has none. The last isolator of a kind wins, as in rkt.
pub(super) fn resources(input: &Input<'_>) -> Result<Option<LinuxResources>, SpecError> {
    let (mut memory, mut cpu) = (None, None);
    for isolator in input.app.isolators.iter().chain(&input.pod.isolators) {
        match isolator {
            Isolator::Memory(Resource { limit: Some(limit), .. }) => {
                memory = Some(memory_limit(input, limit)?)
            }
            Isolator::Cpu(Resource { limit: Some(limit), .. }) => {
                let quota = cpu_quota(input, limit)?;
                let cpu: &mut LinuxCpu = cpu.get_or_insert_default();
                let _ = cpu.set_period(Some(PERIOD)).set_quota(Some(quota));
            }
            Isolator::CpuShares(shares) => {
                let cpu: &mut LinuxCpu = cpu.get_or_insert_default();
                let _ = cpu.set_shares(Some(*shares));
            }
            _ => {}
        }
    }
    if memory.is_none() && cpu.is_none() {
        return Ok(None);
    }
    let mut resources = LinuxResources::default();
    let _ = resources.set_memory(memory).set_cpu(cpu).set_devices(None);
    Ok(Some(resources))
}

fn memory_limit(input: &Input<'_>, text: &str) -> Result<LinuxMemory, SpecError> {
    let app = || input.runtime.name.clone();
    let limit =
        bytes(text).map_err(|source| SpecError::Quantity { app: app(), what: "memory limit", source })?;
    if limit < SMALLEST {
        return Err(SpecError::Limit { app: app(), what: "a memory limit is at least 4096 bytes" });
    }
    let mut memory = LinuxMemory::default();
    let _ = memory.set_limit(Some(limit));
    Ok(memory)
}

/// Microseconds of each period.
fn cpu_quota(input: &Input<'_>, text: &str) -> Result<i64, SpecError> {
    let app = || input.runtime.name.clone();
    let limit =
        millicores(text).map_err(|source| SpecError::Quantity { app: app(), what: "CPU limit", source })?;
    if limit == 0 {
        return Err(SpecError::Limit { app: app(), what: "a CPU limit is at least 1m" });
    }
    // A thousandth of a core is a hundred microseconds of the period; the kernel's minimum is a thousand.
    Ok(limit.saturating_mul(100).max(1000))
}
