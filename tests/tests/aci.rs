//! ACIs from the command line: fetched, signed, run, listed, described, removed. What can be in an archive and what servers
//! do is tested where the library is.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use serde_json::{Value, json};
use tests::{Kind, Node, Output, Test};

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

fn manifest(name: &str, version: &str, more: &Value) -> Value {
    let mut value = json!({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": format!("example.com/{name}"),
        "labels": [{"name": "version", "value": version}, {"name": "os", "value": "linux"},
        {"name": "arch", "value": "amd64"}]});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

/// Makes `NAME.aci` in the test's scratch directory from what `script` puts into `rootfs`, and returns its path.
fn build(t: &Test<'_>, manifest: &Value, script: &str, compress: &str) -> String {
    let name = manifest["name"].as_str().unwrap().rsplit('/').next().unwrap();
    let dir = format!("{}/build-{name}", t.scratch());
    t.write_file(&format!("{dir}/manifest"), manifest.to_string());
    let file = format!("{}/{name}.aci", t.scratch());
    let script = format!("cd {dir}; mkdir -p rootfs; {script}; tar c manifest rootfs | {compress} > {file}");
    let _ = t.sh(&format!("set -e; {script}")).ok();
    file
}

/// A shell that prints what the test looks at.
const SHELL: &str =
    "mkdir -p rootfs/bin rootfs/etc; cp /bin/busybox rootfs/bin/busybox; ln -sf busybox rootfs/bin/sh";

fn app(script: &str) -> Value {
    json!({"app": {"exec": ["/bin/sh", "-c", script], "user": "0", "group": "0",
        "environment": [{"name": "GREETING", "value": "hello"}]}})
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(output.ok()).unwrap()
}

const INSECURE: &str = "--insecure-options=image";

#[test]
fn an_aci_is_fetched_run_listed_described_and_removed() {
    let t = begin("aci_life");
    let content = manifest("life", "1.0", &app("echo $GREETING $AC_APP_NAME"));
    let file = build(&t, &content, SHELL, "xz");
    let short = t.rkt(&[INSECURE, "fetch", &file]).ok().to_owned();
    let id = t.rkt(&[INSECURE, "fetch", "--full", &file]).ok().to_owned();
    let sum = t.sh(&format!("xz -dc < {file} | sha512sum | cut -c1-128")).ok().to_owned();
    assert_eq!((id.as_str(), short.as_str()), (format!("sha512-{sum}").as_str(), &id[..7 + 32]));
    for word in ["example.com/life:1.0", "example.com/life", "aci:example.com/life", &short, &file] {
        let output = t.rkt(&[INSECURE, "run", word]);
        assert!(output.ok().ends_with("hello life"), "{word}: {output}");
    }
    let shown = json_of(&t.rkt(&["image", "list", "--format=json"]));
    assert_eq!(
        (shown[0]["id"].as_str(), shown[0]["name"].as_str()),
        (Some(id.as_str()), Some("example.com/life:1.0"))
    );
    let printed = json_of(&t.rkt(&["image", "cat-manifest", "example.com/life:1.0"]));
    assert_eq!((&printed["name"], &printed["app"]["exec"]), (&content["name"], &content["app"]["exec"]));
    let pods = json_of(&t.rkt(&["list", "--format=json"]));
    assert_eq!(pods[0]["apps"][0]["image_id"], id.as_str());
    let used = t.rkt(&["image", "rm", &short]);
    assert!(used.fails_with(254).contains("is used by pod"), "{used}");
    let _ = t.rkt(&["gc", "--grace-period=0s"]).ok();
    let _ = t.rkt(&["gc", "--grace-period=0s"]).ok();
    assert!(t.rkt(&["image", "rm", &short]).ok().contains(&id));
    assert_eq!(json_of(&t.rkt(&["image", "list", "--format=json"])), json!([]));
}

#[test]
fn what_an_acis_app_asks_for_is_what_it_gets() {
    let t = begin("aci_app");
    let mut wish = app("id -u; id -g; pwd; echo $PWD; ls /data; cat /proc/self/oom_score_adj; ls /base /own");
    let changes = json!({"user": "/srv/owned", "group": "staff", "workingDirectory": "/srv",
        "mountPoints": [{"name": "data", "path": "/data"}],
        "isolators": [{"name": "os/linux/oom-score-adj", "value": 500}]});
    wish["app"].as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    wish["dependencies"] = json!([{"imageName": "example.com/base"}]);
    let base =
        build(&t, &manifest("base", "2", &json!({})), &format!("{SHELL}; echo b > rootfs/base"), "gzip");
    let own = "mkdir -p rootfs/srv rootfs/etc; touch rootfs/srv/owned; chown 1234 rootfs/srv/owned; \
        echo staff:x:50: > rootfs/etc/group; echo o > rootfs/own";
    let file = build(&t, &manifest("asks", "1", &wish), own, "cat");
    let volume = format!("{}/volume", t.scratch());
    t.write_file(&format!("{volume}/file"), "x");
    // Everything beneath comes first.
    let _ = t.rkt(&[INSECURE, "fetch", &base]).ok();
    let output = t.rkt(&[INSECURE, "run", &format!("--volume=data,kind=host,source={volume}"), &file]);
    let lines: Vec<&str> = output.ok().lines().map(|line| line.rsplit(": ").next().unwrap()).collect();
    assert_eq!(lines, ["1234", "50", "/srv", "/srv", "file", "500", "/base", "/own"], "{output}");
}

#[test]
fn an_aci_that_cannot_run_here_is_refused_before_there_is_a_pod() {
    let t = begin("aci_refused");
    let label = |name: &str, value: &str| json!({"name": name, "value": value});
    let amd64 = [label("os", "linux"), label("arch", "amd64")];
    let mut handler = app("true");
    handler["app"]["eventHandlers"] = json!([{"name": "pre-start", "exec": ["/bin/true"]}]);
    for (labels, more, sentence) in [
        (&amd64[1..], app("true"), "missing os label in the image manifest"),
        (&amd64[..1], app("true"), "missing arch label in the image manifest"),
        (
            &[label("os", "freebsd"), label("arch", "amd64")][..],
            app("true"),
            "bad os \"freebsd\" (must be one of: [linux])",
        ),
        (&[label("os", "linux"), label("arch", "s390x")], app("true"), "bad arch \"s390x\" for linux"),
        (&amd64, json!({}), "has no command"),
        (&amd64, handler, "event handlers (pre-start) are not supported"),
    ] {
        let mut content = manifest("refused", "1", &more);
        content["labels"] = json!(labels);
        let file = build(&t, &content, SHELL, "gzip");
        let output = t.rkt(&[INSECURE, "run", &file]);
        assert!(output.fails_with(254).contains(sentence), "{output}");
    }
    assert_eq!(json_of(&t.rkt(&["list", "--format=json"])), json!([]));
    for (word, sentence) in [
        ("https://example.com/app.tar", "invalid image string"),
        ("aci:Bad", "is not the name of an ACI"),
        ("./not-there.aci", "cannot read"),
    ] {
        let output = t.rkt(&[INSECURE, "fetch", word]);
        assert!(output.fails_with(254).contains(sentence), "{output}");
    }
}

#[test]
fn an_aci_must_be_signed_by_a_key_that_is_trusted_with_its_name() {
    let t = begin("aci_signed");
    let file = build(&t, &manifest("signed", "1", &app("echo ran")), SHELL, "bzip2");
    let (home, config) = (format!("{}/gnupg", t.scratch()), format!("{}/config", t.scratch()));
    let gpg = format!("gpg --batch --quiet --homedir {home} --pinentry-mode loopback --passphrase ''");
    let key = t.sh(&format!(
        "set -e; mkdir -m 700 {home}; {gpg} --quick-gen-key tester@example.com default sign never 2>/dev/null; \
         {gpg} --list-keys --with-colons | awk -F: '/^fpr/ {{print tolower($10); exit}}'"
    ));
    let (key, local) = (key.ok().to_owned(), format!("--local-config={config}"));
    let run = |more: &[&str]| t.rkt(&[&[local.as_str(), "run", &file], more].concat());
    let unsigned = run(&[]);
    assert!(unsigned.fails_with(254).contains("error opening signature file"), "{unsigned}");
    let _ = t.sh(&format!("{gpg} --armor --detach-sign --output {file}.asc {file}")).ok();
    let unknown = run(&[]);
    assert!(unknown.fails_with(254).contains("signature made by unknown entity"), "{unknown}");
    let dir = format!("{config}/trustedkeys/prefix.d/example.com/signed");
    let _ = t.sh(&format!("mkdir -p {dir} && {gpg} --armor --export > {dir}/{key}")).ok();
    assert!(run(&[]).ok().ends_with("ran"));
    // The signature may be elsewhere, and does not count for another archive.
    let moved = format!("{}/elsewhere.asc", t.scratch());
    let _ = t.sh(&format!("mv {file}.asc {moved}")).ok();
    assert!(run(&[&format!("--signature={moved}")]).ok().ends_with("ran"));
    let other = build(&t, &manifest("other", "1", &app("echo ran")), SHELL, "gzip");
    let wrong = t.rkt(&[&local, "fetch", &other, &format!("--signature={moved}")]);
    let _ = wrong.fails_with(254);
    let names = json_of(&t.rkt(&["image", "list", "--format=json"]));
    assert_eq!(names.as_array().unwrap().len(), 1, "{names}");
}
