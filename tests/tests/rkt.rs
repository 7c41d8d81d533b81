//! `rkt` from the outside: what its users and their scripts see. Pods are launched directly or by units; what isolates
//! them is the subject of other tests.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::time::Duration;

use serde_json::Value;
use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Child, Kind, Node, Output, Test};

const SOON: Duration = Duration::from_secs(20);

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

fn busybox() -> String {
    Registry::shared(Kind::Hybrid).image(Fixture::Busybox)
}

/// `rkt run busybox --name=app -- -c SCRIPT`; the image's command is a shell.
fn run(t: &Test<'_>, flags: &[&str], script: &str) -> Output {
    let image = busybox();
    t.rkt(&[&["run"], flags, &[&image, "--name=app", "--exec=/bin/sh", "--", "-c", script]].concat())
}

/// Starts a pod that says "up", waits for that, and returns its UUID.
fn spawn(t: &Test<'_>, name: &str, script: &str) -> (Child, String) {
    let (image, file) = (busybox(), format!("{}/uuid-{name}", t.scratch()));
    let save = format!("--uuid-file-save={file}");
    let script = format!("echo up; {script}");
    let mut child = t
        .rkt_command(&[
            "run",
            &save,
            &image,
            &format!("--name={name}"),
            "--exec=/bin/sh",
            "--",
            "-c",
            &script,
        ])
        .spawn()
        .unwrap();
    child.wait_for("up", SOON).unwrap();
    (child, String::from_utf8(t.read_file(&file)).unwrap())
}

fn json(output: &Output) -> Value {
    serde_json::from_str(output.ok()).unwrap()
}

/// Every pod, as `rkt list` tells programs.
fn list(t: &Test<'_>) -> Vec<Value> {
    json(&t.rkt(&["list", "--format=json"])).as_array().unwrap().clone()
}

/// Every directory of a pod, in whatever phase.
fn directories(t: &Test<'_>) -> String {
    t.sh(&format!("find {}/pods -mindepth 2 -maxdepth 2 2>/dev/null || true", t.data())).ok().to_owned()
}

const FOREVER: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

#[test]
fn fetched_images_are_listed_described_and_removed() {
    let t = begin("fetched_images");
    let image = busybox();
    let short = t.rkt(&["fetch", &image]).ok().to_owned();
    let id = t.rkt(&["fetch", "--full", &image]).ok().to_owned();
    assert!(id.starts_with(&short) && short.len() == 7 + 32 && id.len() == 7 + 64, "{short} {id}");
    let shown = json(&t.rkt(&["image", "list", "--format=json"]));
    assert_eq!(
        (shown[0]["id"].as_str(), shown[0]["name"].as_str()),
        (Some(id.as_str()), Some(image.as_str()))
    );
    let table = t.rkt(&["image", "list", "--no-legend"]);
    let cells: Vec<&str> = table.ok().split('\t').filter(|cell| !cell.is_empty()).collect();
    assert_eq!((cells[0], cells[1], cells.len()), (&id[..7 + 12], image.as_str(), 5), "{table}");
    let manifest = json(&t.rkt(&["image", "cat-manifest", &id[..12]]));
    assert_eq!(manifest["acKind"], "ImageManifest");
    assert!(manifest["annotations"].as_array().unwrap().iter().any(|a| a["name"] == "appc.io/docker/cmd"));
    let removed = t.rkt(&["image", "rm", &short]);
    assert_eq!(removed.ok(), format!("successfully removed image: \"{id}\""));
    assert!(removed.stderr.contains("rm: 1 image(s) successfully removed"), "{removed}");
    assert_eq!(json(&t.rkt(&["image", "list", "--format=json"])), serde_json::json!([]));
}

#[test]
fn the_exit_status_is_the_apps() {
    let t = begin("exit_status");
    for (script, status) in [("true", 0), ("exit 42", 42), ("kill -9 $$; sleep 9", 137), ("exit 254", 254)] {
        // A process must not be the first of its namespace to be killed by its own signal.
        let script =
            if script.starts_with("kill") { format!("sh -c '{script}'; exit $?") } else { script.to_owned() };
        let output = run(&t, &[], &script);
        assert_eq!(output.code(), Some(status), "{output}");
    }
    let image = busybox();
    let missing = t.rkt(&["run", &image, "--exec=/not/there"]);
    assert!(missing.fails_with(203).contains("/not/there"), "{missing}");
    let state = list(&t);
    assert!(state.iter().all(|pod| pod["state"] == "exited"), "{state:#?}");
    let newest = state.iter().filter_map(|pod| pod["apps"][0]["exit_code"].as_i64()).collect::<Vec<_>>();
    let mut statuses = newest.clone();
    statuses.sort_unstable();
    assert_eq!(statuses, [0, 42, 137, 203, 254]);
}

/// The kernel's "No such file or directory" is about a file that nobody named.
#[test]
fn a_program_that_cannot_be_executed_comes_with_a_hint() {
    let t = begin("cannot_be_executed");
    let (image, dir) = (busybox(), format!("{}/bin", t.scratch()));
    t.write_file(&format!("{dir}/script"), "#!/not/there\n");
    t.write_file(&format!("{dir}/odd"), "\x7fELF of another machine");
    let _ = t.sh(&format!("chmod +x {dir}/script {dir}/odd")).ok();
    let volume = format!("--volume=bin,kind=host,source={dir}");
    for file in ["script", "odd", "missing"] {
        let exec = format!("--exec=/mnt/{file}");
        let output = t.rkt(&["run", &volume, &image, "--name=app", "--mount=volume=bin,target=/mnt", &exec]);
        let said = output.fails_with(203);
        assert!(
            said.contains(&format!("/mnt/{file}"))
                && said.contains("run: app \"app\" could not be executed: "),
            "{output}"
        );
    }
    // It may also be what the app itself says.
    assert_eq!(run(&t, &[], "exit 203").fails_with(203), "");
}

#[test]
fn an_app_that_fails_stops_the_others_and_one_that_succeeds_does_not() {
    let t = begin("apps_share_fate");
    let image = busybox();
    let pod = |first: &str, second: &str| {
        let app = |name: &'static str, script: &str| {
            [&image, name, "--exec=/bin/sh", "--", "-c", script, "---"].map(str::to_owned)
        };
        let words = [&["run".to_owned()][..], &app("--name=a", first), &app("--name=b", second)].concat();
        t.rkt(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let failed = pod("sleep 0.2; exit 7", "trap 'echo stopped; exit 0' TERM; while :; do sleep 0.05; done");
    assert!(failed.code() == Some(7) && failed.stdout.contains("stopped"), "{failed}");
    let fine = pod("exit 0", "sleep 0.3; echo late");
    assert!(fine.ok().contains("late"), "{fine}");
}

#[test]
fn what_the_flags_say_is_what_the_app_sees() {
    let t = begin("flags_reach_the_app");
    let image = busybox();
    t.write_file(&format!("{}/volume/file", t.scratch()), "from the host\n");
    let volume = format!("--volume=data,kind=host,source={}/volume,readOnly=true", t.scratch());
    let script = "echo $A $B $AC_APP_NAME $PWD; id -u; id -g; hostname; cat /data/file; \
                  touch /data/x /x 2>/dev/null && echo writable; touch /scratch/x && echo scratch; \
                  grep -c db.example /etc/hosts; cat /etc/resolv.conf | grep -c 192.0.2.1";
    let out = t.rkt(&[
        "run",
        "--hostname=box",
        "--set-env=A=pod",
        "--set-env=B=pod",
        &volume,
        "--volume=scratch,kind=empty,mode=0777",
        "--mount=volume=data,target=/data",
        "--hosts-entry=192.0.2.7=db.example",
        "--dns=192.0.2.1",
        &image,
        "--name=web",
        "--environment=B=app",
        "--user=1000",
        "--group=1001",
        "--working-dir=/tmp",
        "--readonly-rootfs",
        "--mount=volume=scratch,target=/scratch",
        "--exec=/bin/sh",
        "--",
        "-c",
        script,
    ]);
    let expected = "pod app web /tmp\n1000\n1001\nbox\nfrom the host\nscratch\n1\n1";
    assert_eq!(out.ok(), expected, "{out}");
}

#[test]
fn standard_input_is_the_callers_only_when_asked() {
    let t = begin("standard_input");
    let image = busybox();
    let cat = |flags: &[&str]| {
        let words = [&["run"], flags, &[&image, "--exec=/bin/cat"]].concat();
        t.rkt_command(&words).stdin("typed\n").run().unwrap()
    };
    assert_eq!(cat(&["--interactive"]).ok(), "typed");
    assert_eq!(cat(&[]).ok(), "");
    // A terminal becomes the app's own: job control, size, Ctrl-C.
    let words = [
        "run",
        "--interactive",
        &image,
        "--exec=/bin/sh",
        "--",
        "-c",
        "stty size; trap 'echo caught; exit 6' INT; echo up; sleep 9 & wait",
    ];
    let mut child = t.rkt_command(&words).terminal(33, 99).spawn().unwrap();
    child.wait_for("up", SOON).unwrap();
    child.write(b"\x03").unwrap();
    let output = child.wait(SOON).unwrap();
    assert!(
        output.code() == Some(6) && output.stdout.contains("33 99") && output.stdout.contains("caught"),
        "{output}"
    );
}

#[test]
fn a_prepared_pod_runs_once() {
    let t = begin("prepared_once");
    let image = busybox();
    let prepared =
        t.rkt(&["prepare", "--quiet", &image, "--name=app", "--exec=/bin/sh", "--", "-c", "echo ran"]);
    let uuid = prepared.ok().to_owned();
    assert_eq!(t.rkt(&["status", &uuid]).ok().lines().next(), Some("state=prepared"));
    let manifest = json(&t.rkt(&["cat-manifest", &uuid]));
    assert_eq!(manifest["apps"][0]["app"]["exec"], serde_json::json!(["/bin/sh", "-c", "echo ran"]));
    // A beginning of the UUID will do.
    assert_eq!(t.rkt(&["run-prepared", &uuid[..8]]).ok(), "ran");
    let again = t.rkt(&["run-prepared", &uuid]);
    assert!(again.fails_with(254).contains(&format!("pod \"{uuid}\" is not prepared")), "{again}");
    // The manifest that a pod shows is one that a pod can be made from.
    let file = format!("{}/manifest.json", t.scratch());
    t.write_file(&file, manifest.to_string());
    assert_eq!(t.rkt(&["run", &format!("--pod-manifest={file}")]).ok(), "ran");
}

#[test]
fn a_running_pod_is_listed_entered_and_stopped() {
    let t = begin("running_pod");
    let (child, uuid) = spawn(&t, "app", FOREVER);
    let rows = t.rkt(&["list", "--no-legend"]);
    let cells: Vec<&str> = rows.ok().split('\t').filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        (cells[0], cells[1], cells[2], cells[3]),
        (&uuid[..8], "app", busybox().as_str(), "running"),
        "{rows}"
    );
    let status = t.rkt(&["status", &uuid]);
    assert!(status.ok().contains("state=running\n") && status.ok().contains("\nexited=false"), "{status}");
    assert_eq!(t.rkt(&["enter", &uuid, "/bin/sh", "-c", "echo inside; exit 3"]).fails_with(3), "");
    let refused = t.rkt(&["rm", &uuid]);
    assert!(refused.fails_with(254).contains(&format!("pod \"{uuid}\" is currently running")), "{refused}");
    assert_eq!(t.rkt(&["stop", &uuid]).ok(), format!("\"{uuid}\""));
    let _ = child.wait(SOON).unwrap().ok();
    let status = t.rkt(&["status", "--wait=10s", &uuid]);
    assert!(status.ok().ends_with("exited=true\napp-app=0"), "{status}");
    let entered = t.rkt(&["enter", &uuid, "true"]);
    assert!(
        entered.fails_with(254).contains(&format!("pod \"{uuid}\" isn't currently running")),
        "{entered}"
    );
    assert_eq!(t.rkt(&["rm", &uuid]).ok(), format!("\"{uuid}\""));
    assert_eq!(directories(&t), "");
}

#[test]
fn signals_to_rkt_stop_the_pod_and_a_second_one_kills_it() {
    let t = begin("signals");
    let (child, _) = spawn(&t, "polite", "trap 'echo bye; exit 5' TERM; while :; do sleep 0.05; done");
    child.signal(15).unwrap();
    let output = child.wait(SOON).unwrap();
    assert!(output.code() == Some(5) && output.stdout.contains("bye"), "{output}");
    let (child, uuid) = spawn(&t, "deaf", "trap '' TERM; while :; do sleep 0.05; done");
    child.signal(15).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(t.rkt(&["status", &uuid]).ok().starts_with("state=running"));
    child.signal(15).unwrap();
    let output = child.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(output.code(), Some(137), "{output}");
    let (child, uuid) = spawn(&t, "forced", "trap '' TERM; while :; do sleep 0.05; done");
    assert_eq!(t.rkt(&["stop", "--force", &uuid]).ok(), format!("\"{uuid}\""));
    assert_eq!(child.wait(Duration::from_secs(5)).unwrap().code(), Some(137));
}

#[test]
fn the_apps_of_a_killed_rkt_die_with_it() {
    let t = begin("killed_launcher");
    let mark = "12345.678";
    let (child, uuid) = spawn(&t, "app", &format!("sleep {mark}"));
    child.signal(9).unwrap();
    let _ = child.wait(SOON).unwrap();
    let gone = format!(
        "for i in $(seq 100); do pgrep -f 'sleep {mark}$' >/dev/null || exit 0; sleep 0.05; done; exit 1"
    );
    let _ = t.sh(&gone).ok();
    assert_eq!(t.rkt(&["status", &uuid]).ok().lines().next(), Some("state=exited"));
    assert_eq!(list(&t)[0]["apps"][0]["state"], "exited");
    assert!(t.rkt(&["gc", "--grace-period=0s"]).ok().contains(&uuid));
    assert_eq!(directories(&t), "");
}

#[test]
fn garbage_waits_for_its_grace_period() {
    let t = begin("grace_period");
    let _ = run(&t, &[], "true").ok();
    let image = busybox();
    let prepared = t.rkt(&["prepare", &image]).ok().to_owned();
    let first = t.rkt(&["gc"]);
    assert!(first.success() && first.stderr.contains("still within grace period (30m0s)"), "{first}");
    let states = |t: &Test<'_>| {
        let mut states: Vec<_> = list(t).iter().map(|p| p["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    };
    assert_eq!(states(&t), ["exited garbage", "prepared"]);
    assert!(t.rkt(&["gc", "--grace-period=0s"]).ok().starts_with("Garbage collecting pod"));
    assert_eq!(states(&t), ["prepared"]);
    let expired = t.rkt(&["gc", "--expire-prepared=0s"]);
    let moved = format!("moving expired prepared pod \"{prepared}\" to garbage");
    assert!(expired.success() && expired.stderr.contains(&moved), "{expired}");
    assert_eq!(directories(&t), "");
}

#[test]
fn images_of_pods_stay() {
    let t = begin("images_of_pods");
    let uuid = t.rkt(&["prepare", "--quiet", &busybox(), "--exec=/bin/true"]).ok().to_owned();
    let refused = t.rkt(&["image", "rm", &busybox()]);
    assert!(refused.fails_with(254).contains(&format!("is used by pod \"{uuid}\"")), "{refused}");
    let _ = t.rkt(&["image", "gc", "--grace-period=0s"]).ok();
    let _ = t.rkt(&["run-prepared", &uuid]).ok();
    let _ = t.rkt(&["rm", &uuid]).ok();
    assert!(t.rkt(&["image", "gc", "--grace-period=0s"]).ok().contains("successfully removed image"));
    assert_eq!(t.sh(&format!("ls {}/cas/tree", t.data())).ok(), "");
}

/// The sandbox and one app as services, the way `docs/units.md` has them.
fn start_units(t: &Test<'_>, uuid: &str) {
    let stage1: Value =
        serde_json::from_slice(&t.read_file(&format!("{}/pods/prepared/{uuid}/stage1.json", t.data())))
            .unwrap();
    let script = format!(
        "rkt=$(command -v rkt)
         systemd-run --quiet --unit=rkt-{uuid}.service -pType=oneshot -pRemainAfterExit=yes -pNotifyAccess=all \
             -pFileDescriptorStoreMax=16 -pExecStopPost=\"$rkt --dir={data} unit down {uuid}\" -- \
             $rkt --dir={data} unit up {uuid} --hostname=units
         systemd-run --quiet --unit=rkt-{uuid}-app.service -pType=notify -pNotifyAccess=all \
             -pBindsTo=rkt-{uuid}.service -pAfter=rkt-{uuid}.service -pEnvironment=RKT_INTERFACE_VERSION=1 \
             -pExecStopPost=\"$rkt --dir={data} unit ended {uuid} app\" -- \
             {stage1} app {data}/pods/run/{uuid} app",
        data = t.data(),
        stage1 = stage1.get("path").and_then(Value::as_str).unwrap(),
    );
    let _ = t.sh(&script).ok();
}

/// A command of a script writes its line and is gone before journald asks for its control group.
#[test]
fn lines_of_commands_that_are_gone_are_in_the_logs() {
    let t = begin("short_lived_writers");
    let script = format!("for i in $(seq 100); do /bin/echo line $i; done; {FOREVER}");
    let words = ["prepare", "--quiet", &busybox(), "--name=app", "--exec=/bin/sh", "--", "-c", &script];
    let uuid = t.rkt(&words).ok().to_owned();
    start_units(&t, &uuid);
    let logs = format!(
        "for i in $(seq 50); do n=$(rkt --dir={} logs {uuid} | grep -c line || true); [ $n = 100 ] && break; sleep 0.1; done; echo $n",
        t.data()
    );
    assert_eq!(t.sh(&logs).ok(), "100");
    let _ = t.rkt(&["stop", "--force", &uuid]).ok();
}

#[test]
fn a_pod_of_units_needs_no_process_of_ours() {
    let t = begin("pod_of_units");
    let script =
        format!("read -r name < /proc/sys/kernel/hostname; echo $name; echo complaint >&2; {FOREVER}");
    let words = ["prepare", "--quiet", &busybox(), "--name=app", "--exec=/bin/sh", "--", "-c", &script];
    let uuid = t.rkt(&words).ok().to_owned();
    start_units(&t, &uuid);
    let _ = t.rkt(&["status", "--wait-ready=10s", &uuid]).ok();
    let pod = json(&t.rkt(&["status", "--format=json", &uuid]));
    assert_eq!(
        (pod["state"].as_str(), pod["launcher"].as_str()),
        (Some("running"), Some("units")),
        "{pod:#}"
    );
    // Everything in the control groups of both services, by what it executes.
    let programs = format!(
        "for unit in rkt-{uuid}.service rkt-{uuid}-app.service; do
             find /sys/fs/cgroup -path \"*/$unit/cgroup.procs\" -exec cat {{}} +
         done | sort -u | while read pid; do readlink /proc/$pid/exe || true; done | grep -cE 'rkt|stage1' || true"
    );
    assert_eq!(t.sh(&programs).ok(), "0");
    let members =
        format!("find /sys/fs/cgroup -path '*/rkt-{uuid}-app.service/cgroup.procs' -exec cat {{}} + | wc -l");
    assert_ne!(t.sh(&members).ok(), "0", "the app itself is there");
    let logs = format!(
        "for i in $(seq 50); do rkt --dir={} logs {uuid} | sort | tr '\\n' ' ' | grep 'complaint units' && break; sleep 0.1; done",
        t.data()
    );
    let _ = t.sh(&logs).ok();
    let mut lines: Vec<String> =
        t.rkt(&["logs", "--app=app", &uuid]).ok().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["complaint", "units"]);
    assert_eq!(t.rkt(&["enter", &uuid, "/bin/hostname"]).ok(), "units");
    assert_eq!(t.rkt(&["stop", &uuid]).ok(), format!("\"{uuid}\""));
    let status = t.rkt(&["status", "--wait=10s", &uuid]);
    assert!(status.ok().ends_with("exited=true\napp-app=0"), "{status}");
    let attempts = json(&t.rkt(&["status", "--format=json", &uuid]))["apps"][0]["attempts"].clone();
    assert_eq!(
        (&attempts[0]["reason"], &attempts[0]["exit_code"]),
        (&"success".into(), &0.into()),
        "{attempts:#}"
    );
    let _ = t.rkt(&["rm", &uuid]).ok();
}

#[test]
fn rkt_run_is_a_service_that_says_when_it_is_ready() {
    let t = begin("rkt_run_as_a_service");
    let command = format!(
        "systemd-run --quiet --unit=direct-pod -pType=notify -- $(command -v rkt) --dir={} run {} --name=app \
         --exec=/bin/sh -- -c \"echo to the journal; {FOREVER}\"",
        t.data(),
        busybox()
    );
    let _ = t.sh(&command).ok();
    assert!(t.run(&["systemctl", "show", "-P", "StatusText", "direct-pod"]).ok().starts_with("Running pod"));
    let uuid = list(&t)[0]["name"].as_str().unwrap().to_owned();
    let logs = format!(
        "for i in $(seq 50); do rkt --dir={} logs {uuid} | grep journal && break; sleep 0.1; done",
        t.data()
    );
    assert_eq!(t.sh(&logs).ok(), "to the journal");
    let _ = t.run(&["systemctl", "stop", "direct-pod"]).ok();
    assert_eq!(t.rkt(&["status", &uuid]).ok().lines().next(), Some("state=exited"));
}

#[test]
fn a_sandbox_that_is_started_again_takes_its_pod_up_again() {
    let t = begin("sandbox_again");
    let words = ["prepare", "--quiet", &busybox(), "--name=app", "--exec=/bin/sh", "--", "-c", FOREVER];
    let uuid = t.rkt(&words).ok().to_owned();
    start_units(&t, &uuid);
    let held = t.rkt(&["unit", "up", &uuid]);
    assert!(held.fails_with(254).contains("held by another process"), "{held}");
    let removed = t.rkt(&["rm", &uuid]);
    assert!(removed.fails_with(254).contains("is currently running"), "{removed}");
    let _ = t.run(&["systemctl", "stop", &format!("rkt-{uuid}.service")]).ok();
    assert_eq!(t.rkt(&["status", "--wait=10s", &uuid]).ok().lines().next(), Some("state=exited"));
    let rkt = t.sh("command -v rkt").ok().to_owned();
    let (dir, unit) = (format!("--dir={}", t.data()), format!("--unit=rkt-{uuid}.service"));
    let again = [
        "systemd-run",
        "--quiet",
        &unit,
        "-pType=oneshot",
        "-pRemainAfterExit=yes",
        "-pNotifyAccess=all",
        "-pFileDescriptorStoreMax=16",
        &rkt,
        &dir,
        "unit",
        "up",
        &uuid,
    ];
    let _ = t.run(&again).ok();
    assert_eq!(t.rkt(&["status", &uuid]).ok().lines().next(), Some("state=running"));
    let _ = t.run(&["systemctl", "stop", &format!("rkt-{uuid}.service")]).ok();
    assert_eq!(t.rkt(&["status", "--wait=10s", &uuid]).ok().lines().next(), Some("state=exited"));
    // What is gone holds nothing, and says so by succeeding.
    let _ = t.rkt(&["rm", &uuid]).ok();
    let _ = t.rkt(&["unit", "down", &uuid]).ok();
}

#[test]
fn limits_bite() {
    let t = begin("limits_bite");
    let image = busybox();
    let eater =
        ["run", &image, "--name=app", "--memory=16M", "--exec=/bin/busybox", "--", "tail", "/dev/zero"];
    assert_eq!(t.rkt(&eater).code(), Some(137));
    let fine = t.rkt(&["run", &image, "--memory=64M", "--cpu=500m", "--exec=/bin/echo", "--", "fits"]);
    assert_eq!(fine.ok(), "fits");
}

#[test]
fn a_fetch_shows_its_progress_on_a_terminal_only() {
    let t = begin("fetch_progress");
    let image = busybox();
    let shown = t.rkt_command(&["fetch", &image]).env("TERM", "xterm").terminal(24, 100).run().unwrap();
    assert!(shown.stdout.contains(&format!("fetch: {image}")) && shown.stdout.contains("done"), "{shown}");
    let _ = t.rkt(&["image", "rm", &image]).ok();
    let _ = t.rkt(&["image", "gc", "--grace-period=0s"]).ok();
    let quiet = t.rkt(&["fetch", &image]);
    assert!(quiet.success() && quiet.stderr.is_empty(), "{quiet}");
}

#[test]
fn logs_of_a_terminal_are_not_in_the_journal() {
    let t = begin("logs_of_a_terminal");
    let (child, uuid) = spawn(&t, "app", FOREVER);
    let logs = t.rkt(&["logs", &uuid]);
    assert!(logs.fails_with(254).contains("not to the journal"), "{logs}");
    let _ = child.kill().unwrap();
}

#[test]
fn bad_input_gets_a_sentence_and_leaves_nothing() {
    let t = begin("bad_input");
    let image = busybox();
    let address = image.split('/').next().unwrap().to_owned();
    t.write_file(&format!("{}/odd.json", t.scratch()), "{\"acKind\": \"PodManifest\", ");
    t.write_file(
        &format!("{}/empty.json", t.scratch()),
        r#"{"acVersion":"0.8.11","acKind":"PodManifest","apps":[]}"#,
    );
    t.write_file(
        &format!("{}/aci.json", t.scratch()),
        r#"{"acVersion":"0.8.11","acKind":"PodManifest","apps":[{"name":"a","image":{"id":"sha512-abc"}}]}"#,
    );
    let [odd, empty, aci] =
        ["odd", "empty", "aci"].map(|name| format!("--pod-manifest={}/{name}.json", t.scratch()));
    let (unknown, wrong) =
        (format!("{address}/nobody/knows:1"), format!("{address}/busybox@sha256:{}", "0".repeat(64)));
    let table: &[(&[&str], &str)] = &[
        (&["prepare", &unknown], "nobody/knows"),
        (&["prepare", &wrong], "sha256:0000"),
        (&["prepare", "UPPER/case"], "UPPER"),
        (&["prepare", &image, "--name=a", "---", &image, "--name=a"], "two apps have the name \"a\""),
        (&["prepare", &image, "--name=Not_A_Name"], "Not_A_Name"),
        (&["prepare", "--volume=v,kind=host,source=/not/there", &image], "/not/there"),
        (&["prepare", &image, "--mount=volume=none,target=/x"], "none"),
        (&["prepare", "--volume=v,kind=empty,mode=rwx", &image], "rwx"),
        (&["prepare", &image, "--caps-retain=CAP_NOPE"], "CAP_NOPE"),
        (&["prepare", &image, "--memory=1"], "4096"),
        (&["prepare", "--port=http:80", &image], "--port is not supported"),
        (&["prepare", "--stage1-name=kvm-of-tomorrow", &image], "kvm-of-tomorrow"),
        (&["prepare", "--stage1-path=/etc/passwd", &image], "not an executable"),
        (&["prepare", &odd], "odd.json"),
        (&["prepare", &empty], "pod must contain at least one application"),
        (&["prepare"], "must provide at least one image or specify the pod manifest"),
        (&["prepare", &odd, &image], "conflicting flags set with --pod-manifest (see --help)"),
        (&["prepare", "--exec=/x", &image], "--exec must follow an image"),
        (&["prepare", "--color=red", &image], "unknown flag: --color"),
        (&["run", "--net=nowhere", &image], "networks not found: nowhere"),
        (&["run", "--interactive", &image, "---", &image], "interactive option only supports one image"),
        (&["run-prepared", "12345678"], "no matches found for \"12345678\""),
        (&["status", ""], "UUID cannot be empty"),
        (&["image", "rm", "sha256-a"], "sha256-a"),
        (&["fetch", "docker-archive:/not/there.tar"], "/not/there.tar"),
        // ACIs: what their ids and addresses lead to is no name to look for in a registry.
        (&["prepare", "sha512-abcdef"], "image sha512-abcdef is not in the store"),
        (&["fetch", "https://127.0.0.1:1/etcd.aci"], "https://127.0.0.1:1/etcd.aci"),
        (&["image", "rm", "sha512-abcdef"], "sha512-abcdef"),
        (&["prepare", &aci], "image sha512-abc is not in the store"),
        (&["gc", "12345678"], "unexpected argument \"12345678\""),
    ];
    for (words, sentence) in table {
        let output = t.rkt(words);
        let said = output.fails_with(254);
        let own: Vec<&str> = said.lines().filter(|line| line.contains(sentence)).collect();
        assert_eq!(own.len(), 1, "{words:?} should say {sentence:?} once: {output}");
        assert!(
            own[0].starts_with(&format!("{}: ", words.iter().find(|w| **w != "image").unwrap())),
            "{output}"
        );
    }
    let deaf =
        t.rkt_command(&["run", &image, "--exec=/bin/true"]).env("NOTIFY_SOCKET", "/not/there").run().unwrap();
    assert!(deaf.fails_with(254).contains("/not/there"), "{deaf}");
    let unwritable = t.rkt(&["run", "--uuid-file-save=/not/there/uuid", &image, "--exec=/bin/true"]);
    assert!(unwritable.fails_with(254).contains("/not/there/uuid"), "{unwritable}");
    assert_eq!(directories(&t), "");
    assert_eq!(t.rkt(&[]).code(), Some(2));
    let gone = t.rkt(&["attach", "a"]);
    assert!(gone.fails_with(254).contains("\"rkt attach\" is not supported: "), "{gone}");
    let missing = t.rkt(&["status", "--uuid-file=/not/there"]);
    assert!(missing.fails_with(1).contains("/not/there"), "{missing}");
}

/// What the administrator says about registries holds for commands.
#[test]
fn short_names_and_blocked_registries_are_as_configured() {
    let t = begin("registries_conf");
    let image = busybox();
    let address = image.split('/').next().unwrap();
    let file = format!("{}/registries.conf", t.scratch());
    let text = format!(
        "unqualified-search-registries = ['a.example', 'b.example']\nodd = 1\n[aliases]\nbox = '{address}/busybox'\n
        [[registry]]\nlocation = '{address}/blocked'\nblocked = true\n"
    );
    t.write_file(&file, text);
    let rkt = |words: &[&str]| t.rkt_command(words).env("CONTAINERS_REGISTRIES_CONF", &file).run().unwrap();
    let fetched = rkt(&["fetch", "--full", "box:1"]);
    assert_eq!(fetched.ok().trim(), t.rkt(&["fetch", "--full", &image]).ok().trim());
    let warning = format!("rkt: warning: {file}: odd is not known, and ignored\n");
    assert_eq!(fetched.stderr.matches(&warning).count(), 1, "{fetched}");
    let several = rkt(&["fetch", "other"]);
    assert!(several.fails_with(254).contains("a.example/other:latest, b.example/other:latest"), "{several}");
    let blocked = rkt(&["fetch", &format!("{address}/blocked/x")]);
    assert!(blocked.fails_with(254).contains("registries.conf"), "{blocked}");
    let removed = rkt(&["image", "rm", "box:1"]);
    assert!(removed.ok().contains(fetched.ok().trim()), "{removed}");
    t.write_file(&file, "[registries.search]\nregistries = []\n");
    assert!(rkt(&["fetch", "box:1"]).fails_with(254).contains("version 1"));
}

/// Commands that only look made the store, and so failed for whoever may not.
#[test]
fn looking_makes_no_data_directory() {
    let t = begin("looking_makes_nothing");
    let nobody = "setpriv --reuid=65534 --clear-groups $(command -v rkt)";
    let dir = format!("{}/none", t.scratch());
    for rkt in ["rkt", nobody] {
        let say = |words: &str| t.sh(&format!("{rkt} --dir={dir} {words}"));
        assert_eq!(json(&say("list --format=json")), serde_json::json!([]));
        assert_eq!(json(&say("image list --format=json-pretty")), serde_json::json!([]));
        assert_eq!(say("image list --no-legend").ok(), "");
        let (gc, rm) = (say("image gc"), say("image rm docker.io/library/a"));
        if rkt == nobody {
            assert_eq!(gc.fails_with(254), "gc: cannot run as unprivileged user");
            assert_eq!(rm.fails_with(254), "rm: cannot run as unprivileged user");
        } else {
            assert_eq!(gc.ok(), "");
            assert!(rm.fails_with(254).contains("a\" is not in the store"), "{rm}");
        }
        assert!(say("status a").fails_with(254).contains("no matches found for \"a\""));
    }
    let _ = t.sh(&format!("test ! -e {dir}")).ok();
}

/// `rkt help | head -1` complained of a broken pipe, and `rkt gc > file` did not collect when the disk was full.
#[test]
fn what_nobody_reads_keeps_no_command_from_its_work() {
    let t = begin("nobody_reads");
    for command in ["help", "help run", "list", "version", "image list"] {
        let output = t.sh(&format!("{{ rkt {command}; echo $? >&2; }} | true"));
        assert_eq!(output.stderr, "0\n", "{command}: {output}");
    }
    let rkt = format!("rkt --dir={}", t.data());
    let (child, uuid) = spawn(&t, "app", FOREVER);
    let stopped = t.sh(&format!("{{ {rkt} stop {uuid}; echo $? >&2; }} | true"));
    assert_eq!(stopped.stderr, "0\n", "{stopped}");
    let _ = child.wait(SOON).unwrap().ok();
    let _ = t.sh(&format!("{rkt} rm {uuid} > /dev/full")).ok();
    let _ = run(&t, &[], "true").ok();
    let _ = t.sh(&format!("{rkt} gc --grace-period=0s > /dev/full")).ok();
    assert_eq!(directories(&t), "");
    let _ = t.sh(&format!("{rkt} image gc --grace-period=0s > /dev/full")).ok();
    assert_eq!(t.sh(&format!("ls {}/cas/image", t.data())).ok(), "");
}

/// Two processes that wrote to one terminal mixed their words: a line was written in pieces.
#[test]
fn a_message_is_written_in_one_piece() {
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let mut rkt = std::process::Command::new(tests::artifact::binary("rkt").unwrap());
    let status = rkt.args(["gc", "word"]).stderr(std::os::fd::OwnedFd::from(theirs)).status().unwrap();
    assert_eq!(status.code(), Some(254));
    drop(rkt);
    let mut piece = [0; 200];
    let length = ours.recv(&mut piece).unwrap();
    assert_eq!(piece[..length], *b"gc: unexpected argument \"word\" (see --help)\n");
}

#[test]
fn an_app_that_has_ended_shows_its_status_while_others_run() {
    let t = begin("ended_beside_running");
    let (image, file) = (busybox(), format!("{}/uuid", t.scratch()));
    let save = format!("--uuid-file-save={file}");
    let script = "echo up; while ! test -e /go; do sleep 0.05; done; exit 4";
    let a = [&image, "--name=a", "--exec=/bin/true", "---"];
    let b = [&image, "--name=b", "--exec=/bin/sh", "--", "-c", script, "---"];
    let c = [&image, "--name=c", "--exec=/bin/sh", "--", "-c", FOREVER];
    let mut child = t.rkt_command(&[&["run", &save][..], &a, &b, &c].concat()).spawn().unwrap();
    child.wait_for("up", SOON).unwrap();
    let uuid = String::from_utf8(t.read_file(&file)).unwrap();
    let _ = t.sh(&format!(
        "for i in $(seq 100); do rkt --dir={} status {uuid} | grep -q app-a= && break; sleep 0.05; done",
        t.data()
    ));
    let status = t.rkt(&["status", &uuid]);
    assert!(status.ok().starts_with("state=running\n") && status.ok().ends_with("\napp-a=0"), "{status}");
    let entered = t.rkt(&["enter", "--app=a", &uuid, "true"]);
    assert!(entered.fails_with(254).starts_with("enter: app \"a\" of pod"), "{entered}");
    let _ = t.rkt(&["enter", "--app=b", &uuid, "touch", "/go"]).ok();
    // Which of them ended the pod would otherwise be anybody's guess.
    let output = child.wait(SOON).unwrap();
    assert!(
        output.fails_with(4).contains("run: app \"b\" ended with status 4: stopping the others"),
        "{output}"
    );
}

/// A busybox with a link such as nginx's, `access.log -> /dev/stdout`, that runs as another user than root.
fn opener(t: &Test<'_>) -> String {
    let dir = format!("{}/opener", t.scratch());
    let script = format!(
        r#"mkdir -p {dir}/root/var/log {dir}/root/bin && cd {dir} && ln -s /dev/stdout root/var/log/access.log
           cp /bin/busybox root/bin/; ln -s busybox root/bin/sh; ln -s busybox root/bin/sleep
           tar -C root -cf layer.tar .
           echo '{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:'$(sha256sum layer.tar | cut -d' ' -f1)'"]}},"config":{{"User":"99:99","Cmd":["/bin/sh"]}}}}' |
               sed "s/amd64/$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')/" > config.json
           echo '[{{"Config":"config.json","RepoTags":["opener:1"],"Layers":["layer.tar"]}}]' > manifest.json
           tar -cf opener.tar manifest.json config.json layer.tar"#
    );
    let _ = t.sh(&script).ok();
    format!("docker-archive:{dir}/opener.tar")
}

/// The journal's streams are sockets, which cannot be opened; nginx's image, for one, would not start.
#[test]
fn an_image_that_opens_its_output_by_name_writes_to_the_journal() {
    let t = begin("opens_outputs");
    let image = opener(&t);
    // Its last line comes with its end, when systemd kills what is left of the unit.
    let script = "for i in 1 2 3; do echo by name $i > /var/log/access.log; done; echo complaint > /dev/stderr; \
                  sleep 1; echo last words > /var/log/access.log; exit 3";
    let words = ["prepare", "--quiet", &image, "--name=app", "--exec=/bin/sh", "--", "-c", script];
    let uuid = t.rkt(&words).ok().to_owned();
    start_units(&t, &uuid);
    let relays = format!("pgrep -fc '[s]tage1-ns app .*{uuid}' || true");
    assert_eq!(t.sh(&relays).ok(), "1");
    // Where systemd does not kill it with the rest of the unit.
    let groups = format!("grep -vE ':/$' /proc/$(pgrep -f '[s]tage1-ns app .*{uuid}')/cgroup || true");
    assert_eq!(t.sh(&groups).ok(), "");
    let ended = format!(
        "for i in $(seq 100); do rkt --dir={0} status {uuid} | grep app-app=3 && break; sleep 0.1; done; journalctl --sync
         rkt --dir={0} logs {uuid} | sort",
        t.data()
    );
    let expected = "app-app=3\nby name 1\nby name 2\nby name 3\ncomplaint\nlast words";
    assert_eq!(t.sh(&ended).ok(), expected);
    // The one process of ours that this took is gone as well.
    assert_eq!(t.sh(&relays).ok(), "0");
    let _ = t.rkt(&["stop", &uuid]).ok();

    // In a unit of its own, `rkt run` is no different; on a terminal or in a pipe there is nothing to relay.
    let run = format!("run {image} --name=app --exec=/bin/sh -- -c 'echo direct > /var/log/access.log'");
    let unit = format!(
        "systemd-run --quiet --wait --unit=opener $(command -v rkt) --dir={0} {run}
         journalctl --sync; journalctl --output=cat --unit=opener; rkt --dir={0} {run}",
        t.data()
    );
    let out = t.sh(&unit);
    assert_eq!(out.ok().lines().filter(|line| *line == "direct").count(), 2, "{out}");
}

#[test]
fn a_full_disk_is_named_and_nothing_half_made_stays() {
    let t = begin("full_disk");
    let image = Registry::shared(Kind::Hybrid).image(Fixture::Python3);
    let dir = format!("{}/small", t.scratch());
    let _ = t.run(&["mkdir", &dir]).ok();
    let _ = t.run(&["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", &dir]).ok();
    let small = |words: &[&str]| t.run(&[&["rkt", &format!("--dir={dir}")], words].concat());
    let full = small(&["fetch", &image]);
    let said = full.fails_with(254);
    assert!(said.lines().count() == 1 && said.contains(&image) && said.contains("No space left"), "{full}");
    // A layer that was complete is of use to the next fetch; nothing incomplete is there.
    assert_eq!(t.sh(&format!("find {dir}/cas/image {dir}/cas/ref {dir}/cas/tmp -mindepth 1")).ok(), "");
    let _ = small(&["image", "gc"]).ok();
    assert_eq!(t.sh(&format!("ls {dir}/cas/tree")).ok(), "");
    // A pod for which there is no room.
    let _ = small(&["fetch", &busybox()]).ok();
    let fill = format!("head -c 100M /dev/zero > {dir}/filler || true");
    let _ = t.sh(&fill).ok();
    let full = small(&["prepare", &busybox()]);
    assert!(full.fails_with(254).contains("No space left"), "{full}");
    assert_eq!(t.sh(&format!("find {dir}/pods -mindepth 2 -maxdepth 2")).ok(), "");
    let _ = t.run(&["umount", &dir]).ok();
}

#[test]
fn whoever_is_not_root_is_told_so_first() {
    let t = begin("not_root");
    for command in ["run", "prepare", "run-prepared", "enter", "gc", "rm"] {
        let output = t.sh(&format!(
            "setpriv --reuid=65534 --clear-groups $(command -v rkt) {command} --no-such-flag; exit 0"
        ));
        assert_eq!(output.stderr.trim(), format!("{command}: cannot run as unprivileged user"), "{output}");
    }
}

#[test]
fn a_tree_of_causes_on_request() {
    let t = begin("tree_of_causes");
    let short = t.rkt(&["--pull-policy=never", "run", "127.0.0.1:1/nothing/here:1"]);
    assert_eq!(short.fails_with(254).lines().count(), 1, "{short}");
    let tree = t.rkt(&["fetch", "--debug", "127.0.0.1:1/nothing/here:1"]);
    assert!(tree.fails_with(254).contains("\n  └─"), "{tree}");
}
