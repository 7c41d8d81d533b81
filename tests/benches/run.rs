//! `rkt run` of `true` in a cached busybox without a network, against `crun run` of an unpacked bundle and
//! `podman run --rm`. All of them make mount, PID, IPC, UTS and network namespaces; all storage is tmpfs.
//! Nobody makes control groups: crun refuses a hybrid whose v2 side has any controller, and on pure v2 its
//! device filter needs CAP_SYS_RESOURCE, which a machine in a container may lack; `rkt run` stays in its
//! caller's group by design. That favours the peers, if anybody.
//!
//! crun removes its container before it ends and so does podman; rkt keeps the pod for `rkt gc`, whose
//! time per pod is printed too.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests::Kind;
use tests::bench::{Contender, contest, in_node, output, say};
use tests::fixtures::Fixture;
use tests::registry::{self, Server};

const ROUNDS: u32 = 40;

fn main() -> Result<ExitCode> {
    in_node(Kind::Unified, || registry::storage().map(drop), bench)
}

/// podman with all its storage in tmpfs.
const PODMAN: [&str; 4] =
    ["podman", "--root=/tmp/podman", "--runroot=/tmp/podman-run", "--cgroup-manager=cgroupfs"];

const CRUN: [&str; 5] = ["crun", "--cgroup-manager=disabled", "run", "--bundle=/tmp/bundle", "true"];

fn bench() -> Result<()> {
    let (server, address) = Server::serve(&registry::storage()?)?;
    let image = format!("{address}/busybox:1");
    let rkt = |program| ["rkt", "--dir=/tmp/rkt", "run", "--net=none", &image, "--exec", program];
    let podman = ["run", "--rm", "--cgroups=disabled", "--network=none", "--pull=never", &image, "/bin/true"];
    let podman = [&PODMAN[..], &podman].concat();
    let _ = output(&["rkt", "--dir=/tmp/rkt", "fetch", &image])?;
    let _ = output(&[&PODMAN[..], &["pull", "--quiet", "--tls-verify=false", &image]].concat())?;
    drop(server);
    bundle()?;
    say(&output(&["bash", "-c", "rkt version | head -1; crun --version | head -1; podman --version"])?)?;
    ensure!(output(&rkt("/bin/false")).is_err(), "rkt does not even run the program");
    let contenders = vec![
        Contender::new("crun run", &CRUN)?,
        Contender::new("rkt run", &rkt("/bin/true"))?,
        Contender::new("podman run --rm", &podman)?,
    ];
    let medians = contest("true in a cached busybox, no network", ROUNDS, contenders)?;
    if let [crun, rkt, podman] = medians.as_slice() {
        say(&format!("  rkt takes {:.2} times as long as crun (aim: at most 2)", rkt / crun))?;
        say(&format!("  podman takes {:.2} times as long as rkt (aim: at least 5)", podman / rkt))?;
    }
    let begin = Instant::now();
    let _ = output(&["rkt", "--dir=/tmp/rkt", "gc", "--grace-period=0s"])?;
    let each = begin.elapsed().as_secs_f64() * 1e3 / f64::from(ROUNDS + 2);
    say(&format!("  rkt gc of these pods: {each:.1} ms each"))
}

/// busybox unpacked by umoci, with a configuration that runs `true` on no terminal.
fn bundle() -> Result<()> {
    let layout = format!("{}:1", Fixture::Busybox.layout()?.display());
    let _ = output(&["umoci", "unpack", "--image", &layout, "/tmp/bundle"])?;
    let path = "/tmp/bundle/config.json";
    let text = std::fs::read(path).context("umoci wrote no configuration")?;
    let mut config: serde_json::Value = serde_json::from_slice(&text).context("umoci wrote no JSON")?;
    let process =
        config.get_mut("process").and_then(|p| p.as_object_mut()).context("no process to change")?;
    drop(process.insert("terminal".to_owned(), false.into()));
    drop(process.insert("args".to_owned(), serde_json::json!(["/bin/true"])));
    std::fs::write(path, config.to_string()).context("cannot change the configuration")
}
