//! The fixtures and the registry that serves them: images can be read and copied with other people's
//! tools, and the programs in them start.

use tests::fixtures::Fixture;
use tests::registry::{Access, Content, PASSWORD, Registry, USER};
use tests::{Kind, Node, Test};

/// Copies a fixture out of the shared registry, unpacks it, and returns the root file system.
fn unpack(t: &Test<'_>, fixture: Fixture) -> String {
    let (image, place) = (Registry::shared(Kind::Hybrid).image(fixture), t.scratch());
    let layout = format!("oci:{place}/layout:1");
    let source = format!("docker://{image}");
    let copy = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", &source, &layout];
    let _ = t.run(&copy).ok();
    let _ =
        t.run(&["umoci", "unpack", "--image", &format!("{place}/layout:1"), &format!("{place}/bundle")]).ok();
    format!("{place}/bundle/rootfs")
}

#[test]
fn every_fixture_can_be_inspected() {
    let t = Node::shared(Kind::Hybrid).test("every_fixture_can_be_inspected");
    for fixture in Fixture::ALL {
        let source = format!("docker://{}", Registry::shared(Kind::Hybrid).image(fixture));
        let shown = t.run(&["skopeo", "inspect", "--tls-verify=false", &source]);
        let shown: serde_json::Value = serde_json::from_str(shown.ok()).unwrap();
        assert_eq!(shown["Layers"].as_array().unwrap().len(), 2, "{shown:#}");
        assert_eq!(shown["Os"], "linux");
        assert!(shown["RepoTags"].as_array().unwrap().contains(&"1".into()));
    }
}

#[test]
fn busybox_has_its_commands() {
    let t = Node::shared(Kind::Hybrid).test("busybox_has_its_commands");
    let root = unpack(&t, Fixture::Busybox);
    assert_eq!(t.run(&["chroot", &root, "/bin/sh", "-c", "id -un; whoami | wc -l; true"]).ok(), "root\n1");
    assert_eq!(t.run(&["chroot", &root, "/bin/stat", "-c", "%a", "/tmp"]).ok(), "1777");
}

#[test]
fn nginx_accepts_its_configuration() {
    let t = Node::shared(Kind::Hybrid).test("nginx_accepts_its_configuration");
    let root = unpack(&t, Fixture::Nginx);
    let _ = t.run(&["mount", "--bind", "/dev", &format!("{root}/dev")]).ok();
    let tested = t.run(&["chroot", &root, "/usr/sbin/nginx", "-t"]);
    assert!(tested.success() && tested.stderr.contains("test is successful"), "{tested}");
    let _ = t.run(&["umount", &format!("{root}/dev")]).ok();
}

#[test]
fn redis_and_python_start() {
    let t = Node::shared(Kind::Hybrid).test("redis_and_python_start");
    let redis = unpack(&t, Fixture::Redis);
    assert!(
        t.run(&["chroot", &redis, "/usr/bin/redis-server", "--version"]).ok().starts_with("Redis server")
    );
    let t = Node::shared(Kind::Hybrid).test("python_starts");
    let python = unpack(&t, Fixture::Python3);
    let program = "import http.server, ssl, json; print(json.dumps(6 * 7))";
    assert_eq!(t.run(&["chroot", &python, "/usr/bin/python3", "-c", program]).ok(), "42");
}

#[test]
fn fixtures_cannot_be_overwritten() {
    let t = Node::shared(Kind::Hybrid).test("fixtures_cannot_be_overwritten");
    let to = format!("docker://{}", Registry::shared(Kind::Hybrid).image(Fixture::Busybox));
    let from = format!("oci:{}:1", Fixture::Redis.layout().unwrap().display());
    assert!(
        !t.run(&["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", &from, &to]).success()
    );
}

#[test]
fn registry_with_a_password_wants_it() {
    let t = Node::shared(Kind::Hybrid).test("registry_with_a_password");
    let registry = Registry::start_with(t.node(), Content::Nothing, Access::Password).unwrap();
    let to = format!("docker://{}", registry.image(Fixture::Busybox));
    let from = format!("oci:{}:1", Fixture::Busybox.layout().unwrap().display());
    let copy = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"];
    let push = |more: &[&str]| t.command(&copy).args(more).args(&[&from, &to]).run().unwrap();
    let refused = push(&[]);
    assert!(!refused.success() && refused.stderr.contains("authentication required"), "{refused}");
    assert!(!push(&["--dest-creds", &format!("{USER}:wrong")]).success());
    let _ = push(&["--dest-creds", &format!("{USER}:{PASSWORD}")]).ok();
    registry.stop().unwrap();
    assert!(!push(&["--dest-creds", &format!("{USER}:{PASSWORD}")]).success());
}
