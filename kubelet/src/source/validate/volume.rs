//! Checks of a pod's volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Volume;

use super::{absolute, name, one_of};
use crate::quantity::Quantity;

/// What a host path may have to be.
const HOST_PATH_TYPES: [&str; 8] =
    ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// Checks the volumes and returns their names.
pub(super) fn check<'a>(volumes: &'a [Volume], found: &mut Vec<String>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = format!("spec.volumes[{i}]");
        found.extend(name::label(&format!("{path}.name"), &volume.name));
        if !names.insert(volume.name.as_str()) {
            found.push(format!("{path}.name: {:?} is the name of another volume of this pod", volume.name));
        }
        let only_a_name = Volume { name: volume.name.clone(), ..Volume::default() };
        if *volume == only_a_name {
            found.push(format!("{path}: says nothing about what the volume is (hostPath, emptyDir, …)"));
        }
        if let Some(host) = &volume.host_path {
            found.extend(absolute(&format!("{path}.hostPath.path"), &host.path));
            found.extend(one_of(&format!("{path}.hostPath.type"), host.type_.as_deref(), &HOST_PATH_TYPES));
        }
        let limit = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
        if let Some(Err(e)) = limit.map(|l| l.0.parse::<Quantity>()) {
            found.push(format!("{path}.emptyDir.sizeLimit: {e}"));
        }
    }
    names
}
