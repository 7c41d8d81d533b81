//! The app's tree: the root, and everything mounted in it.
//!
//! An app of the host's users mounts it all itself. For one in a user namespace the process that makes it mounts the root
//! and opens the volumes before ([`stage`]), which takes the host's root; the app takes them and mounts the rest.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Mount, Process, Spec};
use pod::bundle::ImageRef;
use stage1::devices::{self, DeviceAccess};
use stage1::failure::Failure;
use stage1::mounts::{Circumstances, Mounted, Planned};
use stage1::rootfs::{Root, RootParts};
use stage1::staging::{self, Staging};
use stage1::sysctls::{self, Scope};
use stage1::user_namespace::PodUsers;
use stage1::{masks, namespaces};

use super::Start;
use super::confine::Plan;

/// Mounts the root and opens the volumes for an app in the pod's user namespace, in a mount namespace that the calling
/// process moves into. They are then below its working directory.
pub(super) fn stage<'a>(
    start: &Start<'_>,
    config: &'a Spec,
    image: &ImageRef,
    users: &PodUsers,
) -> Result<Planned<'a>, Failure> {
    namespaces::unshare_mount_for_staging()?;
    // A node of the image is no device, whatever else is allowed: the host's devices are not the pod's.
    let circumstances = Circumstances { devices: DeviceAccess::Closed, users: Some(users.as_fd()) };
    let bundle = bundle(start);
    let mut planned = Planned::of(list(config), &bundle, circumstances)?;
    namespaces::cut_off_mounts()?;
    let mut staging = Staging::mount(&bundle.join("rootfs"))?;
    let _ = mount_root(start, image, &bundle, &staging.root(), circumstances)?;
    planned.stage(&mut staging)?;
    staging.enter()?;
    Ok(planned)
}

/// Mounts the root and everything in it, in the app's own mount namespace.
pub(super) fn build(plan: &mut Plan<'_>, process: &Process) -> Result<Root, Failure> {
    plan.own.unshare_mount()?;
    let linux = plan.config.linux().as_ref();
    let (planned, root) = match plan.staged.take() {
        Some(mut planned) => {
            planned.take_staged()?;
            (planned, staging::take_root()?)
        }
        None => {
            let devices = DeviceAccess::of(linux.and_then(|l| l.resources().as_ref()));
            let (circumstances, bundle) = (Circumstances { devices, users: None }, bundle(plan.start));
            let planned = Planned::of(list(plan.config), &bundle, circumstances)?;
            namespaces::cut_off_mounts()?;
            let target = bundle.join("rootfs");
            (planned, mount_root(plan.start, plan.image, &bundle, &target, circumstances)?)
        }
    };
    let mounted = planned.mount(&root)?;
    set_sysctls(plan, linux, &mounted)?;
    let extra = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
    devices::make_all(&root, &mounted.dev, extra, console(process))?;
    let paths = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let (masked, read_only) =
        (linux.and_then(|l| l.masked_paths().as_ref()), linux.and_then(|l| l.readonly_paths().as_ref()));
    masks::apply(&root, &paths(masked), &paths(read_only))?;
    if plan.config.root().as_ref().is_some_and(|r| r.readonly() == Some(true)) {
        root.make_read_only()?;
    }
    Ok(root)
}

fn mount_root(
    start: &Start<'_>,
    image: &ImageRef,
    bundle: &Path,
    target: &Path,
    circumstances: Circumstances<'_>,
) -> Result<Root, Failure> {
    let attempt = bundle.join("attempts").join(start.attempt.number().to_string());
    Ok(Root::mount(&RootParts {
        layers: &image.layers,
        attempt: &attempt,
        target,
        devices: circumstances.devices,
        users: circumstances.users,
    })?)
}

fn bundle(start: &Start<'_>) -> PathBuf {
    start.pod.path().join("apps").join(start.app.name().as_str())
}

fn list(config: &Spec) -> &[Mount] {
    config.mounts().as_deref().unwrap_or_default()
}

fn set_sysctls(plan: &Plan<'_>, linux: Option<&Linux>, mounted: &Mounted) -> Result<(), Failure> {
    use pod::sandbox::Kind;
    let Some(settings) = linux.and_then(|l| l.sysctl().as_ref()) else { return Ok(()) };
    let has = |kind| plan.start.sandbox.as_ref().is_some_and(|s| s.namespaces.contains_key(&kind));
    let scope = Scope { net: has(Kind::Net), ipc: has(Kind::Ipc) };
    Ok(sysctls::apply(mounted.proc.as_ref(), Some(settings), scope)?)
}

/// The launcher's terminal, when the app shall have it.
fn console(process: &Process) -> Option<BorrowedFd<'static>> {
    let stdin = rustix::stdio::stdin();
    (process.terminal() == Some(true) && rustix::termios::isatty(stdin)).then_some(stdin)
}
