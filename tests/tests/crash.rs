//! `kill -9` at any moment: of a fetch, a preparation, a run. The next command works, and garbage collection leaves
//! nothing behind that was not there before.
//!
//! Each act is timed once; then it is killed at a series of moments that covers its length, shifted by a random amount
//! so that no two test runs try the same ones. The seed is printed when something fails.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::time::{Duration, Instant};

use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Kind, Node, Test};

/// How many moments of each act are tried.
const MOMENTS: u32 = 25;
const SOON: Duration = Duration::from_secs(20);

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

fn image(fixture: Fixture) -> String {
    Registry::shared(Kind::Hybrid).image(fixture)
}

/// A fraction of one: different in every run.
fn random() -> f64 {
    let nanoseconds = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    f64::from(nanoseconds % 1_000_003) / 1_000_003.0
}

/// Runs a command once to its end, then kills it at many moments of its length. After each, `check` must hold.
fn kill_at_many_moments(t: &Test<'_>, words: &[&str], reset: impl Fn(), check: impl Fn(&str)) {
    reset();
    let start = Instant::now();
    let _ = t.rkt(words).ok();
    let length = start.elapsed();
    let shift = random();
    for moment in 0..MOMENTS {
        reset();
        let delay = length.mul_f64((f64::from(moment) + shift) / f64::from(MOMENTS));
        let child = t.rkt_command(words).spawn().unwrap();
        std::thread::sleep(delay);
        // It may have ended by itself.
        let _ = child.signal(9);
        let _ = child.wait(SOON).unwrap();
        check(&format!("{words:?} killed after {delay:?} of {length:?}, shift {shift}"));
    }
}

/// Every pod's directory, in every phase.
fn directories(t: &Test<'_>) -> String {
    t.sh(&format!("find {}/pods -mindepth 2 -maxdepth 2 2>/dev/null || true", t.data())).ok().to_owned()
}

/// Collects everything. A pod whose apps are still being killed by the kernel is collected a little later.
fn collect(t: &Test<'_>, what: &str) {
    let end = Instant::now() + SOON;
    loop {
        let gc = t.rkt(&["gc", "--grace-period=0s", "--expire-prepared=0s"]);
        let left = directories(t);
        if gc.success() && left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{what}: {left} is left: {gc}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_fetch_is_fetched_again_and_leaves_nothing() {
    let t = begin("killed_fetch");
    let image = image(Fixture::Nginx);
    let store = format!("{}/cas", t.data());
    let reset = || drop(t.sh(&format!("rm -rf {store}")).ok().to_owned());
    kill_at_many_moments(&t, &["fetch", &image], reset, |what| {
        let again = t.rkt(&["fetch", "--full", &image]);
        assert!(again.success(), "{what}: {again}");
        let listed = t.rkt(&["image", "list", "--full", "--no-legend", "--fields=id"]);
        assert_eq!(listed.ok().trim(), again.ok(), "{what}");
        let ran = t.rkt(&["run", "--pull-policy=never", &image, "--exec=/usr/sbin/nginx", "--", "-t"]);
        assert!(ran.success(), "{what}: {ran}");
        // Collecting removes what the killed one was at work on, and keeps the image.
        let _ = t.rkt(&["image", "gc"]).ok();
        let work = t.sh(&format!("ls {store}/tmp; ls {store}/tree | wc -l"));
        assert_eq!(work.ok(), "2", "{what}: {work}");
        collect(&t, what);
        let _ = t.rkt(&["image", "gc", "--grace-period=0s"]).ok();
        assert_eq!(
            t.sh(&format!("ls {store}/tree {store}/tmp {store}/image {store}/ref | grep -v : | sort -u"))
                .ok(),
            "",
            "{what}"
        );
    });
}

#[test]
fn a_killed_preparation_is_garbage_and_nothing_else() {
    let t = begin("killed_preparation");
    let image = image(Fixture::Busybox);
    let _ = t.rkt(&["fetch", &image]).ok();
    let words = [
        "prepare",
        "--quiet",
        "--volume=v,kind=empty",
        &image,
        "--mount=volume=v,target=/v",
        "--exec=/bin/true",
    ];
    kill_at_many_moments(
        &t,
        &words,
        || (),
        |what| {
            // Whatever is there is either prepared, and runs, or is known to be unfinished.
            let list = t.rkt(&["list", "--format=json"]);
            let pods: serde_json::Value = serde_json::from_str(list.ok()).unwrap();
            for pod in pods.as_array().unwrap() {
                let uuid = pod["name"].as_str().unwrap();
                match pod["state"].as_str().unwrap() {
                    "prepared" => drop(t.rkt(&["run-prepared", uuid]).ok().to_owned()),
                    "aborted prepare" | "exited" => {}
                    other => panic!("{what}: {other}: {list}"),
                }
            }
            collect(&t, what);
        },
    );
}

#[test]
fn the_pod_of_a_killed_run_is_over_and_can_be_collected() {
    let t = begin("killed_run");
    let image = image(Fixture::Busybox);
    let words = ["run", &image, "--memory=64M", "--exec=/bin/sh", "--", "-c", "sleep 0.1; echo done"];
    kill_at_many_moments(
        &t,
        &words,
        || (),
        |what| {
            collect(&t, what);
            // No process, no control group, no mount of it is left.
            let rest = format!(
            "for i in $(seq 100); do
                 rest=$(pgrep -f 'sleep 0\\.1; echo done' || true; find /sys/fs/cgroup -type d -name 'rkt-*-*-*-*' | grep -v service || true)
                 [ -z \"$rest\" ] && break; sleep 0.05
             done
             echo \"$rest\"; grep -c {}/pods /proc/mounts || true",
            t.data()
        );
            assert_eq!(t.sh(&rest).ok().trim(), "0", "{what}");
        },
    );
}

#[test]
fn a_killed_collection_is_taken_up_again() {
    let t = begin("killed_collection");
    let image = image(Fixture::Busybox);
    let _ = t.rkt(&["fetch", &image]).ok();
    let reset = || {
        for script in ["mkdir -p /a/b/c; touch /a/b/c/d", "true"] {
            let _ = t.rkt(&["run", &image, "--exec=/bin/sh", "--", "-c", script]).ok();
        }
        let _ = t.rkt(&["prepare", &image]).ok();
    };
    let words = ["gc", "--grace-period=0s", "--expire-prepared=0s"];
    kill_at_many_moments(&t, &words, reset, |what| {
        assert!(t.rkt(&["list"]).success(), "{what}");
        collect(&t, what);
    });
}
