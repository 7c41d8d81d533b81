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
    [&[command], own.as_slice(), of_pod.as_slice(), &app.concat()].concat().into_iter().map(str::to_owned).collect()
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
    assert_eq!(json["count"], 65536);
    u32::try_from(json["first"].as_u64().unwrap()).unwrap()
}

/// The number of the app's process on the host.
fn process(t: &Test<'_>, uuid: &str) -> String {
    let started = t.sh(&format!("cat {}/pods/run/{uuid}/apps/app/attempts/1/started", t.data()));
    let json: serde_json::Value = serde_json::from_str(started.ok()).unwrap();
    json["pid"].to_string()
}

fn root_inside_is_nobody_outside(kind: Kind) {
    let t = Node::shared(kind).test("users");
    let (child, uuid) = spawn(&t, kind, "one", &[]);
    let (first, pid) = (first(&t, &uuid), process(&t, &uuid));
    assert!(first >= 0x7000_0000 && first % 65536 == 0, "{first}");
    let outside = t.sh(&format!("grep -E '^(Uid|Gid|Groups):' /proc/{pid}/status; cat /proc/{pid}/uid_map")).ok().to_owned();
    let id = format!("{first}\t{first}\t{first}\t{first}");
    assert!(outside.starts_with(&format!("Uid:\t{id}\nGid:\t{id}\nGroups:")), "{outside}");
    let map: Vec<_> = outside.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", first.to_string().as_str(), "65536"]);
    // Every namespace is owned by the user namespace, or its own root could not do anything in it.
    for namespace in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let same = t.sh(&format!("readlink /proc/{pid}/ns/{namespace} /proc/self/ns/{namespace} | uniq | wc -l"));
        assert_eq!(same.ok(), "2", "{namespace}");
    }

    let inside = t.rkt(&[
        "enter",
        &uuid,
        "/bin/sh",
        "-c",
        "id -u; id -g; stat -c %u:%g / /bin/busybox /etc/passwd /dev /dev/shm /dev/pts /dev/mqueue /etc/hosts; \
         touch /made; stat -c %u /made; ls /sys/class/net; echo x > /dev/mqueue/q && echo queue; \
         ls /sys/fs/cgroup >/dev/null && echo groups; echo y > /dev/shm/f && cat /dev/shm/f; echo z > /dev/null",
    ]);
    let expected = format!("0\n0\n{}0\nlo\nqueue\ngroups\ny", "0:0\n".repeat(8));
    assert_eq!(inside.ok(), expected, "{inside}");
    let upper = format!("{}/pods/run/{uuid}/apps/app/attempts/1/upper", t.data());
    assert_eq!(t.sh(&format!("stat -c %u:%g {upper} {upper}/made")).ok(), format!("{first}:{first}\n{first}:{first}"));
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
