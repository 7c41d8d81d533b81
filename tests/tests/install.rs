//! What `make install` puts on a machine works from there: binaries find each other, units start, manuals are found.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::time::Duration;

use tests::Node;
use tests::fixtures::Fixture;
use tests::installed::ONLY_INSTALLED;
use tests::registry::Registry;

fn installed() -> Option<Node> {
    tests::installed::installed().unwrap()
}

#[test]
fn a_machine_runs_pods_with_what_was_installed() {
    let Some(node) = installed() else { return };
    let t = node.test("installed");
    let registry = Registry::start(&node).unwrap();
    let image = registry.image(Fixture::Busybox);

    let run =
        format!("{ONLY_INSTALLED} rkt run --net=none {image} --exec=/bin/echo -- from what was installed");
    assert_eq!(t.sh(&run).ok(), "from what was installed");
    assert_eq!(t.sh("stat -c '%a %G' /var/lib/rkt").ok(), "750 rkt");

    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: '{image}', command: [sleep, '1000']}}]}}}}"
    );
    t.write_file("/etc/kubernetes/manifests/p.yaml", &pod);
    let _ = t.sh("systemctl start kubelet.service").ok();
    let running = "until rkt list --no-legend | grep -w running; do sleep 0.1; done";
    let out = t.command(&["bash", "-c", running]).timeout(Duration::from_secs(30)).run().unwrap();
    assert!(out.success(), "{out}");
    let _ = t.sh("systemctl stop kubelet.service; rkt list --no-legend | grep -w running").ok();

    // The foreground pod from above has ended and goes; the image that a pod runs from stays.
    let collect = "sed -i 's/GRACE_PERIOD=24h/GRACE_PERIOD=0s/' /usr/lib/systemd/system/rkt*-gc.service; \
                   systemctl daemon-reload; systemctl start rkt-gc.service rkt-image-gc.service";
    let _ = t.sh(collect).ok();
    assert_eq!(t.sh("rkt list --no-legend | grep -c .").ok(), "1");
    assert_eq!(t.sh("rkt image list --no-legend | grep -c .").ok(), "1");
}

#[test]
fn units_and_manuals_are_in_order() {
    let Some(node) = installed() else { return };
    let t = node.test("units_and_manuals");
    let _ = t.sh("systemd-analyze verify --man=no kubelet.service rkt-gc.service rkt-gc.timer rkt-image-gc.service \
           rkt-image-gc.timer rkt-fetch.socket rkt-fetch@1.service").ok();
    for page in ["1/rkt.1", "8/kubelet.8"] {
        let _ = t.run(&["test", "-s", &format!("/usr/share/man/man{page}")]).ok();
    }
}
