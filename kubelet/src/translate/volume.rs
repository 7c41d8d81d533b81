//! Volumes and mounts, and whether a host path is what the manifest says.

use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, PodSpec};
use pod::manifest::{Mount, Volume, VolumeKind};

use super::Refusal;
use super::names::volume_names;

/// The volumes of a pod. Those of other kinds were refused by [`super::unsupported`].
pub(super) fn volumes(spec: &PodSpec) -> Vec<Volume> {
    let group = spec.security_context.as_ref().and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok());
    let volume = |(source, name): (&k8s_openapi::api::core::v1::Volume, _)| {
        let kind = match (&source.host_path, &source.empty_dir) {
            (Some(host), _) => VolumeKind::Host { source: host.path.clone() },
            (None, Some(_)) => {
                let mode = if group.is_some() { "2777" } else { "0777" };
                VolumeKind::Empty { mode: Some(mode.to_owned()), uid: None, gid: group }
            }
            (None, None) => return None,
        };
        Some(Volume { name, kind, read_only: None, recursive: None })
    };
    spec.volumes.iter().flatten().zip(volume_names(spec)).filter_map(volume).collect()
}

/// The mounts of a container.
pub(super) fn mounts(spec: &PodSpec, container: &Container) -> Vec<Mount> {
    let names: Vec<_> =
        spec.volumes.iter().flatten().map(|v| v.name.as_str()).zip(volume_names(spec)).collect();
    let mount = |m: &k8s_openapi::api::core::v1::VolumeMount| {
        let (_, volume) = names.iter().find(|(name, _)| *name == m.name)?;
        Some(Mount {
            volume: volume.clone(),
            path: m.mount_path.clone(),
            app_volume: None,
            read_only: m.read_only.unwrap_or(false),
        })
    };
    container.volume_mounts.iter().flatten().filter_map(mount).collect()
}

/// Checks that each host path is there and is what its `type` asks for; makes what is to be made.
pub(crate) fn check_host_paths(spec: &PodSpec) -> Result<(), Refusal> {
    for volume in spec.volumes.iter().flatten() {
        if let Some(host) = &volume.host_path {
            check_host_path(host).map_err(|why| Refusal {
                container: None,
                reason: "FailedMount",
                message: format!("volume {:?}: host path {:?} {why}", volume.name, host.path),
            })?;
        }
    }
    Ok(())
}

fn check_host_path(host: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&host.path);
    let wanted = host.type_.as_deref().unwrap_or_default();
    match wanted {
        "DirectoryOrCreate" if !path.exists() => {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(|e| format!("cannot be made: {e}"))?;
        }
        "FileOrCreate" if !path.exists() => {
            // As Kubernetes: the directory must be there.
            let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            drop(made.map_err(|e| format!("cannot be made: {e}"))?);
        }
        _ => {}
    }
    let kind = match std::fs::metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err("does not exist".to_owned()),
        Err(e) => return Err(format!("cannot be looked at: {e}")),
    };
    let (fits, noun) = match wanted {
        "Directory" | "DirectoryOrCreate" => (kind.is_dir(), "a directory"),
        "File" | "FileOrCreate" => (kind.is_file(), "a file"),
        "Socket" => (kind.is_socket(), "a socket"),
        "CharDevice" => (kind.is_char_device(), "a character device"),
        "BlockDevice" => (kind.is_block_device(), "a block device"),
        _ => (true, ""),
    };
    if fits { Ok(()) } else { Err(format!("is not {noun}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path, kind: &str) -> Result<(), String> {
        check_host_path(&HostPathVolumeSource {
            path: path.display().to_string(),
            type_: Some(kind.to_owned()),
        })
    }

    #[test]
    fn types_of_host_paths() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, file, socket) = (tmp.path().to_owned(), tmp.path().join("f"), tmp.path().join("s"));
        assert_eq!(check(&file, "").unwrap_err(), "does not exist");
        assert_eq!(check(&file, "File").unwrap_err(), "does not exist");
        assert_eq!(check(&file, "FileOrCreate"), Ok(()));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, kind, fits) in [
            (&file, "File", true),
            (&file, "Directory", false),
            (&dir, "Directory", true),
            (&dir, "File", false),
            (&socket, "Socket", true),
            (&file, "Socket", false),
            (&file, "CharDevice", false),
            (&file, "BlockDevice", false),
            (&file, "DirectoryOrCreate", false),
        ] {
            assert_eq!(check(path, kind).is_ok(), fits, "{} {kind}", path.display());
        }
        assert_eq!(check(Path::new("/dev/null"), "CharDevice"), Ok(()));
        let deep = tmp.path().join("a/b");
        assert_eq!(check(&deep, "DirectoryOrCreate"), Ok(()));
        assert!(deep.is_dir());
        assert!(check(&tmp.path().join("x/y"), "FileOrCreate").is_err(), "the directory must be there");
    }
}
