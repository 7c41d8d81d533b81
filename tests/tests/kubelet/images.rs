//! Images: pulls that come to nothing, the node's credentials, and room.

use serde_json::json;
use tests::fixtures::Fixture;
use tests::registry::{Access, Content, PASSWORD, Registry, USER};

use super::{Agent, FOREVER, SOON, begin, busybox, container_state, pod, shell, shell_of};

#[test]
fn a_pull_of_which_nothing_comes_is_given_up() {
    let t = begin("pull_given_up");
    // Something that takes connections and never answers.
    let mute = "systemd-run --quiet --unit=mute-registry --socket-property=ListenStream=127.0.0.1:6998 sleep infinity";
    let _ = t.sh(mute).ok();
    let agent = Agent::start_with(&t, &["--image-pull-progress-deadline=1s"]);
    agent.write("p.json", &pod("p", json!([shell_of("127.0.0.1:6998/a:1", "c", "true")]), json!({})));
    let given_up = |reason: &'static str| {
        let status =
            agent.wait_status("p", reason, SOON, |s| container_state(s)["waiting"]["reason"] == reason);
        let message = container_state(&status)["waiting"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("nothing has come for"), "{message}");
    };
    given_up("ErrImagePull");
    given_up("ImagePullBackOff");
    // The one that was given up is not still there.
    agent.remove("p.json");
    agent.wait("its processes to be gone", SOON, || {
        t.sh("pgrep -x rkt -a | grep 127.0.0.1:6998 || true").stdout.is_empty()
    });
    let _ = t.sh("systemctl stop mute-registry.socket mute-registry.service").ok();
}

#[test]
fn the_node_has_credentials_of_its_own() {
    let t = begin("node_credentials");
    let registry = Registry::start_with(t.node(), Content::Nothing, Access::Password).unwrap();
    let image = registry.image(Fixture::Busybox);
    let layout = Fixture::Busybox.layout().unwrap().display().to_string();
    let push = format!(
        "skopeo copy --insecure-policy --dest-tls-verify=false --dest-creds {USER}:{PASSWORD} oci:{layout}:1 docker://{image}"
    );
    let _ = t.sh(&push).ok();
    let agent = Agent::start(&t);
    agent.write("p.json", &pod("p", json!([shell_of(&image, "c", FOREVER)]), json!({})));
    let _ = agent.wait_status("p", "the registry to refuse", SOON, |s| {
        container_state(s)["waiting"]["reason"].as_str().is_some_and(|r| r.contains("ImagePull"))
    });
    let auth = t.sh(&format!("printf %s {USER}:{PASSWORD} | base64")).ok().trim().to_owned();
    let config = json!({"auths": {&registry.address: {"auth": auth}}});
    t.write_file(&format!("{}/kubelet/config.json", t.scratch()), config.to_string());
    let _ = agent.wait_phase("p", "Running", SOON);
    agent.wait_log("pulled", SOON);
}

#[test]
fn images_that_nothing_uses_are_collected() {
    let t = begin("images_are_collected");
    let _ = t.rkt(&["fetch", &Registry::shared(tests::Kind::Hybrid).image(Fixture::Redis)]).ok();
    let _ = t.rkt(&["fetch", &busybox()]).ok();
    let agent = Agent::start_with(
        &t,
        &[
            "--image-gc-period=500ms",
            "--image-gc-high-threshold=100",
            "--minimum-image-ttl-duration=0s",
            "--maximum-image-ttl-duration=4s",
        ],
    );
    agent.write("p.json", &pod("p", json!([shell("c", FOREVER)]), json!({})));
    let _ = agent.wait_phase("p", "Running", SOON);
    agent.wait("the other image to go", SOON, || !t.rkt(&["image", "list"]).stdout.contains("redis"));
    agent.wait_log("image gc: successfully removed image", SOON);
    // What a pod uses stays, however old.
    assert!(t.rkt(&["image", "list"]).ok().contains("busybox"));
}

#[test]
fn a_full_file_system_has_images_collected() {
    let t = begin("full_file_system");
    // A file system of its own, of which an image takes more than a few percent.
    let _ = t.sh(&format!("mount -t tmpfs -o size=128m rkt-images {}", t.data())).ok();
    let _ = t.rkt(&["fetch", &Registry::shared(tests::Kind::Hybrid).image(Fixture::Redis)]).ok();
    let mut agent = Agent::start_with(
        &t,
        &[
            "--image-gc-period=300ms",
            "--image-gc-high-threshold=2",
            "--image-gc-low-threshold=1",
            "--minimum-image-ttl-duration=0s",
        ],
    );
    agent.wait("the image to go", SOON, || t.rkt(&["image", "list", "--no-legend"]).ok().is_empty());
    agent.terminate();
    let _ = t.sh(&format!("umount {}", t.data())).ok();
}
