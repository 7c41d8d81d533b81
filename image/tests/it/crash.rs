//! Processes that share a store, die, or find the disk full.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::build::{Bench, Layer, Tar, fetch_program, noise, run};

/// An image that takes a moment to unpack.
fn slow_image(bench: &mut Bench) -> String {
    let layer = |seed: u64| {
        let tar = (0..400)
            .fold(Tar::default(), |tar, at| tar.file(&format!("d{seed}/{at}"), &noise(seed + at, 20_000)));
        Layer::gzip(&tar.end())
    };
    bench.image("slow", &[layer(1), layer(1000), layer(2000)])
}

fn command(bench: &Bench, name: &str) -> Command {
    let mut command = Command::new(fetch_program());
    let _ = command.arg(bench.path("cas")).arg(name).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn assert_whole(bench: &Bench, name: &str) {
    let image = bench.fetch(name).unwrap();
    for (layer, seed) in image.layers.iter().zip([1, 1000, 2000]) {
        for at in 0..400 {
            let data = std::fs::read(layer.join(format!("d{seed}/{at}"))).unwrap();
            assert!(data == noise(seed + at, 20_000), "d{seed}/{at} is damaged");
        }
    }
    let left = std::fs::read_dir(bench.path("cas/tmp")).unwrap().map(|e| e.unwrap().file_name());
    let trees: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".work")).collect();
    assert!(trees.is_empty(), "half-made trees are left: {trees:?}");
}

#[test]
fn several_processes_fetch_the_same_image_at_once() {
    let mut bench = Bench::new();
    let name = slow_image(&mut bench);
    let children: Vec<_> = (0..4).map(|_| command(&bench, &name).spawn().unwrap()).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, outputs[0].stdout);
    }
    assert_whole(&bench, &name);
    bench.assert_clean();
}

#[test]
fn a_fetch_killed_at_any_moment_is_repaired_by_the_next() {
    let mut bench = Bench::new();
    let name = slow_image(&mut bench);
    let mut interrupted = 0;
    for round in 0..25_u64 {
        let mut child = command(&bench, &name).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 7919 % 97 * 1500));
        child.kill().unwrap();
        let killed = !child.wait().unwrap().success();
        let half_made = std::fs::read_dir(bench.path("cas/tmp")).is_ok_and(|left| left.count() > 0);
        interrupted += usize::from(killed && half_made);
        if round % 5 == 4 {
            assert_whole(&bench, &name);
            // A lock or a record of a few bytes that was being written is in nobody's way until it is collected.
            let _ = bench.store().gc(&image::GcPlan::default(), || Ok(image::InUse::default())).unwrap();
            bench.assert_clean();
            std::fs::remove_dir_all(bench.path("cas")).unwrap();
        }
    }
    assert!(interrupted > 0, "no fetch was ever interrupted: this tested nothing");
}

#[test]
fn collection_removes_what_a_killed_fetch_left() {
    let mut bench = Bench::new();
    let name = slow_image(&mut bench);
    let store = bench.store();
    for round in 0..40_u64 {
        let mut child = command(&bench, &name).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + round % 30));
        child.kill().unwrap();
        let _ = child.wait().unwrap();
        let left = std::fs::read_dir(bench.path("cas/tmp")).unwrap().count();
        let _ = store.gc(&image::GcPlan::default(), || Ok(image::InUse::default())).unwrap();
        bench.assert_clean();
        if left > 0 {
            return;
        }
    }
    panic!("no fetch was ever interrupted: this tested nothing");
}

#[test]
fn a_full_disk_is_one_clear_error_and_leaves_nothing_half_made() {
    let mut bench = Bench::new();
    let name = slow_image(&mut bench);
    std::fs::create_dir(bench.path("small")).unwrap();
    let small = bench.path("small").display().to_string();
    let program = fetch_program().display().to_string();
    let script = format!(
        "mount -t tmpfs -o size=12m tmpfs {small} && ! {program} {small} {name} 2>&1 && \
         find {small}/tmp {small}/image {small}/ref -mindepth 1 && ls {small}/tree | wc -l && \
         mount -o remount,size=100m {small} && {program} {small} {name} 2>&1"
    );
    let output = run("unshare", &["-m", "sh", "-c", &script]);
    let mut lines = output.lines();
    let error = lines.next().unwrap();
    assert!(
        error.contains("No space left on device") && error.contains("cannot fetch layer sha256:"),
        "{error}"
    );
    assert!(
        error.contains(&name) && (error.contains("write \"d") || error.contains("cannot keep the layer")),
        "the image is named, and the file or the copy: {error}"
    );
    let trees: usize = lines.next().unwrap().parse().unwrap_or_else(|_| panic!("left behind: {output}"));
    assert!(trees < 3, "{output}");
    assert!(output.contains("sha256-"), "with more room it works: {output}");
}
