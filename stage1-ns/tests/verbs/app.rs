//! `app`: what an app sees, what it may do, and how it ends.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::launcher::{Pod, config};

fn run(script: &str) -> String {
    let ended = Pod::new(config(script), &[]).run();
    assert!(ended.status.success(), "{ended:?}");
    ended.stdout
}

#[test]
fn an_apps_status_is_the_launchers() {
    let mut pod = Pod::new(config("echo out; echo err >&2; exit 42"), &[]);
    let ended = pod.run();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(ended.status.code(), Some(42));
    let attempt = pod.attempt();
    assert!(attempt.number == 1 && attempt.error.is_none() && attempt.started.is_some());

    let mut pod = Pod::new(config("trap 'kill -KILL $$' TERM; echo up; while :; do sleep 0.01; done"), &[]);
    pod.up();
    let mut child = pod.start();
    pod.ready(&mut child);
    assert!(pod.call(&["stop", "--force"]).status.success());
    assert_eq!(pod.reap().signal(), Some(9));
}

#[test]
fn the_stop_signal_is_the_apps_own() {
    let mut config = config("trap 'exit 7' USR1; trap 'exit 8' TERM; echo up; while :; do sleep 0.01; done");
    config["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGUSR1"});
    let mut pod = Pod::new(config, &[]);
    pod.up();
    let mut child = pod.start();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    assert!(pod.call(&["stop"]).status.success());
    assert_eq!(pod.reap().code(), Some(7));
    assert!(child.wait().unwrap().success());
    assert!(pod.call(&["stop"]).status.success(), "stopping what has stopped is no error");
}

#[test]
fn an_app_is_confined() {
    let status = run(
        "grep -E '^(Cap|Seccomp:|NoNewPrivs|NSpid)' /proc/self/status; ls /proc/self/fd | wc -l; umask; hostname",
    );
    for line in [
        "CapInh:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "rkt-test",
        "0022",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let caps: Vec<&str> =
        status.lines().filter(|l| l.starts_with("CapEff") || l.starts_with("CapBnd")).collect();
    // chown, dac_override, fowner, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot, mknod, setfcap
    let expected = [0, 1, 3, 5, 6, 7, 8, 10, 18, 27, 31].iter().fold(0_u64, |bits, n| bits | 1 << n);
    assert_eq!(caps, [format!("CapEff:\t{expected:016x}"), format!("CapBnd:\t{expected:016x}")]);
    // 0, 1, 2 and the directory that ls reads.
    assert!(status.contains("\n4\n"), "descriptors leak: {status}");
}

#[test]
fn an_app_has_processes_and_a_network_of_its_own() {
    let out = run(
        "echo $$; ls /proc | grep -c '^[0-9]'; cat /proc/net/dev | grep -c :; ip addr show lo | grep -c 'inet 127'; cat /proc/1/cgroup",
    );
    assert!(out.starts_with("1\n"), "{out}");
    assert!(out.contains("\n1\n1\n"), "only lo, and it is up: {out}");
    assert!(out.lines().filter(|l| l.contains(':')).all(|l| l.ends_with(":/")), "control groups show: {out}");
}

#[test]
fn mounts_are_what_the_config_says_and_nothing_else() {
    let out = run("cut -d' ' -f5 /proc/self/mountinfo | sort");
    let points: Vec<&str> = out.lines().filter(|p| !p.starts_with("/sys/fs/cgroup/")).collect();
    let masked =
        ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/proc/scsi"];
    let read_only = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    let devices = ["null", "zero", "full", "random", "urandom", "tty"].map(|d| format!("/dev/{d}"));
    let mut expected: Vec<&str> =
        ["/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs/cgroup"]
            .into_iter()
            .chain(masked.into_iter().chain(read_only).filter(|p| std::path::Path::new(p).exists()))
            .chain(devices.iter().map(String::as_str))
            .collect();
    expected.sort_unstable();
    assert_eq!(points, expected);
}

#[test]
fn what_is_masked_cannot_be_read_and_what_is_read_only_not_written() {
    let out = run("cat /proc/timer_list /proc/keys | wc -c; ls /sys/firmware | wc -l; \
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/fs/cgroup/x /sys/x; do (echo x > $f) 2>/dev/null && echo wrote $f; done; \
        mkdir /sys/firmware/x 2>/dev/null && echo made; umount /proc/keys 2>/dev/null && echo unmounted; true");
    assert_eq!(out, "0\n0\n");
}

#[test]
fn nothing_of_a_pod_is_in_the_hosts_mount_table() {
    let table = || std::fs::read_to_string("/proc/1/mountinfo").unwrap();
    let before = table();
    let mut pod = Pod::new(config("echo up; while :; do sleep 0.01; done"), &[]);
    pod.up();
    let mut child = pod.start();
    pod.ready(&mut child);
    let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(table(), before);
    assert!(!own.contains(&pod.path().display().to_string()), "{own}");
}

#[test]
fn nodes_that_an_app_makes_are_no_devices() {
    // 1:3, which everybody may open where it is a device.
    let out = run(
        "for d in / /dev /dev/shm /tmp; do mknod $d/n c 1 3 && echo made; (echo x > $d/n) 2>/dev/null && echo opened $d; done; \
        echo x > /dev/null && head -c 3 /dev/zero | wc -c; ls -l /dev/fd /dev/ptmx | wc -l",
    );
    assert_eq!(out, "made\nmade\nmade\nmade\n3\n2\n");
}

#[test]
fn a_volume_is_no_way_to_devices_and_a_device_that_is_listed_is_one() {
    let host = tempfile::tempdir().unwrap();
    let script = "mknod /v/n c 1 3; (echo x > /v/n) 2>/dev/null && echo opened; echo x > /dev/mine && echo mine; \
        ls -l /dev/mine | cut -c1-10; echo x > /one && echo bound";
    let mut config = config(script);
    let source = host.path().to_str().unwrap();
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/v", "type": "bind", "source": source, "options": ["rbind"]}));
    mounts.push(json!({"destination": "/one", "type": "bind", "source": "/dev/null", "options": ["bind"]}));
    config["linux"]["devices"] = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 0, "gid": 0}]);
    assert_eq!(Pod::new(config, &[]).run().stdout, "mine\ncrw-------\nbound\n");
}

#[test]
fn raising_a_limit_takes_a_capability() {
    let own = rustix::thread::capabilities(None).unwrap().effective;
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    let mut config = config("ulimit -Hn");
    config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": hard + 1, "hard": hard + 1}]);
    let ended = Pod::new(config, &[]).run();
    if own.contains(rustix::thread::CapabilitySet::SYS_RESOURCE) {
        assert_eq!(ended.stdout, format!("{}\n", hard + 1));
    } else {
        assert_eq!(ended.status.code(), Some(254), "{ended:?}");
        assert!(ended.stderr.contains(&format!("the hard limit here is {hard}")), "{ended:?}");
    }
}

#[test]
fn a_privileged_config_opens_devices() {
    let mut config = config("mknod /n c 1 3 && echo x > /n && echo opened");
    config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    assert_eq!(Pod::new(config, &[]).run().stdout, "opened\n");
}

#[test]
fn users_are_resolved_in_the_apps_own_root() {
    let mut config =
        config("id -u; id -g; id -G; grep CapEff /proc/self/status; echo $HOME; touch /work/x 2>&1");
    config["annotations"] = json!({"rkt/user": "web"});
    let layer = |root: &std::path::Path| {
        std::fs::create_dir(root.join("work")).unwrap();
        std::os::unix::fs::chown(root.join("work"), Some(1000), Some(1001)).unwrap();
    };
    let ended = Pod::new(config, &[&layer]).run();
    assert_eq!(ended.stdout, "1000\n1001\n1001 1002\nCapEff:\t0000000000000000\n/work\n", "{ended:?}");
}

#[test]
fn ambient_capabilities_survive_the_change_of_user() {
    let mut config = config("grep -E 'Cap(Eff|Amb)' /proc/self/status");
    for set in ["inheritable", "ambient"] {
        config["process"]["capabilities"][set] = json!(["CAP_NET_BIND_SERVICE"]);
    }
    config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [1002]});
    let out = Pod::new(config, &[]).run().stdout;
    assert_eq!(out, "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n");
}

#[test]
fn every_failure_has_its_status_and_a_record() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, i32, &str); 10] = [
        (|c| c["process"]["args"] = json!(["/bin/nope"]), 203, "/bin/nope"),
        (|c| c["process"]["args"] = json!(["nope"]), 203, "PATH"),
        (|c| c["process"]["args"] = json!(["/etc/passwd"]), 203, "Permission denied"),
        (|c| c["process"]["cwd"] = json!("/nope"), 200, "/nope"),
        (|c| c["process"]["cwd"] = json!("/etc/passwd"), 200, "/etc/passwd"),
        (|c| c["annotations"] = json!({"rkt/user": "nobody"}), 217, "nobody"),
        (|c| c["annotations"] = json!({"rkt/user": "4294967296"}), 217, "4294967296"),
        (|c| c["mounts"][0]["type"] = json!("nofs"), 226, "nofs"),
        (
            |c| {
                c["mounts"].as_array_mut().unwrap().push(
                    json!({"destination": "/x", "type": "bind", "source": "/nope", "options": ["bind"]}),
                )
            },
            226,
            "/nope",
        ),
        (
            |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 4}]),
            254,
            "RLIMIT_NOFILE",
        ),
    ];
    for (change, status, word) in cases {
        let mut config = config("true");
        change(&mut config);
        let mut pod = Pod::new(config, &[]);
        let ended = pod.run();
        assert_eq!(ended.status.code(), Some(status), "{word}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(word), "{ended:?}");
        assert_eq!(pod.attempt().error.as_deref(), Some(ended.stderr.trim_end()));
    }
}

#[test]
fn each_attempt_has_a_fresh_root() {
    let mut pod = Pod::new(config("cat /mark 2>/dev/null; echo was here > /mark"), &[]);
    assert_eq!(pod.run().stdout, "");
    assert_eq!(pod.run().stdout, "");
    assert_eq!(pod.attempt().number, 2);
    let attempts = pod.path().join("apps/a/attempts");
    assert!(!attempts.join("1/upper").exists() && attempts.join("2/upper/mark").exists());
}

#[test]
fn layers_are_stacked_and_whiteouts_hide() {
    let whiteout = |root: &std::path::Path| {
        std::fs::create_dir(root.join("etc")).unwrap();
        let path = root.join("etc/group");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        )
        .unwrap();
        std::fs::write(root.join("etc/passwd"), "over\n").unwrap();
    };
    let script = "cat /etc/passwd; ls /etc; (echo x > /etc/new) && ls /etc | wc -l";
    assert_eq!(Pod::new(config(script), &[&whiteout]).run().stdout, "over\npasswd\n2\n");
}

#[test]
fn a_hundred_layers_fit() {
    let one = |root: &std::path::Path| {
        let number: u32 = root.file_name().unwrap().to_str().unwrap().parse().unwrap();
        std::fs::write(root.join(format!("f{number}")), number.to_string()).unwrap();
    };
    let layers: Vec<&dyn Fn(&std::path::Path)> =
        (0..120).map(|_| &one as &dyn Fn(&std::path::Path)).collect();
    assert_eq!(Pod::new(config("ls / | grep -c '^f[0-9]'; cat /f120"), &layers).run().stdout, "120\n120");
}

#[test]
fn a_read_only_root_is_read_only_and_its_mounts_are_not() {
    let mut config = config(
        "(echo x > /x) 2>/dev/null && echo wrote; echo y > /dev/shm/y && cat /dev/shm/y; ls -d /missing",
    );
    config["root"]["readonly"] = json!(true);
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/missing/point", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(Pod::new(config, &[]).run().stdout, "y\n/missing\n");
}

#[test]
fn volumes() {
    let script = "cat /v/file; echo more > /v/new; (echo x > /ro/x) 2>/dev/null && echo wrote; \
        (echo x > /ro/sub/x) 2>/dev/null && echo wrote below; cat /one; ls /deep/er";
    let mut config = config(script);
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("sub")).unwrap();
    std::fs::write(host.path().join("file"), "content\n").unwrap();
    let source = host.path().to_str().unwrap();
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/v", "type": "bind", "source": source, "options": ["rbind", "rw"]}));
    mounts.push(json!({"destination": "/ro", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
    mounts.push(json!({"destination": "/one", "type": "bind", "source": format!("{source}/file"), "options": ["bind", "ro"]}));
    mounts.push(json!({"destination": "/deep/er", "type": "bind", "source": source, "options": ["rbind"]}));
    let ended = Pod::new(config, &[]).run();
    assert_eq!(ended.stdout, "content\ncontent\nfile\nnew\nsub\n", "{ended:?}");
    assert_eq!(std::fs::read_to_string(host.path().join("new")).unwrap(), "more\n");
}

#[test]
fn sysctls_of_the_pod_are_set_and_others_refused() {
    let mut with = config("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni");
    with["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shmmni": "100"});
    assert_eq!(Pod::new(with, &[]).run().stdout, "80\n100\n");
    let mut with = config("true");
    with["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
    assert_eq!(Pod::new(with, &[]).run().status.code(), Some(254));
}

#[test]
fn limits_of_the_process() {
    let mut with = config("ulimit -n; ulimit -c; cat /proc/self/oom_score_adj");
    with["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    with["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(Pod::new(with, &[]).run().stdout, "64\n0\n500\n");
}

#[test]
fn the_apps_process_dies_with_the_launcher() {
    // A launcher that is killed: a shell that runs `app` and waits. Its death must take the app along.
    let mut pod = Pod::new(config("echo up; while :; do sleep 0.01; done"), &[]);
    pod.up();
    let app = pod.command(&["app", "a"]);
    let mut shell = std::process::Command::new("sh");
    let _ = shell.args(["-c", "\"$@\" && sleep 60", "sh"]).arg(app.get_program()).args(app.get_args());
    for (name, value) in app.get_envs() {
        let _ = value.map(|v| shell.env(name, v));
    }
    let mut shell = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
    shell.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    let process = pod.attempt().started.unwrap().process;
    assert!(process.is_alive());
    shell.kill().unwrap();
    let _ = shell.wait().unwrap();
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        !process.is_alive()
    });
    assert!(gone, "the app outlives its launcher");
}

#[test]
fn back_off_waits_for_its_turn() {
    let mut pod = Pod::new(config("exit 1"), &[]);
    let _ = pod.run();
    pod.end();
    let started = std::time::Instant::now();
    let output = pod.command(&["app", "a"]).env("RKT_BACKOFF", "1:4:600").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(started.elapsed() > std::time::Duration::from_millis(900), "{:?}", started.elapsed());
}

#[test]
fn a_terminal_is_the_apps_console() {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut config = config("[ -t 0 ] && [ -c /dev/console ] && echo to the console > /dev/console; exit 3");
    config["process"]["terminal"] = json!(true);
    let mut pod = Pod::new(config, &[]);
    pod.up();
    let mut child = pod.start_on(|| slave.try_clone().unwrap().into());
    let mut text = [0; 64];
    let n = rustix::io::read(&master, &mut text).unwrap();
    assert_eq!(&text[..n], b"to the console\r\n");
    assert_eq!(pod.reap().code(), Some(3));
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_would_be_ignored_is_refused_before_anything_is_made() {
    let mut config = config("true");
    config["hooks"] = json!({"poststart": [{"path": "/bin/true"}]});
    let mut pod = Pod::new(config, &[]);
    pod.up();
    let output = pod.call(&["app", "a"]);
    assert_eq!(output.status.code(), Some(254));
    assert_eq!(pod.attempt().error.as_deref(), Some("config.json: hooks is not supported"));
}

#[test]
fn a_signal_ends_the_wait() {
    let mut pod = Pod::new(config("exit 1"), &[]);
    let _ = pod.run();
    pod.end();
    let mut child = pod.command(&["app", "a"]).env("RKT_BACKOFF", "60:60:600").spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it does not wait");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert_eq!(pod.attempt().number, 2);
}
