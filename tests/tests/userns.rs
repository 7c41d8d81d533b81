//! Pods with users of their own (`--private-users`): who is who inside and outside, whose the files are, and what root in
//! such a pod cannot do to the host.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::time::Duration;

use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Child, Kind, Node, Output, Test};

const SOON: Duration = Duration::from_secs(60);
const FOREVER: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn image(kind: Kind) -> String {
    Registry::shared(kind).image(Fixture::Busybox)
}

fn words(kind: Kind, command: &str, flags: &[&str], script: &str) -> Vec<String> {
    let (image, own) = (image(kind), ["--private-users"]);
    let (of_app, of_pod): (Vec<&str>, Vec<&str>) =
        flags.iter().partition(|f| ["--mount", "--user", "--caps"].iter().any(|own| f.starts_with(own)));
    let app = [&[image.as_str(), "--name=app"], of_app.as_slice(), &["--exec=/bin/sh", "--", "-c", script]];
    [&[command], own.as_slice(), of_pod.as_slice(), &app.concat()]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn rkt(t: &Test<'_>, words: &[String]) -> Output {
    t.rkt(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn run(t: &Test<'_>, kind: Kind, flags: &[&str], script: &str) -> Output {
    rkt(t, &words(kind, "run", flags, script))
}

/// A pod that stays, and its UUID.
fn spawn(t: &Test<'_>, kind: Kind, name: &str, flags: &[&str]) -> (Child, String) {
    let file = format!("{}/{name}", t.scratch());
    let save = format!("--uuid-file-save={file}");
    let words = words(kind, "run", &[&[save.as_str()], flags].concat(), &format!("echo up; {FOREVER}"));
    let mut child = t.rkt_command(&words.iter().map(String::as_str).collect::<Vec<_>>()).spawn().unwrap();
    child.wait_for("up", SOON).unwrap();
    (child, String::from_utf8(t.read_file(&file)).unwrap())
}

fn stop(t: &Test<'_>, child: Child, uuid: &str) {
    let _ = t.rkt(&["stop", "--force", uuid]).ok();
    let _ = child.wait(SOON).unwrap();
}

/// The first of the pod's ids, in whatever phase it is.
fn first(t: &Test<'_>, uuid: &str) -> u32 {
    let text = t.sh(&format!("cat {}/pods/*/{uuid}/users.json", t.data()));
    let json: serde_json::Value = serde_json::from_str(text.ok()).unwrap();
    assert_eq!(json.get("count").unwrap().as_u64(), Some(65536));
    u32::try_from(json.get("first").and_then(|first| first.as_u64()).unwrap()).unwrap()
}

/// The number of the app's process on the host.
fn process(t: &Test<'_>, uuid: &str) -> String {
    let started = t.sh(&format!("cat {}/pods/run/{uuid}/apps/app/attempts/1/started", t.data()));
    let json: serde_json::Value = serde_json::from_str(started.ok()).unwrap();
    json.get("pid").unwrap().to_string()
}

fn root_inside_is_nobody_outside(kind: Kind) {
    let t = Node::shared(kind).test("users");
    let (child, uuid) = spawn(&t, kind, "one", &[]);
    let (first, pid) = (first(&t, &uuid), process(&t, &uuid));
    assert!(first >= 0x7000_0000 && first % 65536 == 0, "{first}");
    let outside = t
        .sh(&format!("grep -E '^(Uid|Gid|Groups):' /proc/{pid}/status; cat /proc/{pid}/uid_map"))
        .ok()
        .to_owned();
    let id = format!("{first}\t{first}\t{first}\t{first}");
    assert!(outside.starts_with(&format!("Uid:\t{id}\nGid:\t{id}\nGroups:")), "{outside}");
    let map: Vec<_> = outside.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", first.to_string().as_str(), "65536"]);
    // Every namespace is owned by the user namespace, or its own root could not do anything in it.
    for namespace in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let same =
            t.sh(&format!("readlink /proc/{pid}/ns/{namespace} /proc/self/ns/{namespace} | uniq | wc -l"));
        assert_eq!(same.ok(), "2", "{namespace}");
    }

    let inside = t.rkt(&[
        "enter",
        &uuid,
        "/bin/sh",
        "-c",
        "id -u; id -g; stat -c %u:%g / /bin/busybox /etc/passwd /dev /dev/shm /dev/pts /dev/mqueue /etc/hosts; \
         touch /made; stat -c %u /made; ls /sys/class/net; touch /dev/mqueue/q && echo queue; \
         ls /sys/fs/cgroup >/dev/null && echo groups; echo y > /dev/shm/f && cat /dev/shm/f; echo z > /dev/null",
    ]);
    let expected = format!("0\n0\n{}0\nlo\nqueue\ngroups\ny", "0:0\n".repeat(8));
    assert_eq!(inside.ok(), expected, "{inside}");
    let upper = format!("{}/pods/run/{uuid}/apps/app/attempts/1/upper", t.data());
    assert_eq!(
        t.sh(&format!("stat -c %u:%g {upper} {upper}/made")).ok(),
        format!("{first}:{first}\n{first}:{first}")
    );
    stop(&t, child, &uuid);
    // The trees of the store are whose they were.
    assert_eq!(t.sh(&format!("find {}/cas/tree -uid +0 -o -gid +300 | wc -l", t.data())).ok(), "0");
}

#[test]
fn root_inside_is_nobody_outside_on_a_hybrid_node() {
    root_inside_is_nobody_outside(Kind::Hybrid);
}

#[test]
fn root_inside_is_nobody_outside_on_a_unified_node() {
    root_inside_is_nobody_outside(Kind::Unified);
}

/// Two pods at once: other ids, the same trees.
#[test]
fn pods_have_ids_of_their_own_and_share_the_trees() {
    let kind = Kind::Hybrid;
    let t = Node::shared(kind).test("two_pods");
    let ((one, a), (two, b)) = (spawn(&t, kind, "a", &[]), spawn(&t, kind, "b", &[]));
    assert_ne!(first(&t, &a), first(&t, &b));
    let layers = |uuid: &str| {
        let text = t.read_file(&format!("{}/pods/run/{uuid}/apps/app/image.json", t.data()));
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["layers"].clone()
    };
    assert_eq!(layers(&a), layers(&b));
    for (child, uuid) in [(one, a), (two, b)] {
        stop(&t, child, &uuid);
    }
    let _ = t.rkt(&["gc", "--grace-period=0s"]).ok();
    assert_eq!(t.sh(&format!("find {}/pods -name users.json", t.data())).ok(), "");
}

/// What is free follows from the pods that exist: here there is one range, and `prepare` is killed again and again.
#[test]
fn a_killed_prepare_leaves_no_range_behind() {
    let node = Node::boot(Kind::Hybrid).unwrap();
    let t = node.test("killed_prepare");
    let _ = t.sh("echo rkt:1900544000:65536 | tee /etc/subuid > /etc/subgid").ok();
    let layout = Fixture::Busybox.layout().unwrap();
    let prepare = format!("rkt --dir={} prepare --private-users oci:{}:1", t.data(), layout.display());
    let _ = t.sh(&format!("{prepare}; rkt --dir={} rm $(rkt --dir={} list --format=json | grep -o '[0-9a-f-]\\{{36\\}}' | head -1)", t.data(), t.data())).ok();
    let mut reserved = 0;
    for millis in 1..25 {
        let _ = t.sh(&format!("timeout -s KILL 0.{millis:03} {prepare} || true"));
        let left = t.sh(&format!("find {}/pods -name users.json | wc -l", t.data()));
        reserved += usize::from(left.ok() != "0");
        let _ = t.rkt(&["gc", "--expire-prepared=0s", "--grace-period=0s"]).ok();
    }
    assert!(reserved > 0, "no kill came after the reservation: the test tests nothing");
    let uuid = t.sh(&prepare).ok().lines().last().unwrap().to_owned();
    assert_eq!(first(&t, &uuid), 1_900_544_000);
    let full = t.sh(&format!("{prepare} || true"));
    assert!(full.stderr.contains("all 1 ranges of ids are taken by pods"), "{full}");
    let _ = t.sh("echo > /etc/subgid").ok();
    let odd = t.sh(&format!("{prepare} || true"));
    assert!(odd.stderr.contains("/etc/subuid and /etc/subgid give the user \"rkt\" no 65536 ids"), "{odd}");
}

/// Root of the pod, broken out of everything but the user namespace: with the host's files, processes and network.
#[test]
fn root_of_a_pod_can_do_nothing_to_the_host() {
    let kind = Kind::Hybrid;
    let t = Node::shared(kind).test("broken_out");
    let secret = format!("{}/secret", t.scratch());
    let _ = t.sh(&format!("echo secret > {secret}; chmod 600 {secret}; mkdir {}/dir", t.scratch())).ok();
    let (victim, victims) = spawn(&t, kind, "victim", &[]);
    let (child, uuid) = spawn(&t, kind, "attacker", &[]);
    let (pid, other) = (process(&t, &uuid), process(&t, &victims));
    let data = t.data();
    let script = format!(
        "id -u; cat {secret} && echo read; echo x > {secret} && echo written; touch {0}/dir/x && echo made; \
         chmod 777 {secret} && echo changed; kill -0 1 && echo killed; kill -0 {other} && echo killed other; \
         ls /proc/1/fd > /dev/null && echo looked; ls /proc/{other}/fd > /dev/null && echo looked at other; \
         nsenter -t {other} -n true && echo joined; ls {data}/cas && echo store; hostname x && echo named; \
         mount -t tmpfs x /mnt && echo mounted; mknod {0}/dir/d c 1 3 && echo node; ip link add x type veth && echo link; \
         echo 1 > /proc/sys/kernel/sysrq && echo sysctl; chroot / true && echo chroot; true",
        t.scratch()
    );
    let words = ["nsenter", "-t", &pid, "-U", "-S", "0", "-G", "0", "bash", "-c", &script];
    // chroot(2) is the canary: root of a user namespace may do it, and nobody else.
    assert_eq!(t.run(&words).stdout.trim(), "0\nchroot");
    stop(&t, child, &uuid);
    stop(&t, victim, &victims);
}

/// A set-id program of the pod's root is nobody's on the host; a device node of the image is none, even for CAP_SYS_ADMIN.
#[test]
fn set_id_programs_and_device_nodes_of_an_image_give_nothing() {
    let kind = Kind::Hybrid;
    let t = Node::shared(kind).test("set_id");
    let _ = t.rkt(&["fetch", &image(kind)]).ok();
    // As a hostile layer would have it; the store itself takes no device nodes out of archives.
    let _ = t
        .sh(&format!(
            "cd $(dirname $(find {}/cas/tree -path '*/rootfs/usr/bin/busybox')); \
         mknod zero c 1 5; chmod 666 zero; cp busybox foreign; chown 70000:70000 foreign; chmod 755 foreign; \
         head -c 1 zero | wc -c",
            t.data()
        ))
        .ok();
    let script = "head -c 1 /usr/bin/zero && echo device; mount -o remount,dev / && echo remounted; head -c 1 /usr/bin/zero && echo device; \
        mkdir /t; mount -t tmpfs t /t && echo tmpfs; mknod /t/z c 1 5 && echo node; \
        stat -c %u:%g /usr/bin/foreign; head -c 4 /usr/bin/foreign | wc -c; chown 0 /usr/bin/foreign && echo taken; true";
    let out = run(&t, kind, &["--caps-retain=CAP_SYS_ADMIN,CAP_MKNOD,CAP_CHOWN,CAP_DAC_OVERRIDE"], script);
    assert_eq!(out.stdout.trim(), "tmpfs\n65534:65534\n4", "{out}");

    let (child, uuid) = spawn(&t, kind, "one", &[]);
    let made = "cp /usr/bin/busybox /mine; chmod 4755 /mine; stat -c %u:%a /mine";
    assert_eq!(t.rkt(&["enter", &uuid, "/bin/sh", "-c", made]).ok(), "0:4755");
    let mine = format!("{}/pods/run/{uuid}/apps/app/attempts/1/upper/mine", t.data());
    // On the host it is a set-id program of the pod's root, who is nobody there.
    let first = first(&t, &uuid);
    assert_eq!(t.run(&["stat", "-c", "%u:%g:%a", &mine]).ok(), format!("{first}:{first}:4755"));
    stop(&t, child, &uuid);
}

/// Owners in volumes are the same in the pod as on the host; where the kernel cannot do that, it says so.
#[test]
fn volumes_keep_their_owners_or_are_refused() {
    let kind = Kind::Hybrid;
    let t = Node::shared(kind).test("volumes");
    let host = format!("{}/host", t.scratch());
    let _ = t
        .sh(&format!(
            "mkdir {host}; touch {host}/roots; touch {host}/www; chown 33:33 {host}/www; chmod 755 {host}"
        ))
        .ok();
    let volumes = [
        &format!("--volume=h,kind=host,source={host}"),
        &format!("--volume=r,kind=host,source={host},readOnly=true"),
        "--volume=e,kind=empty,uid=100,gid=101,mode=0700",
        "--mount=volume=h,target=/h",
        "--mount=volume=r,target=/r",
        "--mount=volume=e,target=/e",
    ];
    let script = "stat -c %u:%g /h/roots /h/www /e; touch /h/made /e/made; chown 100 /h/made; touch /r/x || echo read-only";
    let out = run(&t, kind, &volumes, script);
    assert_eq!(out.stdout.trim(), "0:0\n33:33\n100:101\nread-only", "{out}");
    assert_eq!(t.sh(&format!("stat -c %u:%g {host}/made")).ok(), "100:0");

    let refused =
        run(&t, kind, &["--volume=s,kind=host,source=/proc/tty", "--mount=volume=s,target=/s"], "true");
    assert!(refused.fails_with(226).contains("the kernel cannot map ids on its file system"), "{refused}");
    let beyond = run(&t, kind, &["--volume=e,kind=empty,uid=65536", "--mount=volume=e,target=/e"], "true");
    assert!(beyond.stderr.contains("65536:0 are not among the 65536 ids"), "{beyond}");
    let user = run(&t, kind, &["--user=70000"], "true");
    assert!(user.fails_with(217).contains("70000 is not among the 65536"), "{user}");
    for flag in ["--net=host", "--ipc=parent"] {
        let host = run(&t, kind, &[flag], "true");
        assert!(host.stderr.contains("--private-users cannot have the host's"), "{host}");
    }
}

/// Users of the image by name, their groups, and output that is opened by name.
#[test]
fn users_of_the_image_are_the_pods() {
    let kind = Kind::Hybrid;
    let t = Node::shared(kind).test("image_users");
    let script = "id -u; id -g; id -G; echo out > /dev/stdout; grep -E '^(CapEff|Seccomp:|NoNewPrivs)' /proc/self/status";
    let out = run(&t, kind, &["--user=www-data"], script);
    assert_eq!(
        out.stdout.trim(),
        "33\n33\n33 200\nout\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2",
        "{out}"
    );
}

fn under_systemd(kind: Kind) {
    let t = Node::shared(kind).test("users_units");
    let prepared = rkt(
        &t,
        &words(kind, "prepare", &["--user=www-data"], "id -u; echo complaint >&2; sleep 2; echo late"),
    );
    let (uuid, data) = (prepared.ok().lines().last().unwrap().to_owned(), t.data());
    let (first, unit) = (first(&t, &uuid), format!("rkt-{uuid}-app.service"));
    let _ = t.sh(&format!(
        "systemd-run --quiet --unit=rkt-{uuid}.service -pType=oneshot -pRemainAfterExit=yes -pNotifyAccess=all \
             -pFileDescriptorStoreMax=16 -- $(command -v rkt) --dir={data} unit up {uuid}
         systemd-run --quiet --unit={unit} -pType=notify -pNotifyAccess=all -pEnvironment=RKT_INTERFACE_VERSION=1 -- \
             $(command -v stage1-ns) app {data}/pods/run/{uuid} app"
    )).ok();
    let pid = t.run(&["systemctl", "show", "-P", "MainPID", &unit]).ok().to_owned();
    let status = t.sh(&format!("grep ^Uid: /proc/{pid}/status"));
    assert!(status.ok().starts_with(&format!("Uid:\t{}", first + 33)), "{status}");
    let _ = t.sh(&format!("while systemctl is-active -q {unit}; do sleep 0.1; done; journalctl --sync")).ok();
    let log = t.sh(&format!("journalctl -o cat -u {unit} SYSLOG_IDENTIFIER=app"));
    assert_eq!(log.ok(), "33\ncomplaint\nlate");
    let _ = t.run(&["systemctl", "stop", &format!("rkt-{uuid}.service")]).ok();
}

#[test]
fn under_systemd_on_a_hybrid_node() {
    under_systemd(Kind::Hybrid);
}

#[test]
fn under_systemd_on_a_unified_node() {
    under_systemd(Kind::Unified);
}

/// Linux 6.1 cannot map ids on tmpfs, and can on ext4; there, layers that are mounted nowhere are no layers.
#[test]
fn on_an_older_kernel() {
    let kind = Kind::Vm;
    let t = Node::shared(kind).test("users_vm");
    let refused = run(&t, kind, &[], "true");
    assert!(refused.fails_with(226).contains("the kernel cannot map ids on its file system"), "{refused}");
    let data = t.data();
    let _ = t.sh(&format!(
        "rm -rf {data}; mkdir {data}; truncate -s 200M /tmp/ext4; mkfs.ext4 -q /tmp/ext4; mount -o loop /tmp/ext4 {data}"
    )).ok();
    let out = run(
        &t,
        kind,
        &[],
        "id -u; stat -c %u /bin/busybox; cat /proc/self/uid_map | wc -l; ls /sys/fs/cgroup/cgroup.procs",
    );
    assert_eq!(out.ok(), "0\n0\n1\n/sys/fs/cgroup/cgroup.procs", "{out}");
    let _ = t.run(&["umount", &data]);
}
