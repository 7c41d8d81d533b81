//! `rkt fetch` of an image of four layers and about 750 MB, against `podman pull` and `ctr images pull`,
//! from a docker-registry on loopback. All storage, the registry's too, is tmpfs; everybody starts empty
//! in every round.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use oci_spec::image::ConfigBuilder;
use tests::Kind;
use tests::artifact;
use tests::bench::{Contender, contest, in_node, output, say};
use tests::fixtures::{Entry, Tree, write_layout};
use tests::registry::{Server, fill};

const ROUNDS: u32 = 5;

/// Bytes of files in one layer.
const LAYER: u64 = 190_000_000;

fn main() -> Result<ExitCode> {
    in_node(Kind::native()?, || storage().map(drop), bench)
}

fn bench() -> Result<()> {
    let _ = output(&["cp", "-a", &storage()?.to_string_lossy(), "/tmp/registry"])?;
    let (_server, address) = Server::serve(Path::new("/tmp/registry"))?;
    let image = format!("{address}/big:1");
    let blobs = output(&["du", "-sm", "/tmp/registry"])?;
    say(&format!("the image: 4 layers, {} MB compressed", blobs.split_whitespace().next().unwrap_or("?")))?;
    let podman = [
        "podman",
        "--root=/tmp/podman",
        "--runroot=/tmp/podman-run",
        "--cgroup-manager=cgroupfs",
        "pull",
        "--quiet",
        "--tls-verify=false",
        &image,
    ];
    let ctr = ["ctr", "-a", "/tmp/ctr/sock", "images", "pull", "--plain-http", &image];
    let contenders = vec![
        Contender::new("rkt fetch", &["rkt", "--dir=/tmp/rkt", "fetch", &image])?.after("rm -rf /tmp/rkt")?,
        Contender::new("podman pull", &podman)?.after(PODMAN_AFRESH)?,
        Contender::new("ctr images pull", &ctr)?.after(CONTAINERD_AFRESH)?,
    ];
    let medians = contest("fetch and unpack", ROUNDS, contenders)?;
    if let [rkt, podman, ctr] = medians.as_slice() {
        let (podman, ctr) = (podman / rkt, ctr / rkt);
        say(&format!("  podman takes {podman:.2}, ctr {ctr:.2} times as long as rkt (aim: at least 2)"))?;
    }
    let unpacked = output(&["bash", "-c", "du -sm --apparent-size /tmp/rkt | cut -f1"])?;
    let _ = output(&["bash", "-c", "kill \"$(cat /tmp/ctr/pid)\""])?;
    say(&format!("  rkt's store of it afterwards: {} MB", unpacked.trim()))
}

/// podman's overlay may be mounted on its own directory.
const PODMAN_AFRESH: &str =
    "umount /tmp/podman/overlay 2>/dev/null || true; rm -rf /tmp/podman /tmp/podman-run";

/// A containerd of our own, with nothing but what a pull needs; it is up when its socket answers.
const CONTAINERD_AFRESH: &str = r#"
if [ -e /tmp/ctr/pid ]; then kill "$(cat /tmp/ctr/pid)"; while [ -e "/proc/$(cat /tmp/ctr/pid)" ]; do sleep 0.05; done; fi
rm -rf /tmp/ctr; mkdir -p /tmp/ctr
cat > /tmp/ctr/config.toml <<C
version = 2
root = "/tmp/ctr/root"
state = "/tmp/ctr/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "/tmp/ctr/sock"
C
setsid containerd -c /tmp/ctr/config.toml >/tmp/ctr/log 2>&1 &
echo $! > /tmp/ctr/pid
until ctr -a /tmp/ctr/sock version >/dev/null 2>&1; do sleep 0.05; done
"#;

/// A registry's storage with the image, in the cache. Its layers are this machine's `/usr`: real files of
/// all sizes, which compress as real files do.
fn storage() -> Result<PathBuf> {
    artifact::cached("bench/registry", |staging| {
        let layout = artifact::cached("bench/big", |staging| {
            let mut files = Vec::new();
            collect(Path::new("/usr/lib"), &mut files).context("cannot list /usr/lib")?;
            collect(Path::new("/usr/share"), &mut files).context("cannot list /usr/share")?;
            let mut files = files.into_iter();
            let layers = (0..4).map(|_| layer(&mut files)).collect::<Result<Vec<_>>>()?;
            write_layout(staging, &layers, ConfigBuilder::default().cmd(vec!["true".to_owned()]).build()?)
        })?;
        fill(staging, &[("big", layout)])
    })
}

/// The next files that make a layer, and the directories above them.
fn layer(files: &mut impl Iterator<Item = PathBuf>) -> Result<Tree> {
    let (mut tree, mut bytes) = (Tree::default(), 0);
    while bytes < LAYER {
        let path = files.next().context("/usr is too small for this benchmark")?;
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        bytes += content.len() as u64;
        let relative = path.strip_prefix("/").unwrap_or(&path);
        for parent in relative.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            tree.add(&parent.to_string_lossy(), Entry::directory(0o755));
        }
        tree.add(&relative.to_string_lossy(), Entry::file(content, 0o644));
    }
    Ok(tree)
}

/// All regular files below a directory that are not huge, sorted.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect(&entry.path(), files)?;
        } else if metadata.is_file() && metadata.len() < 50_000_000 {
            files.push(entry.path());
        }
    }
    Ok(())
}
