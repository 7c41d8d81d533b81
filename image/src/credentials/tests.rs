//! Files as they are found on hosts, and helpers that misbehave.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use super::*;

fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.into(), password: password.into() }
}

fn get(credentials: &Credentials, registry: &str, repository: &str) -> Option<Credential> {
    credentials.lookup(registry, repository).unwrap()
}

#[test]
fn both_formats_are_read_and_the_first_wins() {
    let dir = tempfile::tempdir().unwrap();
    let rkt = r#"{"rktKind":"dockerAuth","rktVersion":"v1","registries":["host:5000","docker.io"],
        "credentials":{"user":"a","password":"b"}}"#;
    std::fs::write(dir.path().join("one.json"), rkt).unwrap();
    std::fs::write(dir.path().join("paths.json"), r#"{"rktKind":"paths","rktVersion":"v1"}"#).unwrap();
    std::fs::write(dir.path().join("README"), "no").unwrap();
    let config = dir.path().join("config");
    let docker = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"eDp5Onog"},"quay.io":{"auth":"eDp5Onog"},
        "other":{},"https://old.example/v1/":{"username":"o","password":"p"}}}"#;
    std::fs::write(&config, docker).unwrap();

    let mut credentials = Credentials::new();
    credentials.add_auth_dir(dir.path()).unwrap();
    credentials.add_docker_config(&config).unwrap();
    credentials.add_auth_dir(&dir.path().join("missing")).unwrap();
    credentials.add_docker_config(&dir.path().join("missing")).unwrap();
    assert_eq!(get(&credentials, "host:5000", "x"), Some(password("a", "b")));
    assert_eq!(get(&credentials, "docker.io", "library/x"), Some(password("a", "b")));
    assert_eq!(get(&credentials, "quay.io", "x"), Some(password("x", "y:z ")));
    assert_eq!(get(&credentials, "old.example", "x"), Some(password("o", "p")));
    assert_eq!(get(&credentials, "other", "x"), None);
    assert!(!format!("{credentials:?}").contains("y:z"), "a password was displayed");

    std::fs::write(dir.path().join("three.json"), rkt).unwrap();
    let error = Credentials::new().add_auth_dir(dir.path()).unwrap_err();
    assert!(matches!(error, CredentialsError::Duplicate { .. }), "{error}");
}

#[test]
fn servers_of_acis_have_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, kind: &str, credentials: &str| {
        let text = format!(
            r#"{{"rktKind":"auth","rktVersion":"v1","domains":["{name}.example"],"type":"{kind}","credentials":{credentials}}}"#
        );
        std::fs::write(dir.path().join(format!("{name}.json")), text).unwrap();
    };
    write("basic", "basic", r#"{"user":"a","password":"b"}"#);
    write("token", "oauth", r#"{"token":"hunter2"}"#);
    write("aws", "aws", r#"{"accessKeyID":"id","secretAccessKey":"hunter2","awsRegion":"eu"}"#);
    let mut credentials = Credentials::new();
    credentials.add_auth_dir(dir.path()).unwrap();
    let header = |domain| credentials.server(domain).unwrap().header();
    assert_eq!(header("basic.example").as_deref(), Some("Basic YTpi"));
    assert_eq!(header("token.example").as_deref(), Some("Bearer hunter2"));
    assert_eq!(header("aws.example"), None);
    assert!(
        matches!(credentials.server("aws.example"), Some(ServerAuth::Aws { region: Some(r), .. }) if r == "eu")
    );
    assert_eq!(credentials.server("other.example"), None);
    assert_eq!(get(&credentials, "basic.example", "x"), None, "they are not for registries");
    assert!(!format!("{credentials:?}").contains("hunter2"));
    write("bad", "kerberos", r#"{"user":"hunter2"}"#);
    let error = Credentials::new().add_auth_dir(dir.path()).unwrap_err();
    assert!(error.to_string().contains("bad.json, line 1"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"), "a secret was displayed");
}

#[test]
fn repositories_and_namespaces_can_have_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    // base64 of "N:p".
    let text = r#"{"auths":{"r.example/ns/repo":{"auth":"MTpw"},"r.example/ns":{"auth":"Mjpw"},"r.example":{"auth":"Mzpw"},
        "t.example":{"auth":"NDpw","identitytoken":"refresh"},"u.example":{"registrytoken":"access"}}}"#;
    std::fs::write(&file, text).unwrap();
    let mut credentials = Credentials::new();
    credentials.add_docker_config(&file).unwrap();
    for (repository, user) in
        [("ns/repo", "1"), ("ns/other", "2"), ("ns/repo/deep", "1"), ("nsx/repo", "3"), ("x", "3")]
    {
        assert_eq!(get(&credentials, "r.example", repository), Some(password(user, "p")), "{repository}");
    }
    assert_eq!(get(&credentials, "r.example:5000", "ns/repo"), None, "another port is another registry");
    assert_eq!(get(&credentials, "t.example", "x"), Some(Credential::RefreshToken("refresh".into())));
    assert_eq!(get(&credentials, "u.example", "x"), Some(Credential::AccessToken("access".into())));
    assert!(!format!("{credentials:?}").contains("refresh"));
}

/// A directory with a helper of that name, and a configuration.
fn helped(script: &str, config: &str) -> (tempfile::TempDir, Credentials) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("docker-credential-test");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, config).unwrap();
    let mut credentials = Credentials::new();
    let mut path = dir.path().as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    credentials.use_helpers(path, Duration::from_secs(20));
    credentials.add_docker_config(&file).unwrap();
    (dir, credentials)
}

#[test]
fn helpers_are_asked_by_the_protocol() {
    let script = r#"[ "$1" = get ] || exit 9
        server=$(cat)
        case $server in
            unknown.example) echo 'credentials not found in native keychain'; exit 1;;
            token.example) user='<token>';;
            *) user=$server;;
        esac
        printf '{"ServerURL":"%s","Username":"%s","Secret":"s"}' "$server" "$user""#;
    let config = r#"{"auths":{"unknown.example":{"auth":"Mzpw"}},"credsStore":"test",
        "credHelpers":{"one.example":"test","two.example/ns":"test","unknown.example":"test"}}"#;
    let (_dir, credentials) = helped(script, config);
    assert_eq!(get(&credentials, "one.example", "x"), Some(password("one.example", "s")));
    assert_eq!(get(&credentials, "two.example", "ns/x"), Some(password("two.example/ns", "s")));
    assert_eq!(get(&credentials, "two.example", "x"), Some(password("two.example", "s")), "from the store");
    assert_eq!(get(&credentials, "token.example", "x"), Some(Credential::RefreshToken("s".into())));
    assert_eq!(get(&credentials, "docker.io", "x"), Some(password("https://index.docker.io/v1/", "s")));
    assert_eq!(get(&credentials, "unknown.example", "x"), Some(password("3", "p")), "the file knows it");
}

#[test]
fn helpers_that_do_not_help_are_told() {
    let config = r#"{"credsStore":"test","credHelpers":{"gone.example":"gone","path.example":"../test"}}"#;
    for (script, registry, expected) in [
        ("echo no keyring; exit 3", "a.example", "it failed (exit status: 3): no keyring"),
        ("echo '{\"Secret\":\"hunter2\"'", "a.example", "did not answer with credentials"),
        ("true", "gone.example", "cannot run it"),
        ("true", "path.example", "not the name of a helper"),
    ] {
        let (_dir, credentials) = helped(script, config);
        let error = credentials.lookup(registry, "x").unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains(expected) && text.contains(registry) && text.contains("config.json"), "{text}");
        assert!(!format!("{error:?}").contains("hunter2"), "a secret was displayed");
    }
}

#[test]
fn a_helper_that_hangs_is_killed_with_its_children() {
    let (dir, mut credentials) = helped("sleep 1000 & echo $! > $0.pid; wait", r#"{"credsStore":"test"}"#);
    let mut path = dir.path().as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    credentials.use_helpers(path, Duration::from_millis(500));
    let start = Instant::now();
    let error = credentials.lookup("a.example", "x").unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(100), "it was waited for");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("within 0.5 seconds"), "{cause}");
    let pid = std::fs::read_to_string(dir.path().join("docker-credential-test.pid")).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    // Killed, it is gone as soon as its new parent has seen to it.
    while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        assert!(start.elapsed() < Duration::from_secs(100), "a child of the helper lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}
