//! `enter`: a command beside an app is confined like the app.

use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::launcher::{Pod, config};

const LOOP: &str = "echo up; while :; do sleep 0.05; done";

fn running(config: serde_json::Value) -> Pod {
    let mut pod = Pod::new(config, &[]);
    pod.up();
    let mut child = pod.start();
    pod.ready(&mut child);
    pod
}

fn enter(pod: &Pod, script: &str) -> Output {
    pod.call(&["enter", "a", "--", "/bin/sh", "-c", script])
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_command_is_confined_like_the_app() {
    let mut config = config(LOOP);
    config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]);
    config["process"]["oomScoreAdj"] = json!(300);
    config["process"]["cwd"] = json!("/work");
    config["process"]["env"] = json!(["PATH=/bin", "COLOR=blue"]);
    config["annotations"] = json!({"rkt/user": "web"});
    let pod = running(config);
    let same = "grep -E '^(Cap|Seccomp|NoNewPrivs|Uid|Gid|Groups)' /proc/$P/status; grep files /proc/$P/limits; \
        cat /proc/$P/oom_score_adj /proc/$P/cgroup";
    let out = stdout(&enter(&pod, &format!("P=1; {same}; echo ---; P=self; {same}")));
    let (app, own) = out.split_once("---\n").unwrap();
    assert_eq!(app, own);
    assert!(own.contains("Seccomp:\t2") && own.contains("Uid:\t1000"), "{own}");
    let out = stdout(&enter(
        &pod,
        "pwd; echo $COLOR; ls /proc/self/fd | wc -l; umask; for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done",
    ));
    let seen = stdout(&enter(&pod, "for n in mnt pid net ipc uts cgroup; do readlink /proc/$$/ns/$n; done"));
    assert_eq!(out, format!("/work\nblue\n4\n0022\n{seen}"));
    let main = pod.attempt().started.unwrap().process.pid;
    for (i, name) in ["mnt", "pid", "net", "ipc", "uts", "cgroup"].iter().enumerate() {
        let link = std::fs::read_link(format!("/proc/{main}/ns/{name}")).unwrap();
        assert_eq!(seen.lines().nth(i), link.to_str());
    }
}

#[test]
fn statuses_and_signals_are_exact() {
    let pod = running(config(LOOP));
    assert_eq!(enter(&pod, "exit 42").status.code(), Some(42));
    assert_eq!(enter(&pod, "kill -SEGV $$").status.code(), Some(128 + 11));
    let output = pod.call(&["enter", "a", "--", "/nope"]);
    assert_eq!(output.status.code(), Some(203));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nope"));

    let mut command = pod.command(&[
        "enter",
        "a",
        "--",
        "/bin/sh",
        "-c",
        "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_command_dies_with_whoever_entered() {
    let pod = running(config(LOOP));
    let mut command = pod.command(&["enter", "a", "--", "/bin/sh", "-c", "echo up; sleep 1000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    let count = || stdout(&enter(&pod, "grep -l 'sleep.1000' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"));
    child.kill().unwrap();
    let _ = child.wait().unwrap();
    let shell = || stdout(&enter(&pod, "grep -c . /proc/[0-9]*/comm | wc -l"));
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        // The shell that was executed is gone; what it started is the app's to reap.
        !stdout(&enter(&pod, "cat /proc/[0-9]*/cmdline 2>/dev/null")).contains("echo up; sleep 1000")
    });
    assert!(gone, "{} {}", count(), shell());
}

#[test]
fn another_user() {
    let pod = running(config(LOOP));
    let output = pod.call(&["enter", "a", "--user", "web", "--", "/bin/sh", "-c", "id -u; id -g; id -G"]);
    assert_eq!(stdout(&output), "1000\n1001\n1001 1002\n");
    assert_eq!(pod.call(&["enter", "a", "--user", "nobody", "--", "/bin/true"]).status.code(), Some(217));
}

#[test]
fn a_terminal_of_the_apps_own() {
    let pod = running(config(LOOP));
    let mut command =
        pod.command(&["enter", "a", "--tty", "--", "/bin/sh", "-c", "tty; read x; echo got $x; exit 5"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let out = stdout(&output);
    assert!(out.contains("/dev/pts/0\r\n") && out.contains("got word\r\n"), "{out:?}");
    assert_eq!(output.status.code(), Some(5));
    // The end of the caller's input is the end of the command's.
    let mut command = pod.command(&["enter", "a", "--tty", "--", "/bin/cat"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn without_a_running_app_there_is_nothing_to_enter() {
    let mut pod = Pod::new(config("true"), &[]);
    assert_eq!(enter(&pod, "true").status.code(), Some(254));
    let _ = pod.run();
    let output = enter(&pod, "true");
    assert_eq!(output.status.code(), Some(254));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "the app a is not running\n");
}

#[test]
fn nobody_enters_a_root_that_is_not_complete() {
    // Before the app's root is the root, its mount namespace shows the host.
    let host = tempfile::Builder::new().prefix("of-the-host.").tempdir().unwrap();
    let mut entered = 0;
    for _ in 0..10 {
        let mut pod = Pod::new(config(LOOP), &[]);
        pod.up();
        let mut child = pod.start();
        for _ in 0..20 {
            let output = enter(&pod, &format!("ls -d {}; cat /proc/1/comm", host.path().display()));
            if output.status.code() != Some(254) {
                entered += 1;
                assert_eq!(stdout(&output).lines().count(), 1, "{output:?}");
                break;
            }
        }
        pod.ready(&mut child);
    }
    assert!(entered > 0);
}
