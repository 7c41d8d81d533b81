//! Garbage collection of images by thresholds, against everything else that uses the store at the same time.

use tests::fixtures::Fixture;
use tests::registry::Registry;
use tests::{Kind, Node, Test};

fn begin(name: &str) -> Test<'static> {
    Node::shared(Kind::Hybrid).test(name)
}

fn image(fixture: Fixture) -> String {
    Registry::shared(Kind::Hybrid).image(fixture)
}

/// Preparations, fetches, removals and collections whose thresholds always fire, some of them killed, all at once.
const STORM: &str = r#"
log=$(mktemp -d)
rkt() { command rkt --dir="$DATA" "$@"; }
collect() { rkt image gc --high-threshold=0 --low-threshold=0 --minimum-age=0s; }
prepare() {
    for turn in 1 2 3 4 5; do
        rkt prepare --quiet "$1" >> "$log/pods" 2>> "$log/prepare" || echo "$1" >> "$log/failed"
    done
}
until_done() { while [ ! -e "$log/done" ]; do "$@" || true; sleep 0.02; done; }
killed() {
    command rkt --dir="$DATA" "$@" >/dev/null 2>&1 & victim=$!
    sleep "0.0$((RANDOM % 10))"
    kill -9 $victim 2>/dev/null || true
    wait $victim 2>/dev/null || true
}
for image in "$ONE" "$TWO" "$ONE"; do prepare "$image" & workers="${workers:-} $!"; done
until_done collect >> "$log/collected" 2>&1 &
until_done collect >> "$log/collected" 2>&1 &
until_done rkt image rm "$TWO" >/dev/null 2>&1 &
until_done rkt fetch "$ONE" >/dev/null 2>&1 &
until_done rkt fetch "$UNUSED" >/dev/null 2>&1 &
until_done killed fetch "$TWO" &
until_done killed prepare "$TWO" &
until_done killed image gc --high-threshold=0 --low-threshold=0 --minimum-age=0s &
wait $workers
touch "$log/done"
wait
if [ -e "$log/failed" ]; then cat "$log/prepare"; exit 1; fi
test "$(wc -l < "$log/pods")" = 15
while read -r pod; do
    trees=$(grep -rhoE '[^"]*/cas/tree/[0-9a-f]+/rootfs' "$DATA"/pods/*/"$pod"/apps/*/image.json)
    for tree in $trees; do
        test -n "$(ls -A "$tree")" || { echo "pod $pod lost $tree"; exit 1; }
    done
done < "$log/pods"
grep -c 'removed layer' "$log/collected" || { cat "$log/collected"; exit 1; }
"#;

#[test]
fn no_prepared_pod_loses_a_tree_in_a_storm() {
    let t = begin("gc_storm");
    let (one, two) = (image(Fixture::Busybox), image(Fixture::Redis));
    let (data, unused) = (t.data(), image(Fixture::Nginx));
    let storm = t.sh(&format!("DATA={data} ONE={one} TWO={two} UNUSED={unused}\n{STORM}"));
    assert!(storm.success(), "{storm}");
    // What the pods use is whole, to the last byte, and stays when there is peace.
    let gc = t.rkt(&["image", "gc", "--high-threshold=0", "--low-threshold=0", "--minimum-age=0s"]);
    assert!(gc.success() && gc.stderr.contains("could not reach 0%"), "{gc}");
    let verify = t.rkt(&["image", "verify", &one]);
    assert!(
        verify.success() && verify.stdout.contains("successfully verified checksum for image: "),
        "{verify}"
    );
    let pod = t.sh(&format!(
        "rkt --dir={data} list --full --no-legend | grep 'busybox.*prepared' | head -1 | cut -f1"
    ));
    let run = t.rkt(&["run-prepared", pod.ok().trim()]);
    assert!(!run.stderr.contains("cannot"), "{run}");
    let left = t.sh(&format!("ls -A {data}/cas/tmp"));
    assert_eq!(left.ok(), "", "nothing is left of those that were killed");
}

#[test]
fn a_full_disk_is_relieved_of_copies_before_images_and_in_order_of_use() {
    let t = begin("gc_thresholds");
    let (one, two) = (image(Fixture::Busybox), image(Fixture::Redis));
    let data = t.data();
    // A file system of its own, in a mount namespace of its own, that two images and what else is written fill.
    let script = format!(
        r#"mkdir -p {data}/small; unshare -m bash -euo pipefail <<'END'
        cd {data}; mount -t tmpfs -o size=300m tmpfs small
        rkt() {{ command rkt --dir={data}/small "$@"; }}
        used() {{ df --output=used -B1 small | tail -1; }}
        rkt fetch {two} >/dev/null; sleep 0.01; rkt fetch {one} >/dev/null
        gc() {{ rkt image gc --minimum-age=0s "$@" 2>&1; }}
        gc --high-threshold=99 --low-threshold=98 | grep -q . && exit 11
        copies=$(cat small/cas/tree/*/blob | wc -c)
        # So small that a percent is little. Half of what the copies take is wanted back: some go, no image does.
        all=$(( $(used) * 2 )); mount -o remount,size=$all small
        now=$(used); percent=$(( (now - copies / 2) * 100 / all ))
        before=$(rkt image list --no-legend --fields=id)
        gc --dry-run --high-threshold=$percent --low-threshold=$percent | grep "would remove the copy" > dry
        test "$(used)" = "$now"
        gc --high-threshold=$percent --low-threshold=$percent > out || true
        grep "removed the copy of layer" out
        test "$(rkt image list --no-legend --fields=id)" = "$before"
        # Both have names: all copies go, and that is not enough.
        gc --high-threshold=1 --low-threshold=0 --keep-tagged > out
        grep "could not reach 0%" out
        test "$(rkt image list --no-legend --fields=id)" = "$before"
        test -z "$(find small/cas/tree -maxdepth 2 -name blob)"
        # A little more: the image that was not used for longest.
        percent=$(( $(used) * 100 / all - 1 ))
        gc --high-threshold=$percent --low-threshold=$percent > out
        grep "successfully removed image" out
        grep "could not reach" out && exit 12
        test "$(rkt image list --no-legend | grep -c sha256)" = 1
        rkt image list --no-legend --full --fields=name | grep .
END"#
    );
    let output = t.sh(&script);
    assert!(output.success(), "{output}");
    let left = output.stdout.lines().last().unwrap();
    assert!(left.contains(one.split(':').next().unwrap()), "the image used last stays: {output}");
    for (words, expected) in [
        (&["--low-threshold=90", "--high-threshold=80"][..], "must not be higher"),
        (&["--high-threshold=101"][..], "percentage"),
        (&["--high-threshold=90", "--grace-period=1h"][..], "goes without thresholds"),
        (&["--minimum-age=1h"][..], "goes without thresholds"),
    ] {
        let gc = t.rkt(&[&["image", "gc"][..], words].concat());
        assert!(!gc.success() && gc.stderr.contains(expected), "{gc}");
    }
}
