//! The kubelet, from manifests to processes: it is given files, and judged by what runs, what `/pods` says, and what is
//! left when it is over.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a helper of a test cannot do fails the test"
)]

use serde_json::json;
use std::time::Duration;
use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Kind, Node, Test};

#[path = "kubelet/agent.rs"]
mod agent;
#[path = "kubelet/images.rs"]
mod images;

use agent::{Agent, container_state, pod, state_of};

const SOON: Duration = Duration::from_secs(30);

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

fn busybox() -> String {
    Registry::shared(Kind::Hybrid).image(Fixture::Busybox)
}

/// A container that runs a shell script.
fn shell(name: &str, script: &str) -> serde_json::Value {
    shell_of(&busybox(), name, script)
}

fn shell_of(image: &str, name: &str, script: &str) -> serde_json::Value {
    json!({"name": name, "image": image, "command": ["/bin/sh", "-c", script]})
}

/// A script that runs until it is asked to stop.
const FOREVER: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

#[test]
fn two_containers_share_a_volume() {
    let t = begin("two_containers_share_a_volume");
    let agent = Agent::start(&t);
    let out = format!("{}/out", t.scratch());
    let mut writer = shell("writer", &format!("echo from $WHO > /shared/note; {FOREVER}"));
    writer["env"] = json!([{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    writer["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    let mut reader = shell(
        "reader",
        &format!(
            "until cp /shared/note /out/copy; do sleep 0.1; done; touch /shared/x || echo read-only; {FOREVER}"
        ),
    );
    reader["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared", "readOnly": true}, {"name": "out", "mountPath": "/out"}]);
    agent.write(
        "web.json",
        &pod("web", json!([writer, reader]), json!({
            "volumes": [{"name": "shared", "emptyDir": {}}, {"name": "out", "hostPath": {"path": out, "type": "DirectoryOrCreate"}}]})),
    );
    let status = agent.wait_phase("web", "Running", SOON);
    assert!(status["containerStatuses"].as_array().unwrap().iter().all(|c| c["ready"] == true), "{status:#}");
    agent.wait("the reader to have read", SOON, || {
        t.sh(&format!("cat {out}/copy || true")).stdout.contains("from web-n1")
    });
    assert_eq!(t.run(&["curl", "-s", &agent.url("/healthz")]).ok(), "ok");

    // Every process in the pod's slice is an app's: nothing of ours is left.
    let uuid = agent.uuid("web");
    let show = |property: &str, unit: &str| {
        t.run(&["systemctl", "show", "--value", "-p", property, unit]).ok().to_owned()
    };
    assert_eq!(show("ActiveState", &format!("rkt-{uuid}.service")), "active");
    assert_eq!(show("MainPID", &format!("rkt-{uuid}.service")), "0");
    for app in ["writer", "reader"] {
        let group = show("ControlGroup", &format!("rkt-{uuid}-{app}.service"));
        let names = t
            .sh(&format!(
                "for p in $(cat /sys/fs/cgroup/systemd{group}/cgroup.procs); do cat /proc/$p/comm; done"
            ))
            .stdout;
        assert!(names.lines().all(|n| n == "sh" || n == "sleep" || n == "busybox"), "{app}: {names}");
    }
    agent.wait("its output in the journal", SOON, || agent.output("web", "reader").contains("read-only"));
}

#[test]
fn init_containers_run_in_order() {
    let t = begin("init_containers_run_in_order");
    let agent = Agent::start(&t);
    let step = |name: &str, script: &str| {
        let mut c = shell(name, script);
        c["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        c
    };
    // The first one fails once: the second must not have begun by then.
    let first = "if [ ! -e /v/tried ]; then touch /v/tried; exit 1; fi; sleep 0.5; echo 1 >> /v/steps";
    let spec = json!({
        "initContainers": [step("first", first), step("second", "echo 2 >> /v/steps")],
        "volumes": [{"name": "v", "emptyDir": {}}]});
    agent.write(
        "web.json",
        &pod("web", json!([step("main", &format!("echo 3 >> /v/steps; cat /v/steps; {FOREVER}"))]), spec),
    );
    let waiting = agent.wait_status("web", "the first init container to run", SOON, |s| {
        s["initContainerStatuses"][0]["state"]["running"].is_object() || s["phase"] == "Running"
    });
    if waiting["phase"] == "Pending" {
        assert_eq!(waiting["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    }
    let status = agent.wait_phase("web", "Running", SOON);
    let init = status["initContainerStatuses"].as_array().unwrap();
    assert_eq!((init[0]["restartCount"].as_u64(), init[1]["restartCount"].as_u64()), (Some(1), Some(0)));
    assert!(init.iter().all(|c| c["state"]["terminated"]["reason"] == "Completed"), "{status:#}");
    let steps = || t.sh(&format!("cat {}/pods/run/*/volumes/v/steps", t.data())).stdout;
    agent.wait("the last step", SOON, || steps() == "1\n2\n3\n");
}

#[test]
fn a_container_that_fails_is_restarted_with_a_back_off_also_without_a_kubelet() {
    let t = begin("restarted_without_a_kubelet");
    let mut agent = Agent::start(&t);
    agent.write("bad.json", &pod("bad", json!([shell("c", "echo again; exit 3")]), json!({})));
    let crash = agent.wait_status("bad", "the container to wait for its restart", SOON, |s| {
        s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(crash["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    agent.kill();
    let attempts = format!("ls {}/pods/run/*/apps/c/attempts", t.data());
    let count = || t.sh(&attempts).stdout.lines().count();
    let before = count();
    agent.wait("two attempts without a kubelet", SOON, || count() >= before + 2);
    agent.restart();
    let status = agent.wait_status("bad", "the restarts to be seen", SOON, |s| {
        s["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0) >= 2
    });
    assert_eq!(status["phase"], "Running", "a container that is always restarted keeps the pod running");
    // 1 s, 2 s, 4 s, 4 s: the fifth attempt comes after 11 s, not after 5.
    let times = t.sh(&format!("cat {}/pods/run/*/apps/c/attempts/*/started", t.data())).stdout;
    assert!(times.matches("startedAt").count() >= 3, "{times}");
}

#[test]
fn a_job_that_fails_twice_and_then_succeeds() {
    let t = begin("a_job_that_fails_twice");
    let agent = Agent::start(&t);
    let mut job = shell("job", "echo x >> /v/tries; [ $(wc -l < /v/tries) -ge 3 ]");
    job["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    agent.write(
        "job.json",
        &pod(
            "job",
            json!([job]),
            json!({"restartPolicy": "OnFailure", "volumes": [{"name": "v", "emptyDir": {}}]}),
        ),
    );
    let status = agent.wait_phase("job", "Succeeded", SOON);
    let c = &status["containerStatuses"][0];
    assert_eq!(
        (c["restartCount"].as_u64(), c["state"]["terminated"]["exitCode"].as_u64()),
        (Some(2), Some(0)),
        "{status:#}"
    );
    assert_eq!(c["lastState"]["terminated"]["exitCode"], 1);
    agent.wait("the sandbox to be stopped", SOON, || {
        t.sh("systemctl list-units --plain --no-legend 'rkt-*'")
            .stdout
            .lines()
            .all(|l| !l.contains(&agent.uuid("job")))
    });
    assert_eq!(
        agent.wait_phase("job", "Succeeded", SOON)["containerStatuses"][0]["restartCount"],
        2,
        "it is kept"
    );
}

#[test]
fn a_pod_that_somebody_stops_comes_back_and_a_job_that_was_collected_does_not() {
    let t = begin("stopped_by_hand");
    let mut agent = Agent::start(&t);
    agent.write("web.json", &pod("web", json!([shell("c", FOREVER)]), json!({})));
    agent.write("job.json", &pod("job", json!([shell("c", "true")]), json!({"restartPolicy": "Never"})));
    let _ = agent.wait_phase("web", "Running", SOON);
    let _ = agent.wait_phase("job", "Succeeded", SOON);
    let (web, job) = (agent.uuid("web"), agent.uuid("job"));
    let _ = t.run(&["systemctl", "stop", &format!("rkt-{web}.service")]).ok();
    let status = agent.wait_status("web", "the pod to run again", SOON, |s| {
        s["containerStatuses"][0]["restartCount"] == 1 && s["containerStatuses"][0]["ready"] == true
    });
    assert_eq!(agent.uuid("web"), web, "{status:#}");

    let job_is =
        |phase: &str| t.sh(&format!("ls -d {}/pods/{phase}/{job} || true", t.data())).stdout.contains(&job);
    agent.wait("the sandbox of the job to be down", SOON, || {
        let active = t.run(&["systemctl", "is-active", &format!("rkt-{job}.service")]).stdout;
        active.trim() == "inactive"
    });
    let _ = t.rkt(&["gc", "--grace-period=0s"]).ok();
    let _ = t.rkt(&["gc", "--grace-period=0s"]).ok();
    assert!(!job_is("run") && !job_is("exited-garbage"));
    agent.kill();
    agent.restart();
    let _ = agent.wait_phase("web", "Running", SOON);
    let status = agent.wait_phase("job", "Succeeded", SOON);
    assert!(status["containerStatuses"][0]["containerID"].as_str().unwrap().contains(&job), "{status:#}");
    let there = t.sh(&format!("cd {}/pods; ls -d */*", t.data())).stdout;
    assert_eq!(there.trim(), format!("run/{web}"));
}

#[test]
fn a_kubelet_that_is_killed_or_stopped_leaves_pods_alone_and_the_next_adopts_them() {
    let t = begin("adoption");
    let mut agent = Agent::start(&t);
    agent.write("web.json", &pod("web", json!([shell("a", FOREVER), shell("b", FOREVER)]), json!({})));
    let _ = agent.wait_phase("web", "Running", SOON);
    let uuid = agent.uuid("web");
    let identity = || {
        let units =
            [format!("rkt-{uuid}-a.service"), format!("rkt-{uuid}-b.service"), format!("rkt-{uuid}.service")];
        let mut command =
            vec!["systemctl", "show", "-p", "MainPID", "-p", "InvocationID", "-p", "ActiveState"];
        command.extend(units.iter().map(String::as_str));
        t.run(&command).ok().to_owned()
    };
    let before = identity();
    assert_eq!(before.matches("ActiveState=active").count(), 3, "{before}");
    agent.kill();
    assert_eq!(identity(), before);
    agent.restart();
    let _ = agent.wait_phase("web", "Running", SOON);
    agent.terminate();
    agent.restart();
    let status = agent.wait_phase("web", "Running", SOON);
    assert_eq!(identity(), before);
    assert_eq!(agent.uuid("web"), uuid);
    assert!(
        status["containerStatuses"].as_array().unwrap().iter().all(|c| c["restartCount"] == 0),
        "{status:#}"
    );
    // A manifest that went away while no kubelet ran.
    agent.kill();
    agent.remove("web.json");
    agent.restart();
    agent.wait("the orphan to go", SOON, || {
        t.sh(&format!("ls {}/pods/*", t.data())).stdout.matches(&uuid).count() == 0
    });
}

#[test]
fn a_changed_manifest_replaces_the_pod_and_a_removed_one_stops_it() {
    let t = begin("replace_and_remove");
    let agent = Agent::start(&t);
    let out = format!("{}/out", t.scratch());
    let make = |version: &str| {
        let mut c = shell(
            "c",
            &format!(
                "trap 'echo end {version} >> /out/log; exit 0' TERM; echo begin {version} >> /out/log; while :; do sleep 0.1; done"
            ),
        );
        c["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        pod(
            "web",
            json!([c]),
            json!({"volumes": [{"name": "out", "hostPath": {"path": out, "type": "DirectoryOrCreate"}}], "terminationGracePeriodSeconds": 10}),
        )
    };
    agent.write("web.json", &make("1"));
    let log = || t.sh(&format!("cat {out}/log || true")).stdout;
    agent.wait("the first version to begin", SOON, || log().contains("begin 1"));
    let first = agent.uuid("web");
    agent.write("web.json", &make("2"));
    agent.wait("the second version to begin", SOON, || log().contains("begin 2"));
    assert_eq!(log(), "begin 1\nend 1\nbegin 2\n", "the first ends, gracefully, before the second begins");
    let _ = agent.wait_phase("web", "Running", SOON);
    let second = agent.uuid("web");
    assert_ne!(first, second);
    agent.remove("web.json");
    agent.wait("the pod to be gone", SOON, || agent.pods().is_empty());
    assert_eq!(log(), "begin 1\nend 1\nbegin 2\nend 2\n");
    let left = t
        .sh(&format!(
            "ls {}/pods/*; systemctl list-units --all --plain --no-legend 'rkt-*' 'kubepods*pod*'",
            t.data()
        ))
        .stdout;
    assert!(!left.contains(&first) && !left.contains(&second), "{left}");
}

#[test]
fn a_container_that_ignores_the_signal_is_killed_after_its_grace_period() {
    let t = begin("grace_period");
    let agent = Agent::start(&t);
    let spec = json!({"terminationGracePeriodSeconds": 2});
    agent.write(
        "deaf.json",
        &pod("deaf", json!([shell("c", "trap '' TERM; while :; do sleep 0.1; done")]), spec),
    );
    let _ = agent.wait_phase("deaf", "Running", SOON);
    let start = std::time::Instant::now();
    agent.remove("deaf.json");
    agent.wait("the pod to be gone", SOON, || agent.pods().is_empty());
    let took = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[test]
fn a_memory_limit_kills() {
    memory_limit(&begin("a_memory_limit_kills"), &["OOMKilled"]);
}

#[test]
fn a_memory_limit_kills_and_is_named_on_version_2() {
    memory_limit(&Node::shared(Kind::Vm).test("a_memory_limit_kills_on_version_2"), &["OOMKilled"]);
}

fn memory_limit(t: &Test<'_>, reasons: &[&str]) {
    let agent = Agent::start(t);
    let image = Registry::shared(t.node().kind()).image(Fixture::Busybox);
    let mut hungry = shell_of(&image, "hungry", "tail /dev/zero");
    hungry["resources"] = json!({"limits": {"memory": "20Mi", "cpu": "500m"}});
    agent.write(
        "hungry.json",
        &pod(
            "hungry",
            json!([hungry, shell_of(&image, "other", FOREVER)]),
            json!({"restartPolicy": "Never"}),
        ),
    );
    let status = agent.wait_status("hungry", "the container to be killed", SOON, |s| {
        state_of(s, "hungry")["terminated"].is_object()
    });
    let state = state_of(&status, "hungry")["terminated"].clone();
    assert!(reasons.iter().any(|r| state["reason"] == *r) && state["exitCode"] == 137, "{status:#}");
    assert_eq!(status["qosClass"], "Burstable");
    assert!(state_of(&status, "other")["running"].is_object(), "{status:#}");
}

#[test]
fn a_bad_manifest_affects_no_other_and_keeps_what_it_said() {
    let t = begin("bad_manifests");
    let mut agent = Agent::start(&t);
    agent.write("good.json", &pod("good", json!([shell("c", FOREVER)]), json!({})));
    agent.write_text("not-yaml.yaml", "\tthis: [is not\n");
    agent.write("none.json", &pod("none", json!([]), json!({})));
    agent.write("twice.json", &pod("twice", json!([shell("c", FOREVER), shell("c", FOREVER)]), json!({})));
    agent.write_text(".hidden.yaml", "\tno");
    agent.write_text("editor.yaml~", "\tno");
    let _ = agent.wait_phase("good", "Running", SOON);
    let uuid = agent.uuid("good");
    for sentence in [
        "not-yaml.yaml: document 1: not YAML",
        "none.json: document 1 (pod \"none\"): spec.containers: a pod must have at least one container",
        "twice.json: document 1 (pod \"twice\"): spec.containers[1].name: \"c\" is the name of another container",
    ] {
        agent.wait_log(sentence, SOON);
    }
    assert!(!agent.log().contains("hidden") && !agent.log().contains("editor"), "{}", agent.log());
    agent.write_text("good.json", "{\"apiVersion\": \"v1\", \"kind\": ");
    agent.wait_log("good.json: document 1: not YAML", SOON);
    // Also a kubelet that has never seen the good version leaves the pod alone.
    agent.kill();
    agent.restart();
    agent.wait_log("good.json: document 1: not YAML", SOON);
    assert_eq!(agent.wait_phase("good", "Running", SOON)["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(agent.uuid("good"), uuid);
    assert_eq!(agent.pods().len(), 1);
}

#[test]
fn what_is_in_the_way_of_a_pod_is_in_its_status() {
    let t = begin("in_the_way");
    let agent = Agent::start(&t);
    let image = busybox().replace("busybox", "no-such-image");
    agent.write("image.json", &pod("image", json!([{"name": "c", "image": image}]), json!({})));
    let never = json!([{"name": "c", "image": image, "imagePullPolicy": "Never"}]);
    agent.write("never.json", &pod("never", never, json!({})));
    let missing = format!("{}/missing", t.scratch());
    let mut c = shell("c", FOREVER);
    c["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let volumes = json!({"volumes": [{"name": "v", "hostPath": {"path": missing, "type": "Directory"}}]});
    agent.write("path.json", &pod("path", json!([c]), volumes));
    agent.write("pid.json", &pod("pid", json!([shell("c", FOREVER)]), json!({"hostPID": true})));
    let exec = json!([{"name": "c", "image": busybox(), "command": ["/no/such/program"]}]);
    agent.write("exec.json", &pod("exec", exec, json!({"restartPolicy": "Never"})));
    let table = [
        ("image", &["ErrImagePull", "ImagePullBackOff"][..], "no-such-image"),
        ("never", &["ErrImageNeverPull"], "no-such-image"),
        ("path", &["FailedMount"], "does not exist"),
        ("pid", &["CreateContainerConfigError"], "hostPID is not supported"),
    ];
    for (name, reasons, message) in table {
        let status = agent.wait_status(name, "a reason", SOON, |s| {
            let waiting = &container_state(s)["waiting"];
            reasons.iter().any(|r| waiting["reason"] == *r)
        });
        let waiting = container_state(&status)["waiting"].clone();
        assert!(waiting["message"].as_str().unwrap_or_default().contains(message), "{name}: {waiting}");
        assert_eq!(status["phase"], "Pending");
    }
    let failed = agent.wait_phase("exec", "Failed", SOON);
    let terminated = container_state(&failed)["terminated"].clone();
    assert_eq!(terminated["reason"], "StartError", "{failed:#}");
    assert!(terminated["message"].as_str().unwrap_or_default().contains("/no/such/program"), "{failed:#}");
    let _ = t.run(&["mkdir", &missing]).ok();
    let _ = agent.wait_phase("path", "Running", SOON);
}

#[test]
fn a_kubelet_that_is_killed_at_any_moment_leaves_nothing_that_is_in_the_way() {
    let t = begin("killed_at_any_moment");
    let mut agent = Agent::start(&t);
    // Each version is new, so that each round is somewhere between stopping one pod and starting the next.
    let version = |n: u64| pod("web", json!([shell("c", &format!("echo {n}; {FOREVER}"))]), json!({}));
    for round in 0..16_u64 {
        agent.write("web.json", &version(round));
        std::thread::sleep(Duration::from_millis(150 + round * 67 % 500));
        agent.kill();
        agent.spawn();
    }
    agent.write("web.json", &version(99));
    let hash = agent.wait_pod("web", "the last version to run", SOON, |p| {
        p["status"]["phase"] == "Running"
            && p["spec"]["containers"][0]["command"][2].as_str().is_some_and(|s| s.contains("99"))
    });
    let uuid = agent.uuid("web");
    assert!(hash["metadata"]["uid"].is_string());
    let there = || t.sh(&format!("cd {}/pods; ls prepared run", t.data())).stdout;
    agent.wait("only that one to be there", SOON, || there() == format!("prepared:\n\nrun:\n{uuid}\n"));
    let units = t.sh("systemctl list-units --all --plain --no-legend 'rkt-*' | grep default/web-n1 | grep -c sandbox || true");
    // Other tests have pods of that name, too; none of them is ours.
    assert!(units.stdout.trim().parse::<u32>().unwrap() >= 1);
    let _ = t.rkt(&["gc", "--grace-period=0s"]).ok();
    assert_eq!(
        t.sh(&format!("cd {}/pods; ls embryo prepare garbage exited-garbage", t.data()))
            .stdout
            .split_whitespace()
            .count(),
        4
    );
}

#[test]
fn a_sandbox_that_failed_after_its_pod_was_removed_is_forgotten() {
    let t = begin("forgotten_sandbox");
    // As after a kubelet that was killed when it had just asked for the start of a pod that another then removed.
    let fail = |id: &str, data: &str| {
        let (unit, dir) = (format!("--unit=rkt-{id}.service"), format!("--dir={data}"));
        drop(t.run(&["systemd-run", "--quiet", &unit, "rkt", &dir, "unit", "up", id, "--net=none"]));
        format!("rkt-{id}.service")
    };
    let ours = fail("6f2a1b3c-0000-4000-8000-00000000f0f0", &t.data());
    let other = fail("6f2a1b3c-0000-4000-8000-00000000f0f1", "/var/lib/of-somebody-else");
    let is_failed = |unit: &str| t.run(&["systemctl", "is-failed", unit]).stdout.trim() == "failed";
    let agent = Agent::start(&t);
    agent.wait("the unit to be forgotten", SOON, || {
        agent.log().contains("forgetting the unit of a pod that is gone") && !is_failed(&ours)
    });
    assert!(is_failed(&other));
    let _ = t.run(&["systemctl", "reset-failed", &other]).ok();
}

#[test]
fn every_line_of_an_app_says_whose_it_is() {
    let t = begin("every_line_says_whose");
    let agent = Agent::start(&t);
    // Short-lived processes, at the very start: the journal has no time to find out which unit they are of.
    let script = "echo first-$M; /bin/echo second-$M; for i in 1 2 3 4 5 6 7 8; do (/bin/echo child-$M >&2) & done; wait; exec /bin/echo last-$M";
    let mark = "every-line-7c1f";
    let mut containers = Vec::new();
    for name in ["a", "b", "c"] {
        let mut c = shell(name, script);
        c["env"] = json!([{"name": "M", "value": mark}]);
        containers.push(c);
    }
    agent.write("lines.json", &pod("lines", json!(containers), json!({"restartPolicy": "Never"})));
    let _ = agent.wait_phase("lines", "Succeeded", SOON);
    let (uid, uuid) = (agent.uid("lines"), agent.uuid("lines"));
    let lines = || -> Vec<serde_json::Value> {
        let out = t.run(&["journalctl", "-o", "json", "--grep", mark]).stdout;
        let lines = out.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.filter(|l| l["_TRANSPORT"] == "stdout").collect()
    };
    agent.wait("every line", SOON, || lines().len() >= 3 * 11);
    for line in lines() {
        let container = line["K8S_CONTAINER_NAME"].as_str().unwrap_or_default().to_owned();
        assert!(["a", "b", "c"].contains(&container.as_str()), "{line:#}");
        for (field, value) in [
            ("K8S_POD_NAME", "lines-n1"),
            ("K8S_POD_NAMESPACE", "default"),
            ("K8S_POD_UID", &uid),
            ("RKT_POD_UUID", &uuid),
            ("RKT_APP", &container),
            ("SYSLOG_IDENTIFIER", &container),
            ("_SYSTEMD_UNIT", &format!("rkt-{uuid}-{container}.service")),
        ] {
            assert_eq!(line[field], value, "{field}: {line:#}");
        }
    }
    assert_eq!(lines().len(), 3 * 11);
}

#[test]
fn classes_of_pods_weigh_what_their_pods_ask_for() {
    let node = Node::boot(Kind::Hybrid).unwrap();
    let registry = Registry::start(&node).unwrap();
    let t = node.test("classes_weigh");
    let agent = Agent::start(&t);
    let image = registry.image(Fixture::Busybox);
    let shares = |class: &str| {
        t.sh(&format!("cat /sys/fs/cgroup/cpu/kubepods.slice/kubepods-{class}.slice/cpu.shares || true"))
            .stdout
    };
    let asks = |cpu: &str| {
        let mut c = shell_of(&image, "c", FOREVER);
        c["resources"] = json!({"requests": {"cpu": cpu}});
        json!([c])
    };
    agent.write("poor.json", &pod("poor", json!([shell_of(&image, "c", FOREVER)]), json!({})));
    agent.write("one.json", &pod("one", asks("250m"), json!({})));
    agent.wait("the first weights", SOON, || shares("besteffort") == "2\n" && shares("burstable") == "256\n");
    agent.write("two.json", &pod("two", asks("1"), json!({})));
    agent.wait("the second pod to weigh", SOON, || shares("burstable") == "1280\n");
    agent.remove("one.json");
    agent.wait("the first pod to weigh nothing", SOON, || shares("burstable") == "1024\n");
}

#[test]
fn systemd_and_the_bus_may_be_started_anew() {
    let node = Node::boot(Kind::Hybrid).unwrap();
    let registry = Registry::start(&node).unwrap();
    let t = node.test("started_anew");
    let agent = Agent::start(&t);
    agent.write(
        "web.json",
        &pod("web", json!([shell_of(&registry.image(Fixture::Busybox), "c", FOREVER)]), json!({})),
    );
    let _ = agent.wait_phase("web", "Running", SOON);
    let unit = format!("rkt-{}-c.service", agent.uuid("web"));
    let main_pid =
        || t.run(&["systemctl", "show", "--value", "-p", "MainPID", &unit]).stdout.trim().to_owned();
    let before = main_pid();
    let _ = t.run(&["systemctl", "daemon-reexec"]).ok();
    let _ = t.run(&["systemctl", "daemon-reload"]).ok();
    let _ = t.run(&["systemctl", "kill", "--signal=KILL", "dbus.service"]);
    agent.wait("the bus to be lost and found", SOON, || {
        agent.log().contains("is lost") && t.run(&["curl", "-s", &agent.url("/healthz")]).stdout == "ok"
    });
    assert_eq!(main_pid(), before);
    let _ = t.run(&["kill", "-9", &before]).ok();
    let status = agent.wait_status("web", "the restart", SOON, |s| {
        s["containerStatuses"][0]["restartCount"] == 1 && s["containerStatuses"][0]["ready"] == true
    });
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
}
