//! Images that mean harm against the real `rkt fetch`.
//!
//! Every case runs with a root directory in which whatever is written shows: an overlay over the machine's root, whose
//! upper directory must be the same afterwards. Only the data directory is elsewhere; what is left in it is checked
//! for each case. None may be killed, panic, take much memory or tell a terminal what to do.

#![expect(clippy::unwrap_used, reason = "what a helper of a test cannot do fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::fixtures::Fixture;
use tests::hostile::archive::{Archive, Entry};
use tests::hostile::layout::{Image, Layer};
use tests::hostile::{Case, Expect, OUTSIDE, corpus};
use tests::{Kind, Node, artifact};

/// Fetches the image of every directory in `$place/cases`. Arguments: place, rkt, the directory outside.
const FETCH: &str = r#"
set -eu
place=$1 rkt=$2 outside=$3
watch=$place/watch root=$place/watch/root
mount -t tmpfs watch "$watch"
mkdir "$watch/upper" "$watch/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$watch/upper,workdir=$watch/work" watch "$root"
for shown in "$place" "$(dirname "$rkt")"; do
    mkdir -p "$root$shown"
    mount --bind "$shown" "$root$shown"
done
mount --bind /proc "$root/proc"
mkdir -p "$root$outside/dir" "$root/dev"
echo alive > "$root$outside/file"
for node in null urandom; do
    [ -e "$root/dev/$node" ] || touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
snapshot() {
    cd "$watch/upper"
    find . -printf '%p %y %m %U:%G %s %n %T@ %C@ %l\n' | sort
    find . -type f -exec sha256sum {} + | sort
}
snapshot > "$place/before"
# Threads reserve more than they use.
ulimit -v 3000000
for case in "$place"/cases/*; do
    case=${case##*/}
    status=0
    image=oci:$place/cases/$case:x
    [ ! -e "$place/cases/$case/image.aci" ] || image=$place/cases/$case/image.aci
    chroot "$root" timeout 60 "$rkt" --insecure-options=image --dir="$place/data/$case" fetch "$image" \
        > "$place/said/$case.out" 2> "$place/said/$case.err" < /dev/null || status=$?
    echo $status > "$place/said/$case.status"
done
snapshot > "$place/after"
"#;

/// Fetches every image of a family.
fn fetch(family: &str) {
    let cases: Vec<Case> = corpus().into_iter().filter(|case| case.family == family).collect();
    assert!(!cases.is_empty(), "there is no family {family}");
    // Every layer is synced to disk, and disks are slow.
    let shared = Path::new("/dev/shm");
    let place = tempfile::Builder::new().prefix("rkt-hostile").tempdir_in(shared).unwrap();
    for dir in ["cases", "data", "said", "watch"] {
        fs::create_dir(place.path().join(dir)).unwrap();
    }
    for case in &cases {
        fs::create_dir(place.path().join("data").join(case.name)).unwrap();
        case.image.write(&place.path().join("cases").join(case.name)).unwrap();
    }
    let rkt = artifact::binary("rkt").unwrap();
    let script = ["-m", "--propagation", "private", "bash", "-c", FETCH, "fetch"];
    let run = Command::new("unshare").args(script).arg(place.path()).arg(rkt).arg(OUTSIDE).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let complaints: Vec<String> = cases.iter().filter_map(|case| complaint(case, place.path())).collect();
    assert!(
        complaints.is_empty(),
        "{} of {} cases:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
    let read = |name| fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!(read("before"), read("after"), "something outside the store changed");
}

/// What came of a case that must not have.
fn complaint(case: &Case, place: &Path) -> Option<String> {
    let said = |what: &str| {
        let bytes = fs::read(place.join("said").join(format!("{}.{what}", case.name))).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (status, error) = (said("status").trim().parse::<i32>().unwrap(), said("err"));
    let data = place.join("data").join(case.name);
    let wrong = match &case.expect {
        // 124 and beyond 126: too slow, killed, or a panic; 254 is a failure as it should be.
        Expect::Refused(_) if status != 254 => Some("ended with the status"),
        Expect::Refused(why) if !error.contains(why) => Some("was refused for another reason"),
        Expect::Refused(_) if said("out").lines().count() > 0 => Some("was said to be there"),
        Expect::Harmless(_) if status != 0 => Some("was refused"),
        _ if error.contains("panicked") => Some("made a thread panic"),
        _ if error.chars().any(|c| c.is_control() && c != '\n') => Some("speaks to a terminal"),
        _ if !names(&data.join("cas/tmp")).is_empty() => Some("left work behind"),
        Expect::Refused(_) => left(case, &data),
        Expect::Harmless(look) => {
            look(&tree(case, &data));
            None
        }
    };
    wrong.map(|wrong| format!("{}/{} {wrong} ({status}): {error:?}", case.family, case.name))
}

/// What a refused image left. Layers below the one that was refused may be complete.
fn left(case: &Case, data: &Path) -> Option<&'static str> {
    let trees = names(&data.join("cas/tree")).len();
    match () {
        () if !names(&data.join("cas/image")).is_empty() => Some("left an image"),
        () if !names(&data.join("cas/ref")).is_empty() => Some("left a name"),
        () if trees >= case.image.height().max(1) => Some("left a tree"),
        () => None,
    }
}

/// Where the highest layer is.
fn tree(case: &Case, data: &Path) -> PathBuf {
    data.join("cas/tree").join(case.image.top().split(':').next_back().unwrap_or_default()).join("rootfs")
}

/// What is in a directory, if there is one.
fn names(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn names_that_lead_elsewhere() {
    fetch("paths");
}

#[test]
fn links_to_elsewhere() {
    fetch("links");
}

#[test]
fn whiteouts_and_what_looks_like_one() {
    fetch("whiteouts");
}

#[test]
fn devices_modes_and_owners() {
    fetch("nodes");
}

#[test]
fn extended_attributes() {
    fetch("attributes");
}

#[test]
fn sizes_times_and_lengths_that_lie() {
    fetch("numbers");
}

#[test]
fn sparse_files() {
    fetch("sparse");
}

#[test]
fn streams_that_are_damaged_or_too_much() {
    fetch("streams");
}

#[test]
fn documents_that_lie() {
    fetch("documents");
}

#[test]
fn acis_that_are_none() {
    fetch("acis");
}

/// Layers keep the devices that they bring; in a pod nothing opens them, whoever root is in it.
#[test]
fn devices_of_a_layer_are_none_in_a_pod() {
    let t = Node::shared(Kind::Hybrid).test("devices_of_a_layer");
    let device = |kind, name: &str, major, minor| {
        let entry = Entry::new(kind, name).number("mode", 0o666);
        entry.number("major", major).number("minor", minor)
    };
    let archive = Archive::default()
        .add(device(b'3', "evil/zero", 1, 5))
        .add(device(b'3', "evil/memory", 1, 1))
        .add(device(b'4', "evil/disk", 7, 0));
    let image = Image::above(&Fixture::Busybox.layout().unwrap(), vec![Layer::gzip(&archive.end())]).unwrap();
    let staging = tempfile::tempdir().unwrap();
    image.write(staging.path()).unwrap();
    let place = format!("{}/image", t.scratch());
    let pack = Command::new("tar").arg("-C").arg(staging.path()).args(["-c", "."]).output().unwrap();
    let unpack = ["sh", "-c", "mkdir -p $0 && tar -x -C $0", &place];
    let _ = t.command(&unpack).stdin(pack.stdout).run().unwrap().ok();
    let script = "ls -l /evil | wc -l; for d in /evil/*; do head -c 1 $d && echo opened $d; done; true";
    let image = format!("oci:{place}:x");
    for flags in [&[][..], &["--private-users"]] {
        let app = [image.as_str(), "--name=app", "--exec=/bin/sh", "--", "-c", script];
        let out = t.rkt(&[&["run"], flags, &app].concat());
        assert_eq!(out.ok(), "4", "{out}");
        assert_eq!(out.stderr.matches("Permission denied").count(), 3, "{out}");
    }
}
