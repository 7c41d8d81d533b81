//! Members of the group `rkt`: what they may, what they may not, and what they cannot make root do. Real units, real users.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::time::Duration;

use tests::fixtures::Fixture;
use tests::installed::{ONLY_INSTALLED, installed};
use tests::registry::{Access, Content, PASSWORD, Registry, USER};
use tests::{Child, Command, Node, Output, Test};

const SOON: Duration = Duration::from_secs(30);
/// A member of the group.
const MEMBER: u32 = 3001;
/// Nobody special.
const OTHER: u32 = 3002;

/// A node with the units; the members' service listens if `listens`.
fn begin(listens: bool) -> Option<Node> {
    let node = installed().unwrap()?;
    if listens {
        let _ = node.sh("systemctl start rkt-fetch.socket").unwrap().checked().unwrap();
    }
    Some(node)
}

/// A command of a user.
fn command(t: &Test<'_>, uid: u32, words: &[&str]) -> Command {
    let groups = if uid == MEMBER { "--groups=$(getent group rkt | cut -d: -f3)" } else { "--clear-groups" };
    let script = format!(
        "mkdir -p /home/{uid}; chown {uid} /home/{uid}; cd /home/{uid}
         exec setpriv --reuid={uid} --regid={uid} {groups} {ONLY_INSTALLED} HOME=/home/{uid} \"$@\""
    );
    t.command(&["bash", "-euc", &script, "as-user"]).args(words)
}

fn as_user(t: &Test<'_>, uid: u32, words: &[&str]) -> Output {
    command(t, uid, words).run().unwrap()
}

fn member(t: &Test<'_>, words: &[&str]) -> Output {
    as_user(t, MEMBER, words)
}

/// Waits until no request is being answered.
fn wait_until_idle(t: &Test<'_>) {
    let idle = "while systemctl list-units --no-legend --plain 'rkt-fetch@*' | grep -q .; do sleep 0.1; done";
    let out = t.command(&["bash", "-c", idle]).timeout(SOON).run().unwrap();
    assert!(out.success(), "{out}");
}

#[test]
fn members_fetch_and_look_and_no_more() {
    let Some(node) = begin(false) else { return };
    let t = node.test("members_fetch");
    let registry = Registry::start(&node).unwrap();
    let image = registry.image(Fixture::Busybox);

    let closed = member(&t, &["rkt", "fetch", &image]);
    assert!(closed.fails_with(254).contains("systemctl enable --now rkt-fetch.socket"), "{closed}");
    let _ = t.sh("systemctl start rkt-fetch.socket").ok();
    let fetched = member(&t, &["rkt", "fetch", "--full", "--progress=json", &image]);
    let id = fetched.ok().trim().to_owned();
    assert!(id.starts_with("sha256-") && id.len() == 7 + 64, "{fetched}");
    let steps: Vec<serde_json::Value> =
        fetched.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.first().unwrap()["event"], "resolving");
    assert_eq!(steps.iter().filter(|s| s["event"] == "layer" && s["state"] == "done").count(), 2);
    assert_eq!(
        (&steps.last().unwrap()["event"], &steps.last().unwrap()["id"]),
        (&"done".into(), &id.clone().into())
    );
    let again = member(&t, &["rkt", "fetch", "--pull-policy=never", &image]);
    assert_eq!(again.ok().trim(), &id[..7 + 32]);
    let missing = member(&t, &["rkt", "fetch", &format!("{image}-missing")]);
    assert!(missing.fails_with(254).starts_with("fetch: "), "{missing}");

    let listed = member(&t, &["rkt", "image", "list", "--full", "--no-legend"]);
    assert!(listed.ok().contains(&id) && listed.ok().contains(&image), "{listed}");
    let run = format!(
        "{ONLY_INSTALLED} rkt run --net=none --pull-policy=never {image} --exec=/bin/echo -- it runs"
    );
    assert_eq!(t.sh(&run).ok(), "it runs");

    for hidden in ["cas/tree", "cas/tmp", "pods"] {
        assert!(!member(&t, &["ls", &format!("/var/lib/rkt/{hidden}")]).success(), "{hidden} is open");
    }
    assert!(
        !member(&t, &["flock", "--nonblock", "/var/lib/rkt/cas/lock", "true"]).success(),
        "a member holds locks"
    );
    assert!(!member(&t, &["touch", "/var/lib/rkt/cas/image/x"]).success(), "a member writes into the store");
    for verb in ["rm", "gc"] {
        let out = member(&t, &["rkt", "image", verb, &id]);
        assert_eq!(out.fails_with(254), format!("{verb}: cannot run as unprivileged user"));
    }
    let out = as_user(&t, OTHER, &["rkt", "fetch", &image]);
    assert!(out.fails_with(254).contains("members of the group rkt"), "{out}");
    let out = as_user(&t, OTHER, &["rkt", "image", "list"]);
    assert!(out.fails_with(254).contains("members of the group rkt"), "{out}");
    // No daemon: what answered has ended.
    wait_until_idle(&t);
    let _ = t.sh("! pgrep -x rkt").ok();
}

#[test]
fn what_weakens_is_roots_to_grant() {
    let Some(node) = begin(true) else { return };
    let t = node.test("what_weakens");
    let registry = Registry::start(&node).unwrap();
    let image = registry.image(Fixture::Busybox);
    for (flag, sentence) in [
        ("--insecure-options=http", "for root, or whom root lets"),
        ("--insecure-options=image,http", "for root, or whom root lets"),
        ("--dir=/tmp/mine", "fetches into /var/lib/rkt"),
        ("--system-config=/tmp", "is for root"),
        ("--local-config=/tmp", "is for root"),
        ("--trust-keys-from-https", "is for root"),
    ] {
        let out = member(&t, &["rkt", "fetch", flag, &image]);
        assert!(out.fails_with(254).contains(sentence), "{flag}: {out}");
    }
    assert_eq!(t.sh(&format!("{ONLY_INSTALLED} rkt image list --no-legend")).stdout.trim(), "");
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/rkt unit fetch --insecure-options=http\n";
    t.write_file("/etc/systemd/system/rkt-fetch@.service.d/http.conf", drop_in);
    let _ = t.sh("systemctl daemon-reload").ok();
    let _ = member(&t, &["rkt", "fetch", "--insecure-options=http", &image]).ok();
    let more = member(&t, &["rkt", "fetch", "--insecure-options=http,pubkey", &image]);
    assert!(more.fails_with(254).contains("--insecure-options=pubkey"), "{more}");
}

#[test]
fn credentials_are_the_members_own() {
    let Some(node) = begin(true) else { return };
    let t = node.test("credentials");
    let registry = Registry::start_with(&node, Content::Nothing, Access::Password).unwrap();
    let image = registry.image(Fixture::Busybox);
    let layout = Fixture::Busybox.layout().unwrap().display().to_string();
    let push = format!(
        "skopeo copy --insecure-policy --dest-tls-verify=false --dest-creds {USER}:{PASSWORD} oci:{layout}:1 docker://{image}"
    );
    let _ = t.sh(&push).ok();
    // Root's own are not lent.
    let address = &registry.address;
    let auth = format!(
        r#"{{"rktKind":"dockerAuth","rktVersion":"v1","registries":["{address}"],"credentials":{{"user":"{USER}","password":"{PASSWORD}"}}}}"#
    );
    t.write_file("/etc/rkt/auth.d/root.json", auth);
    let out = member(&t, &["rkt", "fetch", &image]);
    assert!(!out.success() && !out.stderr.contains(PASSWORD), "{out}");
    let docker = format!(
        r#"{{"auths":{{"{address}":{{"auth":"{}"}}}}}}"#,
        t.sh(&format!("printf %s {USER}:{PASSWORD} | base64")).ok().trim()
    );
    t.write_file(&format!("/home/{MEMBER}/.docker/config.json"), docker);
    let _ = member(&t, &["rkt", "fetch", &image]).ok();
    let log = t.sh("journalctl --no-pager -o cat -u 'rkt-fetch@*'");
    assert!(log.ok().contains(&format!("uid {MEMBER} has image")) && !log.ok().contains(PASSWORD), "{log}");
}

#[test]
fn archives_are_read_as_the_member_reads_them() {
    let Some(node) = begin(true) else { return };
    let t = node.test("archives");
    let layout = Fixture::Busybox.layout().unwrap().display().to_string();
    let make = format!(
        "mkdir -p /home/{MEMBER} /srv/private; cd /srv/private
         skopeo copy --insecure-policy oci:{layout}:1 docker-archive:/srv/private/a.tar:example.org/a:1
         install -o {MEMBER} -m 0600 a.tar /home/{MEMBER}/a.tar; chmod 0600 a.tar; chmod 0755 ."
    );
    let _ = t.sh(&make).ok();
    // The service does not even see home directories.
    let id = member(&t, &["rkt", "fetch", "--full", "docker-archive:a.tar"]).ok().trim().to_owned();
    assert!(id.starts_with("sha256-"), "{id}");
    // Nor does the member's path become a name.
    let listed = t.sh(&format!("{ONLY_INSTALLED} rkt image list --full --no-legend"));
    assert!(listed.ok().contains(&id) && !listed.ok().contains("archive:"), "{listed}");
    let out = member(&t, &["rkt", "fetch", "docker-archive:/srv/private/a.tar"]);
    assert!(out.fails_with(254).contains("cannot open /srv/private/a.tar: Permission denied"), "{out}");
    let out = member(&t, &["rkt", "fetch", &format!("oci:{layout}")]);
    assert!(out.fails_with(254).contains("a directory cannot be handed"), "{out}");
    t.write_file(&format!("/home/{MEMBER}/b.tar"), "no archive at all");
    let out = member(&t, &["rkt", "fetch", "docker-archive:b.tar"]);
    assert!(!out.success() && !out.stderr.contains("/proc/"), "{out}");
}

/// A client that is no friend: what it sends, and with which descriptors, is its arguments' business.
const HOSTILE: &str = r#"
import json, os, socket, sys
what, image = sys.argv[1], sys.argv[2]
request = {"v": 1, "image": image, "pullPolicy": "update", "dir": "/var/lib/rkt"}
s = socket.socket(socket.AF_UNIX)
s.connect("/run/rkt/fetch.sock")
fds = []
if what == "path-only": fds = [os.open(sys.argv[3], os.O_PATH)]
if what == "proc": fds = [os.open("/proc/self/environ", os.O_RDONLY)]
if what == "two": fds = [os.open("/dev/null", os.O_RDONLY)] * 2
if what == "unknown": request["configDir"] = "/tmp"
if what == "newer": request["v"] = 2
line = json.dumps(request).encode() + b"\n"
if what == "long": line = b" " * (1 << 20)
if what == "junk": line = b"\xff\xfe<0>root: all is lost\n"
try:
    socket.send_fds(s, [line[:4096]], fds) if fds else s.sendall(line)
except BrokenPipeError:
    pass
if what == "cut": s.shutdown(socket.SHUT_WR)
s.settimeout(60)
answer = b""
while True:
    try:
        part = s.recv(65536)
    except ConnectionResetError:
        break
    if not part: break
    answer += part
sys.stdout.write(answer.decode())
"#;

fn hostile(t: &Test<'_>, words: &[&str]) -> Output {
    member(t, &[&["python3", "-c", HOSTILE], words].concat())
}

#[test]
fn a_hostile_member_gets_sentences_and_nothing_else() {
    let Some(node) = begin(true) else { return };
    let t = node.test("hostile_member");
    let layout = Fixture::Busybox.layout().unwrap().display().to_string();
    let _ = t
        .sh(&format!(
            "skopeo copy --insecure-policy oci:{layout}:1 docker-archive:/srv/a.tar:example.org/a:1; chmod 0600 /srv/a.tar"
        ))
        .ok();
    let archive = "docker-archive:/srv/a.tar";
    for (words, sentence) in [
        // Root could read it; the member only knows where it is.
        (&["plain", archive][..], "no open file came with the request"),
        (&["path-only", archive, "/srv/a.tar"], "no regular file that was opened for reading"),
        (&["proc", archive], "no regular file that was opened for reading"),
        (&["two", archive], "more than one open file"),
        (&["plain", "oci:/srv"], "a directory cannot be handed"),
        (&["proc", "127.0.0.1:1/a"], "the image is in none"),
        (&["unknown", archive], "cannot understand the request"),
        (&["newer", archive], "of version 2"),
        (&["long", archive], "longer than"),
        (&["junk", archive], "cannot understand the request"),
    ] {
        let out = hostile(&t, words);
        assert!(out.ok().contains(r#""event":"error""#) && out.ok().contains(sentence), "{words:?}: {out}");
    }
    let injected = hostile(&t, &["plain", "a\n<0>root: all is lost\u{1b}[2J"]);
    assert!(injected.ok().contains(r#""event":"error""#), "{injected}");
    wait_until_idle(&t);
    let log = t.sh("journalctl --no-pager -o cat -u 'rkt-fetch@*'");
    assert!(
        !log.ok().lines().any(|line| line.contains("all is lost") && !line.starts_with("fetch: ")),
        "{log}"
    );
    assert!(!log.ok().contains('\u{1b}'), "{log}");
    let urgent = t.sh("journalctl --no-pager -o cat -p emerg -u 'rkt-fetch@*'");
    assert!(!urgent.stdout.contains("lost"), "{urgent}");
    assert_eq!(t.sh(&format!("{ONLY_INSTALLED} rkt image list --no-legend")).stdout.trim(), "");
}

#[test]
fn a_user_has_a_few_fetches_and_none_without_a_listener() {
    let Some(node) = begin(true) else { return };
    let t = node.test("a_few_fetches");
    // Something that takes connections and never answers.
    let _ = t
        .sh("systemd-run --quiet --unit=mute --socket-property=ListenStream=127.0.0.1:6999 sleep infinity")
        .ok();
    let asked = |child: &mut Child| child.wait_for("resolving", SOON).unwrap();
    let mut pending: Vec<Child> = Vec::new();
    for at in 0..4 {
        let image = format!("127.0.0.1:6999/a{at}");
        let words = ["sh", "-c", "exec rkt fetch --progress=json \"$0\" 2>&1", &image];
        let mut child = command(&t, MEMBER, &words).spawn().unwrap();
        asked(&mut child);
        pending.push(child);
    }
    let refused = member(&t, &["rkt", "fetch", "127.0.0.1:6999/b"]);
    assert!(refused.fails_with(254).contains("4 fetches under way"), "{refused}");
    for child in pending {
        let _ = child.kill().unwrap();
    }
    // Nobody waits for them: they end, long before the registry's silence is over.
    wait_until_idle(&t);
    let log = t.sh("journalctl --no-pager -o cat -u 'rkt-fetch@*'");
    assert_eq!(log.ok().matches("nobody waits for the image any more").count(), 4, "{log}");
}

#[test]
fn the_timer_collects_images() {
    let Some(node) = begin(false) else { return };
    let t = node.test("image_gc_timer");
    let registry = Registry::start(&node).unwrap();
    let image = registry.image(Fixture::Busybox);
    let _ = t.sh(&format!("{ONLY_INSTALLED} rkt fetch {image}")).ok();
    t.write_file(
        "/etc/systemd/system/rkt-image-gc.timer.d/now.conf",
        "[Timer]\nOnActiveSec=1ms\nAccuracySec=1ms\nRandomizedDelaySec=0\n",
    );
    t.write_file(
        "/etc/systemd/system/rkt-image-gc.service.d/all.conf",
        "[Service]\nEnvironment=GRACE_PERIOD=0s\n",
    );
    let _ = t.sh("systemctl daemon-reload; systemctl start rkt-image-gc.timer").ok();
    let gone = "until [ -z \"$(rkt image list --no-legend)\" ]; do sleep 0.1; done";
    let out = t.command(&["bash", "-c", gone]).timeout(SOON).run().unwrap();
    assert!(out.success(), "{out}");
    let _ = t.sh("until [ -z \"$(ls /var/lib/rkt/cas/tree)\" ]; do sleep 0.1; done").ok();
    assert_ne!(t.sh("systemctl is-failed rkt-image-gc.service || true").stdout.trim(), "failed");
}
