//! The systemd of a node: what it finds configured, and how it is started.
//!
//! It boots to the agent and to nothing that belongs to this machine: services that packages enabled here
//! stay out, and so does everything that would change the kernel under all of us.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::root::AGENT;

/// Units that change the kernel for everybody, talk to hardware, or only slow a boot down.
const MASKED: [&str; 29] = [
    "systemd-sysctl.service",
    "systemd-binfmt.service",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-logind.service",
    "systemd-user-sessions.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
    "systemd-journal-flush.service",
    "systemd-journald-audit.socket",
    "systemd-initctl.socket",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "e2scrub_reap.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "getty.target",
    "console-getty.service",
    "remote-fs.target",
    "timers.target",
];

/// What makes systemd boot to the agent and to nothing that belongs to this machine.
pub(crate) fn configure(root: &Path, agent: &[String]) -> Result<()> {
    let etc = root.join("etc/systemd/system");
    for entry in fs::read_dir(&etc).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wants") || name.ends_with(".requires") {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot clear {name}"))?;
        }
    }
    let units = root.join("run/systemd/system");
    fs::create_dir_all(&units).context("cannot make the unit directory")?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit)).with_context(|| format!("cannot mask {unit}"))?;
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot draw a machine id")?;
    let files: [(&str, String); 6] = [
        ("run/systemd/system/node.target", NODE_TARGET.to_owned()),
        ("run/systemd/system/node-agent.service", agent_unit(agent)),
        ("run/systemd/journald.conf.d/node.conf", JOURNALD.to_owned()),
        ("etc/machine-id", id.replace('-', "")),
        ("etc/fstab", String::new()),
        ("var/lib/dbus/machine-id", id.replace('-', "")),
    ];
    for (name, text) in files {
        let path = root.join(name);
        let parent = path.parent().unwrap_or(root);
        fs::create_dir_all(parent).with_context(|| format!("cannot make the directory of {name}"))?;
        fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

const NODE_TARGET: &str = "[Unit]
Description=A throwaway node that takes commands
Requires=multi-user.target dbus.service node-agent.service
After=multi-user.target dbus.service
";

/// Volatile, because nothing of a node lasts; the machine's kernel log and console are not the node's.
const JOURNALD: &str = "[Journal]
Storage=volatile
ReadKMsg=no
ForwardToConsole=no
ForwardToWall=no
";

/// The agent runs what tests run: it has no limits, owns its control group, and an app that runs out of
/// memory below it does not take it along.
fn agent_unit(argv: &[String]) -> String {
    let command: Vec<String> = argv.iter().map(|a| format!("\"{}\"", a.replace('%', "%%"))).collect();
    format!(
        "[Unit]
Description=Agent of the test harness
After=multi-user.target dbus.service
[Service]
ExecStart={}
Delegate=yes
TasksMax=infinity
OOMPolicy=continue
",
        command.join(" ")
    )
}

/// Becomes systemd.
pub(crate) fn start() -> Result<ExitCode> {
    let mut systemd = Command::new("/lib/systemd/systemd");
    let _ = systemd.args(["--unit=node.target", "--log-target=journal", "--show-status=no"]).env_clear();
    let _ = systemd.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
    if Path::new(AGENT).exists() {
        let _ = systemd.env("container", "rktnetes-node");
    }
    Err(systemd.exec()).context("cannot run systemd")
}
