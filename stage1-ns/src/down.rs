//! `down`: releases what the end of the processes does not. Namespaces and mounts go with the last process or descriptor;
//! what stays is the control groups of a direct pod with limits.

use pod::PodDir;
use stage1::failure::Failure;
use stage1::limits;

use crate::app::groups;

/// Removes the control groups. Idempotent; tries everything and reports every failure.
pub(crate) fn down(pod: &PodDir) -> Result<(), Failure> {
    let groups =
        groups(pod).map_err(|e| Failure::other(format!("look for the pod's control groups: {e}")))?;
    let failures: Vec<String> = limits::remove(groups.iter().map(AsRef::as_ref))
        .into_iter()
        .map(|error| Failure::from(error).to_string())
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::other(failures.join("; "))) }
}
