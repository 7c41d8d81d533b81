//! What is mounted in an app's root: the kernel's file systems, the pod's files in /etc, volumes. In this order, so that
//! a volume wins over what we put there.

use std::path::Path;

use oci_spec::runtime::Mount;
use pod::manifest::{Volume, VolumeKind};

use super::Input;

/// Files that the launcher writes into the pod's `etc/`, in place of the image's.
const ETC: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

pub(super) fn mounts(input: &Input<'_>) -> Vec<Mount> {
    kernel().into_iter().chain(etc(input)).chain(volumes(input)).collect()
}

fn kernel() -> Vec<Mount> {
    let table: [(&str, &str, &str, &[&str]); 7] = [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    table.map(|(path, typ, source, options)| mount(path, typ, Path::new(source), options)).to_vec()
}

/// Read-only: one app must not speak for the others, nor fill the disk through them.
fn etc<'a>(input: &'a Input<'_>) -> impl Iterator<Item = Mount> + 'a {
    ETC.iter().filter(|name| !input.runtime.mounts.iter().any(|m| m.path == format!("/etc/{name}"))).map(
        |name| {
            let source = input.run_dir.join("etc").join(name);
            let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
            let id_map = input.users.map(|_| "idmap");
            let options: Vec<_> = options.into_iter().chain(id_map).collect();
            mount(&format!("/etc/{name}"), "bind", &source, &options)
        },
    )
}

fn volumes<'a>(input: &'a Input<'_>) -> impl Iterator<Item = Mount> + 'a {
    input.runtime.mounts.iter().filter_map(|m| {
        let of_pod = || input.pod.volumes.iter().find(|v| v.name == m.volume);
        let volume = m.app_volume.as_ref().or_else(of_pod)?;
        let point = input.app.mount_points.iter().find(|p| p.path == m.path);
        let read_only = m.read_only || volume.read_only.unwrap_or(point.is_some_and(|p| p.read_only));
        Some(bind(input, volume, &m.path, read_only))
    })
}

fn bind(input: &Input<'_>, volume: &Volume, path: &str, read_only: bool) -> Mount {
    let recursive = volume.recursive.unwrap_or(true);
    let mut options = vec![if recursive { "rbind" } else { "bind" }, "rprivate"];
    match (read_only, recursive) {
        (true, true) => options.push("rro"),
        (true, false) => options.push("ro"),
        (false, _) => options.push("rw"),
    }
    let source = match &volume.kind {
        VolumeKind::Host { source } => {
            // The files are the same users' in the pod as on the host. (Empty volumes are made for the pod's users.)
            options.extend(input.users.map(|_| if recursive { "ridmap" } else { "idmap" }));
            source.into()
        }
        VolumeKind::Empty { .. } => {
            options.extend(["nosuid", "nodev"]);
            input.run_dir.join("volumes").join(volume.name.as_str())
        }
    };
    mount(path, "bind", &source, &options)
}

fn mount(path: &str, typ: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    let _ = mount
        .set_destination(path.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}
