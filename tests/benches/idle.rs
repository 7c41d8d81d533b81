//! What a running pod costs: processes of ours and their memory (PSS), per pod that the kubelet started,
//! while the kubelet runs and after it was killed. The aim is nothing: systemd and the app are all there is.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::Kind;
use tests::bench::{in_node, output, say};
use tests::registry::{self, Server};

const PODS: usize = 10;

fn main() -> Result<ExitCode> {
    in_node(Kind::native()?, || registry::storage().map(drop), bench)
}

fn bench() -> Result<()> {
    let (_server, address) = Server::serve(&registry::storage()?)?;
    fs::create_dir("/tmp/manifests").context("cannot make the manifests' directory")?;
    for n in 0..PODS {
        let path = format!("/tmp/manifests/idle-{n}.yaml");
        fs::write(path, manifest(n, &address)).context("cannot write a manifest")?;
    }
    let mut kubelet = start_kubelet()?;
    wait_for_apps()?;
    // Whatever the last start left to do is not the cost of running.
    sleep(Duration::from_secs(2));
    report("while the kubelet runs")?;
    kubelet.kill().context("cannot kill the kubelet")?;
    let _ = kubelet.wait().context("cannot wait for the kubelet")?;
    sleep(Duration::from_secs(1));
    ensure!(apps()? == PODS, "apps died with the kubelet");
    report("after kill -9 of the kubelet")
}

fn start_kubelet() -> Result<Child> {
    let log = fs::File::create("/tmp/kubelet.log").context("cannot make the kubelet's log")?;
    let mut command = Command::new("kubelet");
    let _ = command.args(["--pod-manifest-path=/tmp/manifests", "--container-runtime=rkt"]);
    let _ = command.arg("--root-dir=/var/lib/kubelet");
    let _ = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot run the kubelet")
}

fn manifest(n: usize, registry: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: idle-{n}, namespace: default }}
spec:
  hostNetwork: true
  containers:
  - name: sleeper
    image: {registry}/busybox:1
    command: [sleep, '100000']
"
    )
}

fn wait_for_apps() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while apps()? < PODS {
        let log = || fs::read_to_string("/tmp/kubelet.log").unwrap_or_default();
        ensure!(
            Instant::now() < deadline,
            "only {} of {PODS} pods run; the kubelet says:\n{}",
            apps()?,
            log()
        );
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// How many of the pods' apps run.
fn apps() -> Result<usize> {
    let list =
        ["systemctl", "list-units", "--plain", "--no-legend", "--state=running", "rkt-*-sleeper.service"];
    Ok(output(&list)?.lines().count())
}

/// One of our processes.
struct Process {
    name: String,
    pss: u64,
}

fn report(when: &str) -> Result<()> {
    let ours = ours()?;
    let (kubelet, others): (Vec<&Process>, Vec<&Process>) = ours.iter().partition(|p| p.name == "kubelet");
    let sum = |list: &[&Process]| list.iter().map(|p| p.pss).sum::<u64>();
    say(&format!("\n{when}, {PODS} pods of `sleep`:"))?;
    say(&format!("  kubelet: {} processes, {} KiB PSS", kubelet.len(), sum(&kubelet)))?;
    let pods = PODS as f64;
    let (count, memory) = (others.len() as f64 / pods, sum(&others) as f64 / pods);
    say(&format!("  others of ours, per pod: {count:.1} processes, {memory:.0} KiB PSS"))?;
    others.iter().try_for_each(|p| say(&format!("    {} {} KiB", p.name, p.pss)))
}

/// Every process whose executable is one of ours.
fn ours() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("no /proc")?.flatten() {
        let Ok(exe) = fs::read_link(entry.path().join("exe")) else { continue };
        let name = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ["rkt", "rkt-api", "kubelet"].contains(&name.as_str()) || name.starts_with("stage1-") {
            found.push(Process { name, pss: pss(&entry.path()) });
        }
    }
    Ok(found)
}

/// Proportional set size in KiB; 0 of a process that just ended.
fn pss(process: &Path) -> u64 {
    let rollup = fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}
