//! A pod's volumes: the storage of `empty` ones, and whether what `host` ones name is there.

use std::path::Path;

use pod::manifest::{PodManifest, Volume, VolumeKind};
use pod::users::IdRange;
use pod::{AppName, LockedPod, PodError};

/// A volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("volume {name:?}: cannot use {source_path:?} of the host")]
    Source { name: AppName, source_path: String, source: std::io::Error },
    #[error("volume {name:?}: {mode:?} is not a mode such as 0755")]
    Mode { name: AppName, mode: String },
    #[error("volume {name:?}: cannot give it to {uid}:{gid}")]
    Owner { name: AppName, uid: u32, gid: u32, source: std::io::Error },
    #[error("volume {name:?}: {uid}:{gid} are not among the {count} ids of the pod's user namespace")]
    NotMapped { name: AppName, uid: u32, gid: u32, count: u32 },
    #[error(transparent)]
    Pod(#[from] PodError),
}

/// Makes the storage of an `empty` volume. In a pod with users of its own the owner is one of them.
pub(super) fn make(pod: &LockedPod, volume: &Volume, users: Option<IdRange>) -> Result<(), VolumeError> {
    let VolumeKind::Empty { mode, uid, gid } = &volume.kind else { return Ok(()) };
    let name = || volume.name.clone();
    let mode = mode.as_deref().unwrap_or("0755");
    let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o7777);
    let bits = bits.ok_or_else(|| VolumeError::Mode { name: name(), mode: mode.to_owned() })?;
    let (uid, gid) = on_host((uid.unwrap_or(0), gid.unwrap_or(0)), users).map_err(|count| {
        VolumeError::NotMapped { name: name(), uid: uid.unwrap_or(0), gid: gid.unwrap_or(0), count }
    })?;
    let fd = pod.dir().make_volume(&volume.name, bits)?;
    if (uid, gid) != (0, 0) {
        std::os::unix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(|source| VolumeError::Owner {
            name: name(),
            uid,
            gid,
            source,
        })?;
        // A change of owner may clear set-id bits.
        let _ = pod.dir().make_volume(&volume.name, bits)?;
    }
    Ok(())
}

/// What the host calls a user and a group of the pod. The error is how many the pod has.
fn on_host((uid, gid): (u32, u32), users: Option<IdRange>) -> Result<(u32, u32), u32> {
    let Some(range) = users else { return Ok((uid, gid)) };
    range.host(uid).zip(range.host(gid)).ok_or(range.count)
}

/// A volume of the host must be there now: later the only witness would be an app that does not start.
pub(super) fn check_sources(manifest: &PodManifest) -> Result<(), VolumeError> {
    for volume in &manifest.volumes {
        if let VolumeKind::Host { source: path } = &volume.kind
            && let Err(source) = std::fs::metadata(Path::new(path))
        {
            return Err(VolumeError::Source { name: volume.name.clone(), source_path: path.clone(), source });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_the_pods() {
        let range = IdRange { first: 1 << 17, count: 1 << 16 };
        assert_eq!(on_host((0, 5), None), Ok((0, 5)));
        assert_eq!(on_host((0, 5), Some(range)), Ok((131_072, 131_077)));
        assert_eq!(on_host((0, 65536), Some(range)), Err(65536));
    }
}
