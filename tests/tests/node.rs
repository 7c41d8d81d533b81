//! The harness itself: nodes of each kind boot, commands run in them side by side, limits bite, a failure
//! is kept, and nothing is left of a node whose harness was killed.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Kind, Node, Status, artifact};

/// Four commands that each wait for all the others: one after the other they would never end.
fn commands_meet(kind: Kind) {
    let t = Node::shared(kind).test(&format!("commands_meet_{kind:?}"));
    let place = t.scratch();
    scope(|threads| {
        for n in 0..4 {
            let (t, place) = (&t, &place);
            drop(threads.spawn(move || {
                let script =
                    format!("touch {place}/{n}; until [ $(ls {place}/? | wc -l) = 4 ]; do sleep 0.05; done");
                let _ = t.sh(&script).ok();
            }));
        }
    });
}

#[test]
fn hybrid_node_runs_commands_side_by_side() {
    commands_meet(Kind::Hybrid);
}

#[test]
fn unified_node_runs_commands_side_by_side() {
    commands_meet(Kind::Unified);
}

#[test]
fn machine_runs_commands_side_by_side() {
    commands_meet(Kind::Vm);
}

#[test]
fn machine_has_every_controller_on_v2() {
    let t = Node::shared(Kind::Vm).test("machine_has_every_controller");
    let controllers = t.run(&["cat", "/sys/fs/cgroup/cgroup.controllers"]);
    for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
        assert!(controllers.ok().split(' ').any(|c| c == controller), "{controllers}");
    }
    assert_eq!(t.run(&["stat", "-fc", "%T", "/sys/fs/cgroup"]).ok(), "cgroup2fs");
    let limited = t.run(&[
        "systemd-run",
        "--wait",
        "-pMemoryMax=20M",
        "-pMemorySwapMax=0",
        "sh",
        "-c",
        "tail /dev/zero",
    ]);
    assert!(!limited.success(), "twenty megabytes held everything: {limited}");
}

#[test]
fn machines_read_the_same_registry() {
    let t = Node::shared(Kind::Vm).test("machines_read_the_same_registry");
    let registry = Registry::start(t.node()).unwrap();
    let source = format!("docker://{}", registry.image(Fixture::Busybox));
    let _ = t.run(&["skopeo", "inspect", "--raw", "--tls-verify=false", &source]).ok();
}

#[test]
fn limits_bite_in_a_hybrid_node() {
    let t = Node::shared(Kind::Hybrid).test("limits_bite");
    // busybox's tail keeps the one endless line in memory.
    let run =
        |limit: &str| t.run(&["systemd-run", "--wait", "--pipe", limit, "busybox", "tail", "/dev/zero"]);
    let killed = run("-pMemoryMax=20M");
    assert!(!killed.success() && killed.took < Duration::from_secs(60), "{killed}");
    let forks = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait";
    let refused = t.run(&["systemd-run", "--wait", "--pipe", "-pTasksMax=4", "bash", "-c", forks]);
    assert!(refused.stderr.contains("fork"), "{refused}");
}

#[test]
fn nodes_have_their_own_names_network_and_identity() {
    let t = Node::shared(Kind::Hybrid).test("own_identity");
    let other = Node::boot(Kind::Hybrid).unwrap();
    let id = |node: &Node| String::from_utf8(node.read_file("/etc/machine-id").unwrap()).unwrap();
    assert_ne!(id(t.node()), id(&other));
    assert_ne!(Some(id(&other)), fs::read_to_string("/etc/machine-id").ok());
    assert!(t.run(&["cat", "/proc/net/dev"]).ok().contains("lo:"));
    assert_eq!(t.run(&["ls", "/sys/class/net"]).ok(), "lo");
    let _ = t.run(&["busybox", "ping", "-c1", "127.0.0.1"]).ok();
    let list = ["systemctl", "list-units", "--plain", "--no-legend", "--type=service", "--state=running"];
    let running = other.run(&list).unwrap();
    let services: Vec<_> = running.ok().lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(services, ["dbus.service", "node-agent.service", "systemd-journald.service"]);
}

#[test]
fn files_and_streams_arrive_unharmed() {
    let t = Node::shared(Kind::Hybrid).test("files_and_streams");
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let path = format!("{}/deep/er/file", t.scratch());
    t.write_file(&path, &bytes);
    assert_eq!(t.read_file(&path), bytes);
    let echoed = t.command(&["cat"]).stdin(&bytes).run().unwrap();
    assert_eq!(echoed.bytes, bytes);
    let out = t.command(&["sh", "-c", "echo $GREETING; pwd; echo oops >&2; exit 7"]);
    let out = out.env("GREETING", "a b").cwd("/usr").run().unwrap();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str(), out.code()), ("a b\n/usr\n", "oops\n", Some(7)));
    let missing = t.command(&["/no/such/program"]).run().unwrap_err();
    assert!(format!("{missing:#}").contains("/no/such/program"));
}

#[test]
fn slow_commands_are_killed_with_their_children() {
    let t = Node::shared(Kind::Hybrid).test("slow_commands");
    let slow = t.command(&["sh", "-c", "echo begun; sleep 1234 & wait"]).timeout(Duration::from_millis(300));
    let error = slow.run().unwrap_err().to_string();
    assert!(error.contains("did not end") && error.contains("begun"), "{error}");
    let gone = (0..50).any(|_| {
        sleep(Duration::from_millis(20));
        !t.run(&["pgrep", "-f", "sleep 1234"]).success()
    });
    assert!(gone, "a child of the killed command lives");
    let mut child = t.node().spawn(&["sh", "-c", "echo ready; exec cat"]).unwrap();
    child.wait_for("ready", Duration::from_secs(10)).unwrap();
    assert_eq!(child.kill().unwrap().status, Status::Signaled(9));
}

#[test]
fn commands_can_have_a_terminal() {
    let t = Node::shared(Kind::Hybrid).test("terminal");
    let out = t.command(&["sh", "-c", "tty; stty size"]).terminal(33, 99).run().unwrap();
    assert_eq!(out.ok(), "/dev/pts/0\r\n33 99");
}

#[test]
fn failed_tests_leave_commands_journal_and_units() {
    let node = Node::shared(Kind::Hybrid);
    let failure = catch_unwind(AssertUnwindSafe(|| {
        let t = node.test("failure_is_kept");
        let _ =
            t.run(&["systemd-run", "--wait", "--unit=rkt-doomed", "sh", "-c", "echo doomed words; exit 9"]);
        assert_eq!(t.run(&["echo", "last words"]).ok(), "other words");
    }));
    assert!(failure.is_err());
    let _ = node.run(&["systemctl", "reset-failed"]).unwrap();
    let kept = artifact::target().unwrap().join("test-failures/failure_is_kept");
    let read = |name: &str| fs::read_to_string(kept.join(name)).unwrap();
    assert!(read("commands.log").contains("$ echo 'last words'"));
    assert!(read("commands.log").contains("stdout| last words"));
    assert!(read("journal.log").contains("doomed words"));
    assert!(read("units.log").contains("rkt-doomed.service"));
    fs::remove_dir_all(kept).unwrap();
}

/// What a node that was booted by process `pid` has on the machine outside: its directory, control
/// groups, mounts and processes.
fn traces(pid: u32) -> Vec<String> {
    let (name, place) = (format!("rktnetes-node-{pid}-"), std::env::temp_dir());
    let script = format!(
        "ls -d {}/{name}*; find /sys/fs/cgroup -name '{name}*'; pgrep -af {name}; grep {name} /proc/mounts",
        place.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output();
    let lines = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    // pgrep(1) sees the shell that runs it.
    lines.lines().filter(|l| !l.contains("pgrep")).map(str::to_owned).collect()
}

/// Boots a node from a process of its own and returns that once a command runs in the node.
fn boot_elsewhere() -> Result<std::process::Child> {
    let ready = tempfile::tempdir()?;
    let bind = format!("{}:/ready", ready.path().display());
    let mut command = Command::new(artifact::binary("node")?);
    let _ = command.args(["--bind", &bind, "--", "sh", "-c", "touch /ready/now; sleep 1000"]);
    let mut harness = command.stdin(Stdio::null()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready.path().join("now").exists() {
        ensure!(Instant::now() < deadline && harness.try_wait()?.is_none(), "the node did not boot");
        sleep(Duration::from_millis(20));
    }
    Ok(harness)
}

#[test]
fn killed_harness_leaves_nothing() {
    let mut harness = boot_elsewhere().unwrap();
    assert!(traces(harness.id()).len() > 3, "{:?}", traces(harness.id()));
    harness.kill().unwrap();
    let _ = harness.wait().unwrap();
    let gone = (0..200).any(|_| {
        sleep(Duration::from_millis(50));
        traces(harness.id()).is_empty()
    });
    assert!(gone, "still there: {:#?}", traces(harness.id()));
}

#[test]
fn next_boot_removes_what_a_killed_keeper_left() {
    let mut harness = boot_elsewhere().unwrap();
    let keeper = format!("keep .*/rktnetes-node-{}-", harness.id());
    assert!(Command::new("pkill").args(["-9", "-f", &keeper]).status().unwrap().success());
    harness.kill().unwrap();
    let _ = harness.wait().unwrap();
    let processes = || traces(harness.id()).into_iter().filter(|t| !t.starts_with('/')).count();
    assert!((0..200).any(|_| {
        sleep(Duration::from_millis(50));
        processes() == 0
    }));
    assert!(!traces(harness.id()).is_empty(), "the killed keeper cleaned up?");
    drop(Node::boot(Kind::Hybrid).unwrap());
    assert!(traces(harness.id()).is_empty(), "still there: {:#?}", traces(harness.id()));
}

#[test]
fn node_that_does_not_boot_says_why() {
    let mut node = Command::new(artifact::binary("node").unwrap());
    let node = node.args(["--kind", "vm", "--", "true"]).env("RKT_TEST_ACCEL", "abacus").output().unwrap();
    let message = String::from_utf8_lossy(&node.stderr);
    assert_eq!(node.status.code(), Some(70));
    assert!(message.contains("did not boot") && message.contains("invalid accelerator abacus"), "{message}");
}

#[test]
fn command_line_passes_streams_and_status() {
    let script = "echo 'target/debug/node'; exec cat";
    let mut node = Command::new(artifact::binary("node").unwrap());
    let _ = node.args(["--", "sh", "-c", "tr a-z A-Z; echo oops >&2; exit 42"]);
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    node.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let out = node.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), script.to_uppercase());
    assert_eq!((String::from_utf8_lossy(&out.stderr).as_ref(), out.status.code()), ("oops\n", Some(42)));
}

#[test]
fn host_with_systemd_can_be_the_node() {
    // A node plays the host.
    let t = Node::shared(Kind::Hybrid).test("host_can_be_the_node");
    let nested = t.command(&["node", "--kind", "vm", "--", "cat", "/etc/machine-id"]);
    let nested = nested.env("RKT_TEST_NODE", "host").run().unwrap();
    assert_eq!(nested.ok().as_bytes(), t.read_file("/etc/machine-id").trim_ascii());
}

#[test]
fn node_can_have_the_network_of_the_machine() {
    let mut node = Command::new(artifact::binary("node").unwrap());
    let node = node.args(["--network", "machine", "--", "ls", "/sys/class/net"]).output().unwrap();
    let ours = Command::new("ls").arg("/sys/class/net").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&node.stdout), String::from_utf8_lossy(&ours.stdout));
}

#[test]
fn pods_can_be_kept_where_overlays_need_tmpfs() {
    let t = Node::shared(Kind::Hybrid).test("overlays_need_tmpfs");
    for place in ["/tmp", "/var/tmp", "/var/lib", "/run"] {
        assert_eq!(t.run(&["stat", "-fc", "%T", place]).ok(), "tmpfs", "{place}");
    }
}
