//! Isolation by `stage1-ns`, through `rkt` and through units, on every layout of control groups: what an app sees of the
//! host, what it may do, and what the host sees of it. How hostile images fare is tested beside the stage1 itself.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::time::Duration;

use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Child, Kind, Node, Output, Test};

const SOON: Duration = Duration::from_secs(60);
const FOREVER: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// The lines of /proc/<pid>/status that say what a process may do, and its groups.
const PRIVILEGES: &str =
    "grep -E '^(Cap|Seccomp:|NoNewPrivs|Uid|Gid|Groups)' /proc/$P/status; cat /proc/$P/cgroup";

fn image(kind: Kind) -> String {
    Registry::shared(kind).image(Fixture::Busybox)
}

fn run(t: &Test<'_>, kind: Kind, flags: &[&str], script: &str) -> Output {
    let image = image(kind);
    t.rkt(&[&["run"], flags, &[&image, "--name=app", "--exec=/bin/sh", "--", "-c", script]].concat())
}

/// Starts a pod that stays, and returns its UUID.
fn spawn(t: &Test<'_>, kind: Kind, flags: &[&str]) -> (Child, String) {
    let (image, file) = (image(kind), format!("{}/uuid", t.scratch()));
    let (save, script) = (format!("--uuid-file-save={file}"), format!("echo up; {FOREVER}"));
    let arguments =
        [&["run", &save], flags, &[&image, "--name=app", "--exec=/bin/sh", "--", "-c", &script]].concat();
    let mut child = t.rkt_command(&arguments).spawn().unwrap();
    child.wait_for("up", SOON).unwrap();
    (child, String::from_utf8(t.read_file(&file)).unwrap())
}

fn an_app_is_confined(kind: Kind) {
    let t = Node::shared(kind).test("an_app_is_confined");
    let out =
        run(&t, kind, &[], &format!("P=self; {PRIVILEGES}; echo pid $$; hostname; ls /proc/self/fd | wc -l"));
    let out = out.ok();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapInh:\t0000000000000000", "pid 1", "\n4"] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
    // appc's default set is Docker's: fourteen capabilities.
    let effective = out.lines().find_map(|l| l.strip_prefix("CapEff:\t")).unwrap();
    assert_eq!(u64::from_str_radix(effective, 16).unwrap().count_ones(), 14, "{out}");
    // Every control group is a root of its own.
    assert!(out.lines().filter(|l| l.contains(":/")).all(|l| l.ends_with(":/")), "{out}");

    let script = "for f in /proc/kcore /proc/keys /proc/timer_list; do [ ! -e $f ] || head -c 1 $f; done; ls -A /sys/firmware; \
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/x /sys/fs/cgroup/x; do (echo x > $f) 2>/dev/null && echo $f; done; \
        mount -t tmpfs x /mnt 2>/dev/null && echo mounted; mknod /d c 1 3 2>/dev/null && (echo x > /d) 2>/dev/null && echo device; true";
    assert_eq!(run(&t, kind, &[], script).ok(), "");
}

fn nothing_of_a_pod_shows_in_the_hosts_mounts(kind: Kind) {
    let t = Node::shared(kind).test("host_mounts");
    // Unpacking the image is not what is looked at.
    let _ = t.rkt(&["fetch", &image(kind)]).ok();
    let table = || String::from_utf8(t.read_file("/proc/1/mountinfo")).unwrap();
    let before = table();
    let (child, uuid) = spawn(&t, kind, &[]);
    let during = table();
    assert!(!during.contains(&uuid) && !during.contains(&t.data()), "{during}");
    assert_eq!(during.lines().count(), before.lines().count());
    let _ = t.rkt(&["stop", "--force", &uuid]).ok();
    let _ = child.wait(SOON).unwrap();
}

fn a_command_that_enters_is_confined_like_the_app(kind: Kind) {
    let t = Node::shared(kind).test("enter_is_confined");
    let (child, uuid) = spawn(&t, kind, &[]);
    let script = format!("P=1; {PRIVILEGES}; echo ---; P=self; {PRIVILEGES}");
    let out = t.rkt(&["enter", &uuid, "/bin/sh", "-c", &script]);
    let (app, own) = out.ok().split_once("---\n").unwrap();
    assert_eq!(app.trim(), own.trim());
    assert_eq!(t.rkt(&["enter", &uuid, "/bin/sh", "-c", "exit 42"]).code(), Some(42));
    let _ = t.rkt(&["stop", "--force", &uuid]).ok();
    let _ = child.wait(SOON).unwrap();
}

#[test]
fn an_app_is_confined_on_a_hybrid_node() {
    an_app_is_confined(Kind::Hybrid);
}

#[test]
fn an_app_is_confined_on_a_unified_node() {
    an_app_is_confined(Kind::Unified);
}

#[test]
fn the_hosts_mounts_on_a_hybrid_node() {
    nothing_of_a_pod_shows_in_the_hosts_mounts(Kind::Hybrid);
}

#[test]
fn the_hosts_mounts_on_a_unified_node() {
    nothing_of_a_pod_shows_in_the_hosts_mounts(Kind::Unified);
}

#[test]
fn entering_on_a_hybrid_node() {
    a_command_that_enters_is_confined_like_the_app(Kind::Hybrid);
}

#[test]
fn entering_on_a_unified_node() {
    a_command_that_enters_is_confined_like_the_app(Kind::Unified);
}

#[test]
fn limits_of_a_direct_pod_bite_and_their_groups_go() {
    let t = Node::shared(Kind::Hybrid).test("direct_limits");
    let script = "cat /proc/self/cgroup; head -c 200m /dev/zero | tail | wc -c";
    let out = run(&t, Kind::Hybrid, &["--uuid-file-save=/tmp/direct-limits"], script);
    assert_eq!(out.ok().lines().last(), Some("209715200"), "without a limit it fits");
    let image = image(Kind::Hybrid);
    let file = format!("--uuid-file-save={}/uuid", t.scratch());
    let limited = t.rkt(&[
        "run",
        &file,
        &image,
        "--name=app",
        "--memory=32M",
        "--exec=/bin/sh",
        "--",
        "-c",
        "exec tail -c 200m /dev/zero",
    ]);
    assert_eq!(limited.code(), Some(128 + 9), "{limited}");
    let uuid = String::from_utf8(t.read_file(&format!("{}/uuid", t.scratch()))).unwrap();
    assert_eq!(t.sh(&format!("find /sys/fs/cgroup -name 'rkt-{uuid}*'")).ok(), "");
}

/// A prepared pod's sandbox as a unit; the app's unit is the caller's.
fn sandbox_unit(t: &Test<'_>, kind: Kind, script: &str) -> (String, String) {
    let image = image(kind);
    let prepared = t.rkt(&["prepare", &image, "--name=app", "--exec=/bin/sh", "--", "-c", script]);
    let uuid = prepared.ok().lines().last().unwrap().to_owned();
    let data = t.data();
    let up = format!(
        "systemd-run --quiet --unit=rkt-{uuid}.service -pType=oneshot -pRemainAfterExit=yes -pNotifyAccess=all \
             -pFileDescriptorStoreMax=16 -- $(command -v rkt) --dir={data} unit up {uuid} --hostname=units"
    );
    let _ = t.sh(&up).ok();
    let app = format!("$(command -v stage1-ns) app {data}/pods/run/{uuid} app");
    (uuid, app)
}

#[test]
fn mounts_of_the_host_arrive_in_a_volume_that_asks_for_them_and_in_no_other() {
    let t = Node::shared(Kind::Hybrid).test("propagation");
    let (data, volume) = (t.data(), format!("{}/volume", t.scratch()));
    let _ = t
        .sh(&format!("mkdir -p {volume}/sub; mount --bind {volume} {volume}; mount --make-shared {volume}"))
        .ok();
    let script =
        format!("echo up; trap 'ls /slave/sub /private/sub; exit 0' TERM; {}", "while :; do sleep 0.1; done");
    let prepared = t.rkt(&[
        "prepare",
        &format!("--volume=slave,kind=host,source={volume}"),
        &format!("--volume=private,kind=host,source={volume}"),
        &image(Kind::Hybrid),
        "--name=app",
        "--mount=volume=slave,target=/slave",
        "--mount=volume=private,target=/private",
        "--exec=/bin/sh",
        "--",
        "-c",
        &script,
    ]);
    let uuid = prepared.ok().lines().last().unwrap().to_owned();
    // What the kubelet writes for mountPropagation: HostToContainer.
    let config = format!("{data}/pods/prepared/{uuid}/apps/app/config.json");
    let edit = format!(
        r#"sed -i -E 's,("destination":"/slave"[^}}]*)"rprivate",\1"rslave",' {config}; grep -c rslave {config}"#
    );
    assert_eq!(t.sh(&edit).ok(), "1");
    let mut child = t.rkt_command(&["run-prepared", &uuid]).spawn().unwrap();
    child.wait_for("up", SOON).unwrap();
    let _ = t.sh(&format!("mount -t tmpfs tmpfs {volume}/sub; touch {volume}/sub/arrived")).ok();
    let _ = t.rkt(&["stop", &uuid]).ok();
    let out = child.wait(SOON).unwrap();
    let _ = t.sh(&format!("umount {volume}/sub; umount {volume}")).ok();
    assert_eq!(out.stdout.trim(), "up\n/private/sub:\n\n/slave/sub:\narrived");
}

#[test]
fn an_app_of_a_unit_logs_as_itself_for_as_long_as_it_lives() {
    let t = Node::shared(Kind::Hybrid).test("unit_logs");
    // journald looks at the process behind a stream again every second: the last lines come after that.
    let script = "echo early; echo complaint >&2; sleep 3; echo late; exit 42";
    let (uuid, app) = sandbox_unit(&t, Kind::Hybrid, script);
    let unit = format!("rkt-{uuid}-app.service");
    let _ = t
        .sh(&format!("systemd-run --quiet --wait --unit={unit} -pType=notify -pNotifyAccess=all -pRemainAfterExit=no \
            -pCollectMode=inactive -pEnvironment=RKT_INTERFACE_VERSION=1 -pLogExtraFields=RKT_APP=app -- {app} || echo $? > {}/status", t.scratch()))
        .ok();
    assert_eq!(String::from_utf8(t.read_file(&format!("{}/status", t.scratch()))).unwrap().trim(), "42");
    let out = t.sh(&format!(
        "journalctl --sync; journalctl -o cat -u {unit} SYSLOG_IDENTIFIER=app _TRANSPORT=stdout"
    ));
    for word in ["early", "complaint", "late"] {
        assert!(out.ok().contains(word), "{out}");
    }
    let errors = t.sh(&format!("journalctl -o cat -p err -u {unit} SYSLOG_IDENTIFIER=app"));
    assert_eq!(errors.ok(), "complaint");
    let extra = t.sh("journalctl -o cat RKT_APP=app");
    assert!(extra.ok().contains("late"), "{extra}");
    let _ = t.run(&["systemctl", "stop", &format!("rkt-{uuid}.service")]).ok();
}

#[test]
fn a_unit_whose_executable_is_missing_says_so() {
    let t = Node::shared(Kind::Hybrid).test("unit_exec");
    let image = image(Kind::Hybrid);
    let prepared = t.rkt(&["prepare", &image, "--name=app", "--exec=/bin/nope"]);
    let uuid = prepared.ok().lines().last().unwrap().to_owned();
    let data = t.data();
    let unit = format!("rkt-{uuid}-app.service");
    let _ = t.sh(&format!(
        "systemd-run --quiet --unit=rkt-{uuid}.service -pType=oneshot -pRemainAfterExit=yes -pNotifyAccess=all \
             -pFileDescriptorStoreMax=16 -- $(command -v rkt) --dir={data} unit up {uuid}
         systemd-run --quiet --unit={unit} -pType=notify -pNotifyAccess=all -pEnvironment=RKT_INTERFACE_VERSION=1 -- \
             $(command -v stage1-ns) app {data}/pods/run/{uuid} app || true"
    ))
    .ok();
    let shown = t.run(&["systemctl", "show", "-P", "ExecMainStatus", &unit]);
    assert_eq!(shown.ok(), "203");
    let error = t.read_file(&format!("{data}/pods/run/{uuid}/apps/app/attempts/1/error"));
    assert!(String::from_utf8(error).unwrap().contains("/bin/nope"));
    let _ = t.run(&["systemctl", "stop", &format!("rkt-{uuid}.service")]).ok();
}

#[test]
fn on_a_machine_of_its_own() {
    // What only a virtual machine has: every controller in the unified hierarchy, and every capability.
    let kind = Kind::Vm;
    let t = Node::shared(kind).test("vm");
    let out = run(&t, kind, &[], &format!("P=self; {PRIVILEGES}; ls /sys/fs/cgroup/cgroup.controllers"));
    assert!(out.ok().contains("Seccomp:\t2") && out.ok().contains("cgroup.controllers"), "{out}");
    let arguments = format!(
        "--dir={} run {} --name=app --memory=32M --exec=/bin/sh -- -c 'exec tail -c 200m /dev/zero'",
        t.data(),
        image(kind)
    );
    let unit = |property: &str| {
        let rkt = format!("systemd-run --quiet --wait --pipe {property} -- $(command -v rkt) {arguments}");
        t.sh(&format!("{rkt} || echo status $?"))
    };
    let refused = unit("");
    assert!(refused.stderr.contains("Delegate=yes") && refused.stdout.contains("status 254"), "{refused}");
    let delegated = unit("-pDelegate=yes");
    assert!(delegated.stdout.contains("status 137"), "{delegated}");
}
