//! A small direct launcher: prepares a pod by hand, calls the verbs, plays the receiver of notifications, and reaps.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use pod::attempt::{Attempt, Ended as EndRecord, Exit};
use pod::bundle::{Bundle, ImageRef};
use pod::launch::{Ipc, Launch, Launcher, Net};
use pod::manifest::PodManifest;
use pod::stage1::{ENV_HOLDER_PID, ENV_INTERFACE_VERSION, Stage1};
use pod::{AppName, DataDir, LockedPod, Phase, PodId};
use rustix::process::{Pid, WaitOptions};
use serde_json::{Value, json};
use sys::notify::{ENV_NOTIFY_SOCKET, Listener};

const SOON: Option<Duration> = Some(Duration::from_secs(10));

/// A pod with one app, `a`, launched directly. Dropping it kills what runs and removes everything.
pub(crate) struct Pod {
    _dir: tempfile::TempDir,
    locked: LockedPod,
    listener: Listener,
    kept: Vec<OwnedFd>,
    main: Option<Pid>,
}

/// What became of an app.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A `config.json` as stage0 writes it, for a shell command.
pub(crate) fn config(script: &str) -> Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ];
    json!({
        "ociVersion": "1.1.0",
        "root": {"path": "rootfs", "readonly": false},
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", script], "cwd": "/",
            "env": ["PATH=/bin"], "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [{"names": ["mount", "unshare", "setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}
        }
    })
}

impl Pod {
    /// A pod in `run` whose image is `layers` (each a directory's tree), bottom first, over a layer of busybox.
    pub(crate) fn new(config: Value, layers: &[&dyn Fn(&Path)]) -> Self {
        let dir = tempfile::Builder::new().prefix("stage1-ns.").tempdir().unwrap();
        let base = dir.path().join("layers/0");
        make_busybox(&base);
        let mut paths = vec![base];
        for (i, make) in layers.iter().enumerate() {
            let layer = dir.path().join(format!("layers/{}", i + 1));
            std::fs::create_dir_all(&layer).unwrap();
            make(&layer);
            paths.push(layer);
        }
        let locked = prepare(dir.path(), config, paths);
        let listener = Listener::bind(locked.dir().fd()).unwrap();
        Self { _dir: dir, locked, listener, kept: Vec::new(), main: None }
    }

    pub(crate) fn app() -> AppName {
        "a".parse().unwrap()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.locked.dir().path()
    }

    pub(crate) fn attempt(&self) -> Attempt {
        self.locked.dir().app(&Self::app()).unwrap().newest().unwrap().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stage1-ns"));
        let verb = arguments.first().unwrap();
        let _ = command.arg(verb).arg(self.path()).args(arguments.iter().skip(1));
        let _ = command
            .env(ENV_INTERFACE_VERSION, "1")
            .env(ENV_HOLDER_PID, std::process::id().to_string())
            .env(ENV_NOTIFY_SOCKET, self.listener.address())
            .env_remove("JOURNAL_STREAM");
        command
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Calls `up` and keeps what it hands over.
    pub(crate) fn up(&mut self) {
        let mut child = self.command(&["up"]).stderr(Stdio::piped()).spawn().unwrap();
        loop {
            match self.listener.receive(Some(Duration::from_millis(100))).unwrap() {
                Some(message) if message.is_ready() => break,
                Some(message) if message.fd_name().is_some() => self.kept.extend(message.fds),
                Some(_) => {}
                None if child.try_wait().unwrap().is_some() => {
                    panic!("up failed: {:?}", child.wait_with_output())
                }
                None => {}
            }
        }
        assert!(child.wait().unwrap().success());
    }

    /// Calls `app`; the app's process is then a child of this one.
    pub(crate) fn start(&mut self) -> Child {
        let mut command = self.command(&["app", "a"]);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.await_main(command)
    }

    /// The same, with these descriptors.
    pub(crate) fn start_on(&mut self, stdio: impl Fn() -> Stdio) -> Child {
        let mut command = self.command(&["app", "a"]);
        let _ = command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        self.await_main(command)
    }

    fn await_main(&mut self, mut command: Command) -> Child {
        let child = command.spawn().unwrap();
        while let Some(message) = self.listener.receive(SOON).unwrap() {
            assert_eq!(message.sender, child.id());
            if let Some(pid) = message.main_pid() {
                self.main = Pid::from_raw(i32::try_from(pid).unwrap());
                return child;
            }
        }
        panic!("no MAINPID: {:?}", child.wait_with_output());
    }

    /// Waits for `READY=1`, and for `app` to be gone.
    pub(crate) fn ready(&mut self, child: &mut Child) {
        let message = self.listener.receive(SOON).unwrap().unwrap();
        assert!(message.is_ready(), "{message:?}");
        assert!(child.wait().unwrap().success());
    }

    /// Runs the app to its end.
    pub(crate) fn run(&mut self) -> Ended {
        if self.kept.is_empty() {
            self.up();
        }
        let child = self.start();
        let output = child.wait_with_output().unwrap();
        while self.listener.receive(Some(Duration::ZERO)).unwrap().is_some() {}
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { status: self.reap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Records that the attempt is over, as a launcher does.
    pub(crate) fn end(&self) {
        let ended =
            EndRecord { at: jiff::Timestamp::now(), exit: Exit::Exited(1), result: "exit-code".to_owned() };
        self.locked.dir().app(&Self::app()).unwrap().end(&ended, None).unwrap();
    }

    /// Waits for the app's process, which is a child of ours.
    pub(crate) fn reap(&mut self) -> ExitStatus {
        let pid = self.main.take().unwrap();
        let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        ExitStatus::from_raw(status.as_raw())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(pid) = self.main.take() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        let _ = self.call(&["down"]);
    }
}

fn prepare(data: &Path, config: Value, layers: Vec<PathBuf>) -> LockedPod {
    let data = DataDir::open(data).unwrap();
    let mut pod = data.create(PodId::random()).unwrap();
    let manifest: PodManifest =
        serde_json::from_value(json!({"acVersion": "0.8.11", "acKind": "PodManifest",
        "apps": [{"name": "a", "image": {"id": "sha256-0"}}]}))
        .unwrap();
    let stage1 =
        Stage1 { name: "ns".to_owned(), path: env!("CARGO_BIN_EXE_stage1-ns").into(), interface_version: 1 };
    pod.dir().write_manifest(&manifest, &stage1).unwrap();
    let image = ImageRef { id: "sha256-0".to_owned(), name: "busybox".to_owned(), layers };
    let bundle = Bundle { config: serde_json::from_value(config).unwrap(), image };
    pod.dir().write_app(&Pod::app(), &bundle).unwrap();
    let launch = Launch {
        launcher: Launcher::Direct,
        net: Net::None,
        hostname: "rkt-test".to_owned(),
        ipc: Ipc::Private,
        invocation_id: None,
    };
    pod.transition(Phase::Prepare).unwrap();
    pod.transition(Phase::Prepared).unwrap();
    pod.dir().write_launch(&launch).unwrap();
    pod.transition(Phase::Run).unwrap();
    pod
}

fn make_busybox(root: &Path) {
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let _ = std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|a| *a != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    for dir in ["etc", "tmp", "work"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/work:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:1001:\nlogs:x:1002:web\n").unwrap();
}
