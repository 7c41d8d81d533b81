//! Whose images run: `rkt trust`, and the policy of the host.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::process::Command;
use std::time::Duration;

use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Kind, Node, Test};

const SOON: Duration = Duration::from_secs(20);

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

/// A new key of GnuPG's: its fingerprint, and the key in ASCII armor.
fn key() -> (String, Vec<u8>) {
    let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        let _ = command.arg("--homedir").arg(home.path()).args([
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
        ]);
        let output = command.args(["--passphrase", ""]).args(arguments).output().unwrap();
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let _ = gpg(&["--quick-generate-key", "Owner <owner@example.com>", "ed25519", "sign,cert", "never"]);
    let list = String::from_utf8(gpg(&["--with-colons", "--list-keys"])).unwrap();
    let fingerprint = list.lines().find(|line| line.starts_with("fpr")).unwrap().split(':').nth(9).unwrap();
    let armored = gpg(&["--armor", "--export", "owner@example.com"]);
    let _ = Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]).output();
    (fingerprint.to_lowercase(), armored)
}

#[test]
fn a_key_is_trusted_after_review() {
    let t = begin("a_key_is_trusted_after_review");
    let (fingerprint, armored) = key();
    let file = format!("{}/key.asc", t.scratch());
    t.write_file(&file, &armored);
    let config = format!("--local-config={}/etc", t.scratch());
    let trusted = format!("{}/etc/trustedkeys/prefix.d/example.com/app/{fingerprint}", t.scratch());
    let trust = ["trust", &config, "--prefix=example.com/app", &file];

    let unasked = t.rkt(&trust);
    assert!(unasked.fails_with(254).contains("unable to ask user to review fingerprint due to lack of tty"));
    assert!(unasked.stderr.contains(r#"prefix: "example.com/app""#), "{unasked}");

    let answer = |answers: &[&str]| {
        let mut child = t.rkt_command(&trust).terminal(24, 80).spawn().unwrap();
        child.wait_for("Are you sure you want to trust this key (yes/no)?", SOON).unwrap();
        for answer in answers {
            child.write(format!("{answer}\n").as_bytes()).unwrap();
        }
        child.wait(SOON).unwrap()
    };
    let refused = answer(&["perhaps", "no"]);
    assert!(refused.stdout.contains("Please enter 'yes' or 'no'"), "{refused}");
    assert!(refused.stdout.contains("not trusting"), "{refused}");
    assert!(!t.run(&["test", "-e", &trusted]).success());

    let accepted = answer(&["yes"]);
    let groups: String = fingerprint.to_uppercase().chars().take(4).collect();
    for expected in [
        &format!("gpg key fingerprint is: {groups} "),
        "Owner <owner@example.com>",
        r#"for prefix "example.com/app" after fingerprint review."#,
        &format!(r#"Added key for prefix "example.com/app" at "{trusted}""#),
    ] {
        assert!(accepted.stdout.contains(expected), "{expected}: {accepted}");
    }
    assert_eq!(t.read_file(&trusted), armored);
}

#[test]
fn keys_can_be_trusted_without_a_person() {
    let t = begin("keys_can_be_trusted_without_a_person");
    let (fingerprint, armored) = key();
    let file = format!("{}/key.asc", t.scratch());
    t.write_file(&file, &armored);
    let config = format!("--local-config={}/etc", t.scratch());
    let added = t.rkt(&["trust", &config, "--root", "--skip-fingerprint-review", &file]);
    let path = format!("{}/etc/trustedkeys/root.d/{fingerprint}", t.scratch());
    assert_eq!(
        added.ok(),
        format!("Trusting {file:?} for prefix \"\" without fingerprint review.\nAdded root key at {path:?}")
    );
    assert_eq!(t.read_file(&path), armored);
    t.write_file(&file, b"no key");
    for (arguments, expected) in [
        (&["--root", "--skip-fingerprint-review", &file][..], "error adding keys: "),
        (&["--root", "/nonexistent"], "No such file or directory"),
        (&[&file], "--root required for non-prefixed (root) keys"),
        (&["--root", "--prefix=example.com", &file], "--root and --prefix usage mutually exclusive"),
        (&["--prefix=https://example.com", &file], "--prefix must not contain a URL scheme, omit https://"),
        (&["--prefix=../x", &file], "is not the name of an image"),
        (&["--root"], "--root needs the file or the address of a key"),
        (&["--root", "http://registry.invalid/key"], "is not https"),
    ] {
        let refused = t.rkt(&[&["trust", &config], arguments].concat());
        assert!(refused.fails_with(254).contains(expected), "{arguments:?}: {refused}");
    }
}

#[test]
fn the_policy_decides_what_is_fetched_and_run() {
    let t = begin("the_policy_decides_what_is_fetched_and_run");
    let image = Registry::shared(Kind::Hybrid).image(Fixture::Busybox);
    let registry = image.split('/').next().unwrap();
    let (config, file) = (format!("{}/etc", t.scratch()), format!("{}/policy.json", t.scratch()));
    let setting = serde_json::json!({"rktKind": "trust", "rktVersion": "v1", "policy": file});
    t.write_file(&format!("{config}/trust.d/trust.json"), setting.to_string().as_bytes());
    let policy = |kind: &str| {
        let policy = serde_json::json!({
            "default": [{"type": "insecureAcceptAnything"}],
            "transports": {"docker": {registry: [{"type": kind}]}},
        });
        t.write_file(&file, policy.to_string().as_bytes());
    };
    let config = format!("--local-config={config}");
    let run = |flags: &[&str], image: &str| {
        t.rkt(&[&["run", &config], flags, &[image, "--exec=/bin/echo", "--", "up"]].concat())
    };

    policy("insecureAcceptAnything");
    let id = t.rkt(&["fetch", &config, "--full", &image]).ok().to_owned();
    assert!(run(&[], &image).success());
    policy("reject");
    let place = format!("is refused by transports.docker[{registry:?}] of {file}: it says \"reject\"");
    for image in [&image, &id] {
        let refused = run(&[], image);
        assert!(refused.fails_with(254).contains(&place), "{image}: {refused}");
        assert!(run(&["--insecure-options=image"], image).success(), "{image}");
    }
    let refused = t.rkt(&["fetch", &config, &image]);
    assert!(refused.fails_with(254).contains(&place), "{refused}");
    policy("unheardOf");
    let refused = t.rkt(&["fetch", &config, &image]);
    assert!(refused.fails_with(254).contains("unknown variant `unheardOf`"), "{refused}");
}
