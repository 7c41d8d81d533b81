//! Virtual machines as nodes: QEMU's command line, and how the guest finds its root.
//!
//! The guest sees this machine's root read-only over 9p, with tmpfs over it; every bound directory is a
//! share of its own. The harness's socket is a virtio port of the guest. `RKT_TEST_ACCEL` names the
//! accelerator in QEMU's words (`kvm`; software emulation otherwise), `RKT_TEST_VM_MEMORY` the memory in MiB.

use std::path::Path;

use anyhow::{Context, Result};

use crate::keeper::Directory;
use crate::kernel::Kernel;
use crate::node::Bind;

/// The name of the agent's virtio port.
const PORT: &str = "org.rktnetes.agent";

/// Options of every 9p mount. `loose` caches as if nobody else wrote, which holds for all but the shares
/// that are bound writable.
const SHARE: &str = "trans=virtio,version=9p2000.L,msize=524288";

/// Prepares a machine's files in `directory` and returns QEMU's command line.
pub(crate) fn prepare(directory: &Directory, binds: &[Bind], helpers: &Path) -> Result<Vec<String>> {
    let kernel = Kernel::fetch().context("no kernel for a virtual machine")?;
    let ramdisk = directory.0.join("initrd");
    kernel.write_ramdisk(&ramdisk, &script(binds, helpers))?;
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let accelerator = setting("RKT_TEST_ACCEL", "tcg,thread=multi,tb-size=512");
    let memory = setting("RKT_TEST_VM_MEMORY", "4096");
    let mut argv: Vec<String> = [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-M",
        "q35",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-nic",
        "none",
        "-serial",
        "stdio",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut add = |option: &str, value: String| argv.extend([option.to_owned(), value]);
    add("-accel", accelerator);
    add("-m", memory);
    add("-kernel", kernel.image().display().to_string());
    add("-initrd", ramdisk.display().to_string());
    add("-append", "console=ttyS0 panic=-1 quiet mitigations=off".to_owned());
    add("-chardev", format!("socket,id=agent,path={}", directory.socket().display()));
    add("-device", "virtio-serial-pci".to_owned());
    add("-device", format!("virtserialport,chardev=agent,name={PORT}"));
    add("-device", "virtio-rng-pci".to_owned());
    add("-virtfs", share(Path::new("/"), "root", false));
    add("-virtfs", share(&kernel.modules(), "modules", false));
    for (n, bind) in binds.iter().enumerate() {
        add("-virtfs", share(&bind.source, &format!("bind{n}"), bind.writable));
    }
    Ok(argv)
}

/// One `-virtfs`. Commas in QEMU's option values are doubled.
fn share(path: &Path, tag: &str, writable: bool) -> String {
    let path = path.to_string_lossy().replace(',', ",,");
    let readonly = if writable { "off" } else { "on" };
    format!("local,path={path},mount_tag={tag},security_model=none,readonly={readonly},multidevs=remap")
}

/// The end of the RAM disk's script: the root, and what is mounted on it before systemd starts.
fn script(binds: &[Bind], helpers: &Path) -> String {
    let mut script = format!(
        "mount -t 9p -o {SHARE},cache=loose,ro root /lower
mount -t tmpfs -o size=80% tmpfs /upper
mkdir -p /upper/u /upper/w
mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w overlay /newroot
mount -t tmpfs -o mode=1777,size=50% tmpfs /newroot/tmp
mount -t tmpfs -o mode=1777,size=50% tmpfs /newroot/var/tmp
mount -t tmpfs -o mode=755,size=50% tmpfs /newroot/var/lib
mkdir -p /newroot/lib/modules
mount -t 9p -o {SHARE},cache=loose,ro modules /newroot/lib/modules
"
    );
    for (n, bind) in binds.iter().enumerate() {
        let place =
            quoted(&Path::new("/newroot").join(bind.target.strip_prefix("/").unwrap_or(&bind.target)));
        let mode = if bind.writable { "cache=none" } else { "cache=loose,ro" };
        script.push_str(&format!("mkdir -p {place}\nmount -t 9p -o {SHARE},{mode} bind{n} {place}\n"));
    }
    let (init, agent) = (quoted(&helpers.join("node-init")), quoted(&helpers.join("node-agent")));
    script.push_str(&format!("exec switch_root /newroot {init} machine {agent} port {PORT}\n"));
    script
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
