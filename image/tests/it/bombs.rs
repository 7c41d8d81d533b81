//! Small layers that become large: stopped at their limits, long before their end.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use image::{Digest, FetchOptions, LayerEvent, Limits, Progress, PullPolicy, fetch};

use crate::build::{Bench, Entry, Layer, Tar, chain, gzip};

/// Counts what is taken from the source.
#[derive(Default)]
struct Received(AtomicU64);

impl Progress for Received {
    fn layer(&self, _: Digest, event: LayerEvent) {
        if let LayerEvent::Received { bytes } = event {
            let _ = self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Fetches an image of one layer, which has to fail. Returns why, and how much of the layer was read.
fn refusal(bytes: Vec<u8>, limits: Limits) -> (String, u64) {
    let mut bench = Bench::new();
    let layer = Layer { bytes, diff_id: Digest::of(b"whatever it becomes"), media_type: crate::build::GZIP };
    let name = bench.image("x", &[layer]).parse().unwrap();
    let options = FetchOptions { limits, pull_policy: PullPolicy::Update, ..FetchOptions::default() };
    let received = Received::default();
    let error = chain(&fetch(&bench.store(), &name, &options, &received).expect_err("a bomb"));
    bench.assert_clean();
    assert_eq!(std::fs::read_dir(bench.path("cas/tree")).unwrap().count(), 0);
    (error, received.0.into_inner())
}

fn compress(command: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

#[test]
fn ten_million_empty_files_are_stopped_at_the_limit() {
    // A member of gzip for a thousand files, ten thousand times.
    let names: Vec<String> = (0..1000).map(|at| format!("directory/file-{at}")).collect();
    let thousand = names.iter().fold(Tar::default(), |tar, name| tar.file(name, b"")).unfinished();
    let bytes = gzip(&thousand).repeat(10_000);
    let (size, limits) = (bytes.len() as u64, Limits { entries: 20_000, ..Limits::default() });
    let (error, received) = refusal(bytes, limits);
    assert!(error.contains("exceeds the limit of 20000 entries"), "{error}");
    assert!(received < size / 4, "{received} of {size} bytes were read for a five-hundredth of the files");
}

#[test]
fn every_compression_is_bounded() {
    let limits = Limits { entries: 10, bytes: 100_000, file: 100_000 };
    let zeros = vec![0; 8 << 20];
    for command in [&["gzip"][..], &["zstd", "-q", "-c"], &["bzip2"], &["xz"]] {
        // A thousand times what the limit allows.
        let bytes = compress(command, &zeros).repeat(20);
        let (error, _) = refusal(bytes, limits);
        assert!(error.contains("decompresses to more than 181920 bytes"), "{command:?}: {error}");
    }
}

/// An entry of four kilobytes could make two thousand directories, and no entry for any of them.
#[test]
fn directories_without_an_entry_count() {
    let deep = "d/".repeat(900);
    let tar = (0..9).fold(Tar::default(), |tar, at| tar.file(&format!("{at}/{deep}f"), b""));
    let (error, _) = refusal(gzip(&tar.end()), Limits { entries: 5000, ..Limits::default() });
    assert!(error.contains("exceeds the limit of 5000 entries"), "{error}");
    let tar = Tar::default().file(&format!("{deep}f"), b"");
    let (error, _) = refusal(gzip(&tar.end()), Limits { entries: 500, ..Limits::default() });
    assert!(error.contains("exceeds the limit of 500 entries"), "{error}");
}

/// What waits in memory for the end of the archive.
#[test]
fn names_of_directories_are_bounded() {
    let long = "directory/".repeat(200);
    let dir = |at: u32| format!("{long}{at}");
    let tar = (0..80).fold(Tar::default(), |tar, at| {
        let name = dir(at);
        tar.add(Entry { flag: b'5', name: name.as_bytes(), mode: 0o755, ..Entry::default() })
    });
    let (error, _) = refusal(gzip(&tar.end()), Limits { entries: 2000, ..Limits::default() });
    assert!(error.contains("exceeds the limit of 128000 bytes of names of directories"), "{error}");
}
