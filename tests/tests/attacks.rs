//! Attacks: what a hostile image, a process in a pod, and a user of the machine try. Each test asserts that no harm was
//! done, and that the attack was really made: its canary is something that shows up only when it was.
//!
//! *Verified* says what happened when the defence was taken away: then the attack succeeds, and the test fails.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::OnceLock;
use std::time::Duration;

use oci_spec::image::ConfigBuilder;
use tar::EntryType;
use tests::fixtures::{Entry, Fixture, Tree, write_layout};
use tests::registry::Registry;
use tests::{Child, Kind, Node, Output, Test};

const SOON: Duration = Duration::from_secs(20);
/// Up to the root from anywhere.
const UP: &str = "../../../../../../../../../../../..";
/// Commands of an image besides the shell.
const APPLETS: &str = "sh cat ls id true mkdir touch mount unshare mknod kill ps head dmesg grep sleep readlink chmod \
                       insmod ln find stat test pwd sha256sum";

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

/// The program of the fixture's image, which needs nothing beside it.
fn busybox() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let blobs = std::fs::read_dir(Fixture::Busybox.layout().unwrap().join("blobs/sha256")).unwrap();
        let mut layers = blobs.map(|blob| std::fs::read(blob.unwrap().path()).unwrap());
        layers.find_map(|bytes| bytes.starts_with(&[0x1f, 0x8b]).then(|| program(&bytes))?).unwrap()
    })
}

fn program(layer: &[u8]) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer));
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|e| e.path().unwrap().ends_with("usr/bin/busybox"))?;
    let mut bytes = Vec::new();
    let _ = entry.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

/// An image of one layer with a shell and these files, in the node. Returns its reference.
fn image(t: &Test<'_>, name: &str, files: &[(&str, Entry)], config: ConfigBuilder) -> String {
    let mut tree = Tree::default();
    for directory in ["bin", "etc", "tmp"] {
        tree.add(directory, Entry::directory(0o755));
    }
    tree.add("bin/busybox", Entry::file(busybox(), 0o755));
    for applet in APPLETS.split_whitespace() {
        tree.add(&format!("bin/{applet}"), Entry::link("busybox"));
    }
    for (path, entry) in files {
        tree.add(path, entry.clone());
    }
    let staging = tempfile::tempdir().unwrap();
    write_layout(staging.path(), &[tree], config.build().unwrap()).unwrap();
    let place = format!("{}/image-{name}", t.scratch());
    let blobs = std::fs::read_dir(staging.path().join("blobs/sha256")).unwrap();
    let blobs = blobs.map(|blob| format!("blobs/sha256/{}", blob.unwrap().file_name().to_str().unwrap()));
    for file in ["index.json", "oci-layout"].map(str::to_owned).into_iter().chain(blobs) {
        t.write_file(&format!("{place}/{file}"), std::fs::read(staging.path().join(&file)).unwrap());
    }
    format!("oci:{place}:1")
}

fn plain(t: &Test<'_>) -> String {
    image(t, "plain", &[], ConfigBuilder::default())
}

fn fifo() -> Entry {
    Entry { kind: EntryType::Fifo, ..Entry::file("", 0o644) }
}

fn run(t: &Test<'_>, image: &str, flags: &[&str], script: &str) -> Output {
    let words = words(image, flags, script);
    t.rkt(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A pod that says "up" and goes on, and its UUID.
fn spawn(t: &Test<'_>, image: &str, flags: &[&str], script: &str) -> (Child, String) {
    let file = format!("{}/uuid", t.scratch());
    let save = format!("--uuid-file-save={file}");
    let words = words(image, &[&[save.as_str()], flags].concat(), &format!("echo up; {script}"));
    let mut child = t.rkt_command(&words.iter().map(String::as_str).collect::<Vec<_>>()).spawn().unwrap();
    child.wait_for("up", SOON).unwrap();
    (child, String::from_utf8(t.read_file(&file)).unwrap())
}

/// `rkt run`; limits are the app's and follow the image, other flags are the pod's.
fn words(image: &str, flags: &[&str], script: &str) -> Vec<String> {
    let (limits, flags): (Vec<&str>, Vec<&str>) = flags.iter().partition(|flag| flag.starts_with("--memory"));
    let app = [&[image, "--name=app", "--exec=/bin/sh"], limits.as_slice(), &["--", "-c", script]].concat();
    [&["run"], flags.as_slice(), app.as_slice()].concat().into_iter().map(str::to_owned).collect()
}

fn stop(t: &Test<'_>, child: Child, uuid: &str) -> Output {
    let _ = t.rkt(&["stop", "--force", uuid]).ok();
    child.wait(SOON).unwrap()
}

/// A program of the host's that no pod may execute; answers `escaped` when one does. As busybox, it brings its libraries.
fn host_program(t: &Test<'_>) -> String {
    let path = format!("{}/host/busybox", t.scratch());
    t.write_file(&path, busybox());
    let _ = t.run(&["chmod", "755", &path]).ok();
    path
}

/// CVE-2024-21626, third form: the program itself is named through a descriptor that the stage1 has not closed yet.
/// Then `/proc/self/exe` is a file of the host, open for writing as soon as nobody executes it.
///
/// Verified: with the descriptors merely marked close-on-exec, numbers 3, 4, 5 and 7 execute the host's program.
#[test]
fn no_descriptor_leads_an_app_to_a_program_of_the_host() {
    let t = begin("descriptors_of_app");
    let tool = host_program(&t);
    // The canary: with a directory of the host behind the number, the path is right.
    let path = |number: usize| format!("/proc/self/fd/{number}/{UP}{tool}");
    assert_eq!(t.sh(&format!("exec 3</root; {} echo escaped", path(3))).ok(), "escaped");
    let scripts: Vec<(String, Entry)> = (3..16)
        .map(|n| (format!("bin/script-{n}"), Entry::file(format!("#!{} sh\necho escaped\n", path(n)), 0o755)))
        .collect();
    let files: Vec<(&str, Entry)> = scripts.iter().map(|(p, e)| (p.as_str(), e.clone())).collect();
    let image = image(&t, "scripts", &files, ConfigBuilder::default());
    for number in 3..16 {
        for program in [path(number), format!("/bin/script-{number}")] {
            // A descriptor of whoever starts the pod must not help either.
            let start = "exec 9</root; exec rkt --dir=$0 run $1 --name=app --exec=$2 -- echo escaped";
            let out = t.run(&["bash", "-c", start, &t.data(), &image, &program]);
            assert!(out.code() == Some(203) && out.stderr.contains("execute"), "{out}");
            assert!(!out.stdout.contains("escaped"), "{out}");
        }
    }
}

/// The same through `enter`: what is executed there is the pod's file, and may be a script with such an interpreter.
///
/// Verified: as above.
#[test]
fn no_descriptor_leads_a_command_that_enters_to_a_program_of_the_host() {
    let t = begin("descriptors_of_enter");
    let tool = host_program(&t);
    let (child, uuid) = spawn(&t, &plain(&t), &[], "sleep 1000");
    for number in 3..16 {
        let path = format!("/proc/self/fd/{number}/{UP}{tool}");
        let write = format!(
            "printf '#!{path} sh\\necho escaped\\n' > /bin/trap; chmod 755 /bin/trap; head -n1 /bin/trap"
        );
        assert_eq!(t.rkt(&["enter", &uuid, "/bin/sh", "-c", &write]).ok(), format!("#!{path} sh"));
        for program in [path.as_str(), "trap"] {
            let enter = "exec 9</root; exec rkt --dir=$0 enter $1 $2 echo escaped";
            let out = t.run(&["bash", "-c", enter, &t.data(), &uuid, program]);
            assert!(out.code() == Some(203) && !out.stdout.contains("escaped"), "{out}");
        }
    }
    let _ = stop(&t, child, &uuid);
}

/// CVE-2024-21626, first form: the working directory is a directory of the host behind a descriptor.
#[test]
fn no_working_directory_is_outside() {
    let t = begin("workdir");
    for (number, place) in (3..10).map(|n| (n, format!("/proc/self/fd/{n}"))) {
        for (name, directory, files) in [
            ("direct", place.clone(), vec![]),
            ("link", "/link".to_owned(), vec![("link", Entry::link(place.clone()))]),
        ] {
            let image = image(&t, name, &files, ConfigBuilder::default().working_dir(directory));
            let out = run(&t, &image, &[], "ls -d $PWD/apps attempts pod");
            // The canary: it is refused for what it is, and not because nothing is there.
            let refused = out.fails_with(200);
            assert!(refused.contains("Too many levels of symbolic links"), "{number}: {out}");
        }
    }
    let up = image(&t, "up", &[], ConfigBuilder::default().working_dir(format!("/{UP}/tmp")));
    assert!(run(&t, &up, &[], "pwd").fails_with(254).contains("without \"..\""));
}

/// CVE-2019-5736: the image's program is `#!/proc/self/exe`, which is the stage1. A trap in the way of its dynamic linker
/// keeps it there while somebody in the pod opens the file for writing.
///
/// Two defences stand behind one another: `rkt` executes the stage1 through a read-only mount, and so does the stage1 when
/// its launcher has not. With both gone the kernel says ETXTBSY, which is over when nobody executes the stage1 any more.
#[test]
fn the_stage1_cannot_be_overwritten_from_a_pod() {
    let t = begin("own_executable");
    let linker = ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"];
    let linker = linker.into_iter().find(|path| std::path::Path::new("/").join(path).exists()).unwrap();
    let bytes = std::fs::read(std::path::Path::new("/").join(linker)).unwrap();
    let files = [
        ("bin/evil", Entry::file("#!/proc/self/exe\n", 0o755)),
        (linker, Entry::file(bytes, 0o755)),
        ("trap/libc.so.6", fifo()),
        ("trap/libgcc_s.so.1", fifo()),
        ("trap/libseccomp.so.2", fifo()),
    ];
    let environment = vec!["LD_LIBRARY_PATH=/trap".to_owned(), "PATH=/bin".to_owned()];
    let image = image(&t, "evil", &files, ConfigBuilder::default().env(environment));
    let sum = || t.sh("sha256sum $(command -v stage1-ns)").ok().to_owned();
    let before = sum();
    let file = format!("{}/uuid", t.scratch());
    let save = format!("--uuid-file-save={file}");
    let child = t.rkt_command(&["run", &save, &image, "--name=app", "--exec=/bin/evil"]).spawn().unwrap();
    let wait = format!(
        "for i in $(seq 100); do rkt --dir={0} list --no-legend | grep -q running && exit 0; sleep 0.05; done; exit 1",
        t.data()
    );
    let _ = t.sh(&wait).ok();
    let uuid = String::from_utf8(t.read_file(&file)).unwrap();
    // Executed by descriptor, it has no name: it is known by what is in it.
    let attack = "i=0; while ! sha256sum /proc/1/exe | grep -q $0 && test $i -lt 100; do sleep 0.05; i=$((i+1)); done; \
                  test $i -lt 100 && echo there; echo x > /proc/1/exe";
    let out = t.rkt(&["enter", &uuid, "/bin/sh", "-c", attack, before.split(' ').next().unwrap()]);
    assert_eq!(out.stdout.trim(), "there", "the canary: the stage1 is what runs: {out}");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    let _ = stop(&t, child, &uuid);
    assert_eq!(sum(), before);
}

/// CVE-2019-5736 and CVE-2025-64329's kin: an app watches commands come in, and takes what they have open.
///
/// Verified: when the stage1 does not hide, the app sees its executable and the directory of the pod on the host.
#[test]
fn an_app_cannot_look_at_what_enters() {
    let t = begin("watching_enter");
    let watch = "while :; do for p in /proc/[0-9]*; do test $p = /proc/1 && continue; \
                 for l in $p/exe $p/cwd $p/root $p/fd/[0-9]*; do readlink $l; done; done; done 2>/dev/null";
    // One process that reads links and makes none: what it sees is not itself.
    let (child, uuid) = spawn(&t, &plain(&t), &[], &format!("exec /bin/sh -c '{watch}'"));
    for _ in 0..20 {
        let out = t.rkt(&["enter", &uuid, "/bin/sleep", "0.02"]);
        assert_eq!(out.ok(), "");
    }
    let out = stop(&t, child, &uuid);
    let seen: BTreeSet<&str> = out.stdout.lines().filter(|line| line.starts_with('/')).collect();
    assert!(
        seen.contains("/bin/busybox"),
        "the canary: commands were seen once they were the app's: {seen:?}"
    );
    let own = |path: &&str| ["/", "/bin/busybox", "/dev/null"].contains(path) || path.starts_with("/proc");
    assert!(seen.iter().all(own), "{seen:?}");
}

/// CVE-2019-19921, CVE-2025-52881 and their like: the places where the kernel's file systems go are links.
#[test]
fn links_in_a_root_lead_nowhere_outside() {
    let t = begin("links_in_root");
    let outside = format!("{}/outside", t.scratch());
    let _ = t.run(&["mkdir", &outside]).ok();
    let core = t.read_file("/proc/sys/kernel/core_pattern");
    let refused = [
        ("proc", "/tmp", "the image has a symbolic link there"),
        ("sys", "/proc", "the image has a symbolic link there"),
        ("etc", "/proc/sys/kernel", "/etc/hosts"),
        ("etc/hosts", "/dev/null", "/dev/null: No such device"),
        ("etc/resolv.conf", "/proc/sys", "/etc/resolv.conf"),
    ];
    for (path, target, sentence) in refused {
        let image =
            image(&t, &path.replace('/', "-"), &[(path, Entry::link(target))], ConfigBuilder::default());
        let out = run(&t, &image, &[], "echo ran");
        assert!(out.fails_with(226).contains(sentence) && !out.stdout.contains("ran"), "{path}: {out}");
    }
    for (path, target) in [
        ("dev", outside.as_str()),
        ("dev", "/proc"),
        ("dev", "/sys"),
        ("etc/hostname", "/proc/sys/kernel/core_pattern"),
    ] {
        let image =
            image(&t, &target.replace('/', "-"), &[(path, Entry::link(target))], ConfigBuilder::default());
        let script = "echo ran; for f in /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern; do \
                      test -e $f && (echo x > $f) 2>/dev/null && echo wrote $f; done; test -c /proc/keys || cat /proc/keys 2>/dev/null; true";
        assert_eq!(run(&t, &image, &[], script).ok(), "ran", "{path} to {target}");
    }
    assert_eq!(t.sh(&format!("ls -A {outside}")).ok(), "", "nothing was made on the host");
    assert_eq!(t.read_file("/proc/sys/kernel/core_pattern"), core);
}

/// Volumes that an image asks for, over what the confinement rests on: refused, or of no use.
#[test]
fn volumes_of_an_image_cannot_unmask_proc() {
    let t = begin("volumes_of_image");
    let script = "echo ran; for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do test -e $f && (echo x > $f) 2>/dev/null && echo wrote; done; \
                  mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made; test ! -e /proc/keys || head -c 1 /proc/keys";
    for (volume, works) in [
        ("/proc/sys", false),
        ("/dev/null", false),
        ("/proc", true),
        ("/dev", true),
        ("/", true),
        ("/proc/1", true),
    ] {
        let config = ConfigBuilder::default().volumes(vec![volume.to_owned()]);
        let image = image(&t, &format!("v{}", volume.replace('/', "-")), &[], config);
        let out = run(&t, &image, &[], script);
        if works {
            assert_eq!(out.ok(), "ran", "{volume}");
        } else {
            assert!(out.fails_with(226).contains(volume), "{volume}: {out}");
        }
    }
}

/// The databases of users are the image's, and may be anything.
#[test]
fn a_hostile_database_of_users_neither_blocks_nor_reads_the_hosts() {
    let t = begin("hostile_passwd");
    for (name, entry) in [
        ("fifo", fifo()),
        ("descriptor", Entry::link("/proc/self/fd/0")),
        ("kernel-log", Entry::link("/proc/kmsg")),
        ("zero", Entry::link("/dev/zero")),
        ("host", Entry::link(format!("{UP}/etc/passwd"))),
    ] {
        let config = ConfigBuilder::default().user("daemon");
        let image = image(&t, name, &[("etc/passwd", entry)], config);
        let out =
            t.rkt_command(&["run", &image, "--name=app", "--exec=/bin/id"]).timeout(SOON).run().unwrap();
        let sentence = out.fails_with(217);
        assert!(sentence.contains("/etc/passwd"), "{name}: {out}");
        // Reading it would have taken messages away from the host.
        assert!(name != "kernel-log" || sentence.contains("regular file"), "{out}");
    }
    // The canary: the host's own has that user.
    assert!(t.sh("grep ^daemon: /etc/passwd").ok().starts_with("daemon:"));
}

/// containerd's CVE-2024-40635: numbers that wrap around to root.
#[test]
fn users_do_not_wrap_around_to_root() {
    let t = begin("users_wrap");
    let passwd = "root:x:0:0::/:\nok:x:7:8::/:\nbig:x:4294967296:0::/:\nhigh:x:4294967295:0::/:\nlong:x:18446744073709551616:0::/:\n";
    for (user, fine) in [
        ("ok", Some("uid=7 gid=8")),
        ("2147483647:2147483647", Some("uid=2147483647 gid=2147483647")),
        ("2147483648", None),
        ("4294967295", None),
        ("4294967296", None),
        ("18446744073709551616", None),
        ("-1", None),
        ("1000:4294967296", None),
        ("big", None),
        ("high", None),
        ("long", None),
    ] {
        let files = [("etc/passwd", Entry::file(passwd, 0o644))];
        let image = image(&t, "user", &files, ConfigBuilder::default().user(user));
        let out = run(&t, &image, &[], "echo uid=$(id -u) gid=$(id -g)");
        match fine {
            Some(identity) => assert_eq!(out.ok(), identity),
            None => assert_eq!((out.code(), out.stdout.as_str()), (Some(217), ""), "{user}: {out}"),
        }
    }
}

/// The null device is the host's where it is a standard descriptor and where it covers a masked file; its mode is the
/// host's, too.
///
/// Verified: as long as those were the host's own mount, `chmod` in a pod changed the host's /dev/null.
#[test]
fn the_hosts_null_device_keeps_its_mode() {
    let t = begin("null_device");
    let image = plain(&t);
    let mode = || t.sh("stat -c '%a %u' /dev/null").ok().to_owned();
    let before = mode();
    // Modes and owners that hurt nobody, should it work.
    let attack = |path: &str| format!("stat -L -c '%t %T' {path}; chmod 766 {path}; echo tried");
    for path in ["/proc/self/fd/0", "/proc/keys", "/proc/timer_list"] {
        let out = run(&t, &image, &[], &attack(path));
        let found = out.stdout.lines().next() == Some("1 3");
        let after = mode();
        let _ = t.sh("chmod 666 /dev/null").ok();
        assert_eq!(after, before, "{path}: {out}");
        assert!(out.stdout.contains("tried"), "{out}");
        assert!(
            found && out.stderr.contains("Read-only file system"),
            "the canary: it is the null device: {out}"
        );
    }
    let (child, uuid) = spawn(&t, &image, &[], "sleep 1000");
    let enter = "exec rkt --dir=$0 enter $1 /bin/sh -c \"$2\" </dev/null";
    let out = t.run(&["bash", "-c", enter, &t.data(), &uuid, &attack("/proc/self/fd/0")]);
    let after = mode();
    let _ = t.sh("chmod 666 /dev/null").ok();
    assert!(after == before && out.stderr.contains("Read-only file system"), "{after}: {out}");
    let _ = stop(&t, child, &uuid);
}

/// What a process in a pod tries with the kernel. The node itself may do most of it: that is the canary.
#[test]
fn the_kernel_is_out_of_reach() {
    let t = begin("kernel");
    // Numbers that are the same everywhere, and the two that are not.
    let (bpf, keyctl) = if cfg!(target_arch = "aarch64") { (280, 219) } else { (321, 250) };
    let calls = [
        ("io_uring_setup", 425, [1, 0, 0]),
        ("open_tree", 428, [-100, 0, 1]),
        ("fsopen", 430, [0, 0, 0]),
        ("clone3", 435, [0, 0, 0]),
        ("pidfd_getfd", 438, [0, 0, 0]),
        ("mount_setattr", 442, [0, 0, 0]),
        ("bpf", bpf, [0, 0, 0]),
        ("keyctl", keyctl, [0, -3, 0]),
    ];
    let list: String = calls.iter().map(|(n, c, [x, y, z])| format!("('{n}',{c},{x},{y},{z}),")).collect();
    let python = format!(
        "import ctypes,errno\nl=ctypes.CDLL(None,use_errno=True)\nfor n,c,x,y,z in [{list}]:\n r=l.syscall(c,x,y,z,0,0)\n \
         print(n,r,errno.errorcode.get(ctypes.get_errno()) if r<0 else '')\nprint('done')"
    );
    let image = Registry::shared(Kind::Hybrid).image(Fixture::Python3);
    let out = t.rkt(&["run", &image, "--exec=/usr/bin/python3", "--", "-c", &python]);
    let lines: Vec<&str> = out.ok().lines().collect();
    assert_eq!(lines.len(), calls.len() + 1, "{out}");
    for line in lines.iter().take(calls.len()) {
        let expected = if line.starts_with("clone3") { "-1 ENOSYS" } else { "-1 EPERM" };
        assert!(line.ends_with(expected), "{line}");
    }
    let script = "unshare -U true && echo userns; unshare -m true && echo mountns; mount -t proc proc /tmp && echo mounted; \
                  dmesg && echo log; echo x > /tmp/m.ko; insmod /tmp/m.ko && echo module; \
                  (echo h > /proc/sysrq-trigger) && echo sysrq; (echo x > /proc/sys/kernel/core_pattern) && echo core; \
                  (echo 1 > /sys/kernel/profiling) && echo sysfs; head -c 1 /proc/kcore && echo core; head -c 1 /proc/kmsg && echo kmsg; echo tried";
    let out = run(&t, &plain(&t), &[], script);
    assert_eq!(out.ok(), "tried");
    assert!(out.stderr.matches("not permitted").count() >= 5, "{out}");
    assert_eq!(t.sh("unshare -m true && echo mountns").ok(), "mountns");
}

/// No process of the host, and none of another pod, is seen or reached.
#[test]
fn processes_of_the_host_are_neither_seen_nor_signalled() {
    let t = begin("processes");
    let canary = t.command(&["sleep", "7654.5"]).spawn().unwrap();
    let image = plain(&t);
    let (other, uuid) = spawn(&t, &image, &[], "exec sleep 7654.25");
    let out = run(
        &t,
        &image,
        &[],
        "ps; (kill -9 -1; for p in $(ls /proc | grep '^[0-9]'); do test $p = 1 || kill -9 $p; done) 2>/dev/null; echo tried $$",
    );
    assert!(out.ok().contains("tried 1") && !out.stdout.contains("7654"), "{out}");
    let alive = t.sh("pgrep -cf '^sleep 7654.5$'; pgrep -cf 'sleep 7654.25$'");
    assert!(alive.ok().lines().all(|count| count != "0"), "{alive}");
    let _ = stop(&t, other, &uuid);
    canary.signal(9).unwrap();
}

/// Neither the app's part of the control groups nor, through it, the host's can be written to; no notification agent of
/// the first version can be set (CVE-2022-0492's way).
#[test]
fn control_groups_cannot_be_written() {
    let t = begin("control_groups");
    let script = "cd /sys/fs/cgroup; ls | head -n 1; for d in . *; do mkdir $d/evil && echo made $d; \
                  for f in cgroup.procs notify_on_release release_agent memory.limit_in_bytes; do test ! -e $d/$f || (echo 1 > $d/$f) && test -e $d/$f && echo wrote $d/$f; done; done 2>/dev/null; \
                  mount -t cgroup -o memory x /tmp 2>/dev/null && echo mounted; test -e memory/cgroup.procs -o -e cgroup.procs && echo there";
    let out = run(&t, &plain(&t), &["--memory=64M"], script);
    let lines: Vec<&str> = out.ok().lines().collect();
    assert_eq!((lines.len(), lines.last()), (2, Some(&"there")), "{out}");
    assert_eq!(t.sh("find /sys/fs/cgroup -name evil").ok(), "");
    // The canary: the node can.
    let _ = t.sh("mkdir /sys/fs/cgroup/memory/evil && rmdir /sys/fs/cgroup/memory/evil").ok();
}

/// CAP_MKNOD is in the default set: nodes can be made, and are no devices.
#[test]
fn a_node_that_an_app_makes_is_no_device() {
    let t = begin("nodes");
    let made = "for d in / /dev /dev/shm /tmp /data; do mknod $d/evil c 1 5 && ls $d/evil && head -c 1 $d/evil && echo opened; done; true";
    let out = run(&t, &plain(&t), &["--volume=data,kind=empty", "--mount=volume=data,target=/data"], made);
    assert_eq!(out.ok(), "//evil\n/dev/evil\n/dev/shm/evil\n/tmp/evil\n/data/evil");
    assert_eq!(out.stderr.matches("Permission denied").count(), 5, "{out}");
    // One that the image brings neither.
    let node = [("zero", Entry { kind: EntryType::Char, ..Entry::file("", 0o666) })];
    let out = t.rkt(&["fetch", &image(&t, "node", &node, ConfigBuilder::default())]);
    assert!(!out.success() && out.stderr.contains("whiteout"), "{out}");
}

/// What other pods and the host have stays unseen.
#[test]
fn files_of_others_are_not_there() {
    let t = begin("files_of_others");
    let image = plain(&t);
    let mark = "mark-of-the-other-pod";
    let (other, uuid) = spawn(
        &t,
        &image,
        &["--volume=data,kind=empty", "--mount=volume=data,target=/data"],
        &format!("touch /{mark} /data/{mark}; echo made; sleep 1000"),
    );
    let on_host = format!(
        "for i in $(seq 100); do test $(find {0}/pods -name {mark} | wc -l) = 2 && exit 0; sleep 0.05; done; exit 1",
        t.data()
    );
    let _ = t.sh(&on_host).ok();
    let look = format!(
        "echo looked; find / -name {mark} 2>/dev/null; ls -d {0} /root /var/lib/rkt /run/systemd 2>/dev/null; true",
        t.scratch()
    );
    assert_eq!(run(&t, &image, &[], &look).ok(), "looked");
    assert_eq!(
        t.sh("grep -c overlay.*volatile /proc/1/mountinfo || true").ok(),
        "0",
        "mounts of pods are not the host's"
    );
    let _ = stop(&t, other, &uuid);
}

/// A layer that writes through its own links; hard links to files of the host.
#[test]
fn a_layer_stays_in_its_tree() {
    let t = begin("layer");
    let outside = format!("{}/outside", t.scratch());
    t.write_file(&format!("{outside}/secret"), "of the host\n");
    let files = [
        ("absolute", Entry::link(&*outside)),
        ("absolute/a", Entry::file("through", 0o644)),
        ("relative", Entry::link(format!("{UP}{outside}"))),
        ("relative/b", Entry::file("through", 0o644)),
    ];
    let reference = image(&t, "links", &files, ConfigBuilder::default());
    // The canary: both files were unpacked, to where the links lead in the image's own tree.
    assert_eq!(
        run(&t, &reference, &[], &format!("cat {outside}/a {outside}/b; ls {outside}")).ok(),
        "throughthrougha\nb"
    );
    let hard = Entry { kind: EntryType::Link, target: format!("{outside}/secret"), ..Entry::file("", 0o644) };
    let out = t.rkt(&["fetch", &image(&t, "hard", &[("stolen", hard)], ConfigBuilder::default())]);
    assert!(out.fails_with(254).contains("cannot fetch layer"), "{out}");
    assert_eq!(t.sh(&format!("ls {outside}; stat -c %h {outside}/secret")).ok(), "secret\n1");
}

/// CVE-2024-45310, CVE-2021-30465: a mount point is made below a volume whose owner swaps directories for links.
#[test]
fn a_mount_point_below_a_hostile_volume_is_not_made_outside() {
    let t = begin("mount_point");
    let (image, s) = (plain(&t), t.scratch());
    let _ = t.sh(&format!("mkdir -p {s}/shared/dir {s}/outside; ln -s {s}/outside {s}/shared/absolute; ln -s ../../..{s}/outside {s}/shared/link; ls {s}/shared/link/")).ok();
    let swap = format!("cd {s}/shared; while :; do ln -sfn {s}/outside x; rm -f x; mkdir x; rmdir x; done");
    let swapper = t.command(&["bash", "-c", &swap]).spawn().unwrap();
    let mut ran = 0;
    for target in ["absolute/new", "link/new", "x/new"].into_iter().chain(std::iter::repeat_n("x/new", 20)) {
        let out = t.rkt(&[
            "run",
            &format!("--volume=shared,kind=host,source={s}/shared"),
            "--volume=inner,kind=empty",
            "--mount=volume=shared,target=/data",
            &format!("--mount=volume=inner,target=/data/{target}"),
            &image,
            "--name=app",
            "--exec=/bin/sh",
            "--",
            "-c",
            "echo ran",
        ]);
        ran += usize::from(out.success());
    }
    swapper.signal(9).unwrap();
    assert_eq!(t.sh(&format!("ls -A {s}/outside")).ok(), "");
    assert!(
        ran >= 2,
        "the canary: links that stay lead to places in the root, where the mount points were made"
    );
}

/// Users of the machine: programs of images with set-user-id, what pods write, and the store's locks are not for them.
#[test]
fn local_users_reach_neither_images_nor_pods() {
    let t = begin("local_users");
    let image = image(&t, "setuid", &[("bin/up", Entry::file(busybox(), 0o4755))], ConfigBuilder::default());
    assert_eq!(run(&t, &image, &[], "chmod 4755 /bin/busybox; stat -c %a /bin/busybox").ok(), "4755");
    let data = t.data();
    // The canary: root finds both, where a user looks.
    let programs = t.sh(&format!("find {data} -perm -4000"));
    assert_eq!(programs.ok().lines().count(), 2, "{programs}");
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let reach = |command: &str| t.sh(&format!("chmod 755 {0} {data}; {user} sh -c '{command}'", t.scratch()));
    assert_eq!(reach(&format!("find {data} -perm -4000 2>/dev/null || true")).ok(), "");
    for program in programs.ok().lines() {
        let out = reach(&format!("{program} id || echo refused"));
        assert_eq!(out.ok(), "refused");
    }
    assert_eq!(reach("id -u").ok(), "65534");
    // Whoever can open a lock can hold it, and everybody who runs or collects pods waits. Verified: with the store's lock
    // at 0644 below 0755 the command got it.
    let locks = t.sh(&format!(
        "ls -d {data}/cas/lock {data}/pods {data}/pods/run/* 2>/dev/null || ls -d {data}/cas/lock {data}/pods"
    ));
    for lock in locks.ok().lines() {
        let out = reach(&format!("flock -n {lock} echo locked || echo refused"));
        assert_eq!(out.ok(), "refused", "{lock}");
    }
    assert_eq!(reach("ls /run/rkt/seccomp 2>/dev/null || echo refused").ok(), "refused");
}

/// What the one who enters has is not the pod's: variables, descriptors, sessions.
#[test]
fn enter_brings_nothing_along() {
    let t = begin("enter_brings");
    let (child, uuid) = spawn(&t, &plain(&t), &["--memory=64M"], "sleep 1000");
    let script = "ls /proc/self/fd; cat /proc/self/environ; grep -E 'NSpid|NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; cat /proc/self/cgroup";
    let enter = "exec 9</root; TOKEN=secret-of-the-caller exec rkt --dir=$0 enter $1 /bin/sh -c \"$2\"";
    let out = t.run(&["bash", "-c", enter, &t.data(), &uuid, script]);
    assert!(out.ok().starts_with("0\n1\n2\n3\n") && !out.stdout.contains("\n9\n"), "{out}");
    assert!(!out.stdout.contains("secret-of-the-caller"), "{out}");
    assert!(out.stdout.contains("NoNewPrivs:\t1") && out.stdout.contains("Seccomp:\t2"), "{out}");
    // As the host sees it, it is in the app's group and not in its caller's (CVE-2019-10147).
    let sleeper = t.rkt_command(&["enter", &uuid, "/bin/sleep", "7654.75"]).spawn().unwrap();
    let group = "for i in $(seq 100); do p=$(pgrep -f '^/bin/sleep 7654.75$') && break; sleep 0.05; done; grep :memory: /proc/$p/cgroup";
    assert!(t.sh(group).ok().contains(&uuid));
    let limit = t.rkt(&["enter", &uuid, "/bin/sh", "-c", "x=x; while :; do x=$x$x; done"]);
    assert!(limit.code().is_some_and(|code| code != 0), "{limit}");
    let _ = stop(&t, child, &uuid);
    let _ = sleeper.wait(SOON).unwrap();
}

/// The signal for the launcher's end is armed in the app's own process, which can disarm it; then it outlives a killed
/// `rkt run`. Collecting the pod ends it.
///
/// Verified: before `down` killed what is left, the app went on without a pod.
#[test]
fn an_app_that_disarms_its_tether_ends_with_its_pod() {
    let t = begin("tether");
    let image = Registry::shared(Kind::Hybrid).image(Fixture::Python3);
    let python = "import ctypes,time\nctypes.CDLL(None).prctl(1,0)\nprint('up')\ntime.sleep(7654.125)";
    let mut child =
        t.rkt_command(&["run", &image, "--exec=/usr/bin/python3", "--", "-c", python]).spawn().unwrap();
    child.wait_for("up", SOON).unwrap();
    child.signal(9).unwrap();
    let _ = child.wait(SOON).unwrap();
    let alive = || t.sh("pgrep -c -f 'sleep[(]7654.125[)]$' || true").ok().to_owned();
    assert_eq!(alive(), "1", "the canary: it outlived its launcher");
    assert!(t.rkt(&["gc", "--grace-period=0s"]).ok().contains("Garbage collecting pod"));
    assert_eq!(alive(), "0");
}

/// An app without a filter of system calls gets at keys; not at those of whoever started it.
///
/// Verified: with the inherited session keyring the app reads the key.
#[test]
fn keys_of_the_caller_are_not_the_apps() {
    let t = begin("keys");
    // add_key, request_key and keyctl; -3 is the session keyring.
    let (add, request, control) =
        if cfg!(target_arch = "aarch64") { (217, 218, 219) } else { (248, 249, 250) };
    let with_key =
        format!("my @k = qw(user mark secret); syscall({add}, @k, 6, -3) > 0 or die $!; exec @ARGV");
    let read = format!(
        "import ctypes\nl=ctypes.CDLL(None)\nb=ctypes.create_string_buffer(32)\n\
         k=l.syscall({request},b'user',b'mark',0,0)\nl.syscall({control},11,k,b,32,0)\nprint('key',b.value.decode())"
    );
    let look = format!(
        "my @k = qw(user mark); my $b = 'x' x 32; my $k = syscall({request}, @k, 0, 0); \
         syscall({control}, 11, $k, $b, 32, 0); print substr($b, 0, 6)"
    );
    let canary = t.run(&["perl", "-e", &with_key, "perl", "-e", &look]);
    assert_eq!(canary.ok(), "secret", "the canary: whoever starts the pod has the key");
    let image = Registry::shared(Kind::Hybrid).image(Fixture::Python3);
    let data = format!("--dir={}", t.data());
    let flags =
        ["--insecure-options=image,seccomp", "run", &image, "--exec=/usr/bin/python3", "--", "-c", &read];
    let out = t.run(&[&["perl", "-e", &with_key, "rkt", &data], flags.as_slice()].concat());
    assert_eq!(out.ok(), "key", "{out}");
}
