//! Tar streams: read, and unpacked beside something that must not change.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, openat, statat};

use crate::digest::Digest;
use crate::recipe::{RECIPE, Rebuild};
use crate::remove::remove_path;
use crate::tarball::{Entries, Entry, TarError};
use crate::unpack::{Limits, Shape, Unpacked, unpack};

/// Small enough to be reached by a fuzzer.
const LIMITS: Limits = Limits { entries: 300, bytes: 1 << 20, file: 256 << 10 };
/// The unit of a tar archive.
pub(super) const BLOCK: usize = 512;
/// What the file beside the tree holds.
const CANARY: &[u8] = b"alive";

/// Reads `stream` in pieces of two sizes, which must not matter, and unpacks it in `place`, an empty directory. What
/// is beside the tree must not change, and in the tree nothing may mean anything to overlayfs that this crate did
/// not put there. The tree and its recipe must make the same stream again.
pub fn tar(stream: &[u8], place: &Path) {
    let mut found = Vec::new();
    for size in [7, 64 << 10] {
        let mut outcome = Vec::new();
        let end = read(&mut Entries::new(BufReader::with_capacity(size, stream)), &mut outcome);
        found.push((outcome, end));
    }
    assert!(found.windows(2).all(|pair| pair.first() == pair.last()), "the size of pieces matters");
    if unpacked(stream, place, Shape::Layer) {
        assert!(found.iter().all(|(_, error)| error.is_none()), "a stream that cannot be read was unpacked");
    }
}

/// The same without reading it for itself. Returns whether it can be unpacked.
pub(super) fn unpacked(stream: &[u8], place: &Path, shape: Shape) -> bool {
    let bench = Bench::new(place);
    let outcome = bench.unpack(stream, shape);
    bench.check_outside();
    if let Some(unpacked) = &outcome {
        bench.check_tree(unpacked);
        bench.check_recipe(stream);
    }
    outcome.is_some()
}

type Found = (Entry, Digest);

/// All entries up to the end or an error.
fn read(entries: &mut Entries<impl io::BufRead>, found: &mut Vec<Found>) -> Option<String> {
    let mut step = || {
        let Some(entry) = entries.next()? else { return Ok(None) };
        let mut data = Vec::new();
        loop {
            let piece = entries.data()?;
            if piece.is_empty() {
                return Ok(Some((entry, Digest::of(&data))));
            }
            data.extend_from_slice(piece);
            let count = piece.len();
            entries.consume(count);
        }
    };
    loop {
        match step() {
            Ok(Some(entry)) => found.push(entry),
            Ok(None) => return None,
            Err(error) => return Some(TarError::to_string(&error)),
        }
    }
}

/// Makes the checksums right of what would be read as headers: a fuzzer does not find them by chance.
pub fn fix_checksums(mut stream: &mut [u8]) {
    while let Some((block, rest)) = stream.split_first_chunk_mut::<BLOCK>() {
        if block.iter().any(|byte| *byte != 0) {
            fix_checksum(block);
        }
        let digits = block.get(124..135).unwrap_or_default().iter().take_while(|b| (b'0'..=b'7').contains(b));
        let size = digits.fold(0_usize, |size, digit| size.saturating_mul(8) + usize::from(digit - b'0'));
        let skip = size.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX).min(rest.len());
        stream = rest.get_mut(skip..).unwrap_or_default();
    }
}

fn fix_checksum(block: &mut [u8; BLOCK]) {
    let sum = |block: &[u8; BLOCK]| block.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    if let Some(field) = block.get_mut(148..156) {
        field.fill(b' ');
    }
    let text = format!("{:06o}\0 ", sum(block));
    if let Some(field) = block.get_mut(148..156) {
        field.copy_from_slice(text.as_bytes());
    }
}

/// `root` and `aside` for the unpacker, and `outside`, which is not for it.
struct Bench<'a>(&'a Path);

impl<'a> Bench<'a> {
    fn new(place: &'a Path) -> Self {
        let bench = Self(place);
        bench.clear();
        for name in ["root", "aside", "work", "outside", "outside/dir"] {
            must(fs::create_dir(place.join(name)));
        }
        must(fs::write(place.join("outside/file"), CANARY));
        bench
    }

    fn clear(&self) {
        for name in ["root", "aside", "work", "outside"] {
            must(remove_path(&self.0.join(name)));
        }
    }

    fn unpack(&self, stream: &[u8], shape: Shape) -> Option<Unpacked> {
        let open = |name| OwnedFd::from(must(File::open(self.0.join(name))));
        let (aside, work) = (open("aside"), open("work"));
        unpack(stream, (open("root"), aside.as_fd(), work.as_fd()), (&LIMITS, shape)).1.ok()
    }

    fn check_outside(&self) {
        let names = |path: &Path| {
            let entries = must(fs::read_dir(path)).map(|entry| must(entry).file_name());
            let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let outside = self.0.join("outside");
        assert_eq!(names(self.0), ["aside", "outside", "root", "work"], "something appeared beside the tree");
        assert_eq!(names(&outside), ["dir", "file"], "something appeared outside");
        assert!(names(&outside.join("dir")).is_empty(), "something appeared in a directory outside");
        assert_eq!(must(fs::read(outside.join("file"))), CANARY, "a file outside was written to");
        for (name, kind) in [("", 0o040_755), ("dir", 0o040_755), ("file", 0o100_644)] {
            let metadata = must(fs::symlink_metadata(outside.join(name)));
            // The umask may have taken something away when it was made, and setgid may have been passed on.
            assert_eq!(metadata.mode() & !0o2777, kind & !0o2777, "{name:?} outside is something else");
            assert!(metadata.mode() & !kind & 0o5777 == 0, "the mode of {name:?} outside was changed");
            assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw(), "{name:?} has another owner");
            assert!(name != "file" || metadata.nlink() == 1, "a file outside was linked to");
            assert!(metadata.mtime() > 1_500_000_000, "the time of {name:?} outside was changed");
        }
    }

    fn check_recipe(&self, stream: &[u8]) {
        let (recipe, root) = (self.0.join("work").join(RECIPE), self.0.join("root"));
        let mut rebuild = must(Rebuild::new(must(File::open(recipe)), must(File::open(root)).into()));
        let mut again = Vec::new();
        let _ = must(rebuild.read_to_end(&mut again));
        assert_eq!(rebuild.differences(), [], "the tree lacks something");
        assert!(again == stream, "{} bytes were made again of {}", again.len(), stream.len());
    }

    /// Trees can be deeper than paths are long: directories are opened from one another.
    fn check_tree(&self, unpacked: &Unpacked) {
        let mut bytes = 0;
        let mut todo = vec![OwnedFd::from(must(File::open(self.0.join("root"))))];
        while let Some(dir) = todo.pop() {
            check_attributes(&dir, FileType::Directory);
            for entry in known(Dir::read_from(&dir)) {
                let entry = known(entry);
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let stat = known(statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW));
                let kind = FileType::from_raw_mode(stat.st_mode);
                check_node(&stat, kind);
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = || known(openat(&dir, name, flags, Mode::empty()));
                match kind {
                    FileType::Directory => todo.push(open()),
                    FileType::RegularFile => {
                        bytes += u64::try_from(stat.st_size).unwrap_or_default() / stat.st_nlink.max(1);
                        check_attributes(&open(), kind);
                    }
                    _ => {}
                }
            }
        }
        assert!(bytes <= unpacked.bytes, "{bytes} bytes of files, {} were counted", unpacked.bytes);
        assert!(unpacked.bytes <= LIMITS.bytes && unpacked.entries <= LIMITS.entries, "beyond the limits");
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clear();
        }
    }
}

/// A whiteout has no permissions; no other character device is 0:0.
fn check_node(stat: &Stat, kind: FileType) {
    let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
    assert!(!whiteout || stat.st_mode & 0o7777 == 0, "an entry made a whiteout");
    assert!(kind != FileType::Socket, "an entry made a socket");
}

/// Only the unpacker's own mark may be there of what overlayfs obeys.
fn check_attributes(fd: &OwnedFd, kind: FileType) {
    let mut names = vec![0; 64 << 10];
    let count = known(flistxattr(fd, &mut names));
    for name in names.get(..count).unwrap_or_default().split(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(name);
        let mut value = [0; 2];
        let mut mark = || fgetxattr(fd, "trusted.overlay.opaque", &mut value) == Ok(1) && value == *b"y\0";
        let ours = name == "trusted.overlay.opaque" && kind == FileType::Directory && mark();
        let lawful = name.is_empty() || name == "security.capability" || name.starts_with("user.");
        assert!(ours || (lawful && !name.starts_with("user.overlay.")), "the attribute {name:?} was set");
    }
}

fn known<T>(outcome: rustix::io::Result<T>) -> T {
    must(outcome.map_err(io::Error::from))
}

/// What the harness needs is not what is tested: without it there is no point in going on.
#[expect(clippy::expect_used, reason = "a fuzzer has nobody to report to")]
pub(super) fn must<T>(outcome: io::Result<T>) -> T {
    outcome.expect("the harness cannot work")
}

/// A file of the harness.
pub(super) fn write(place: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = place.join(name);
    must(fs::write(&path, bytes));
    path
}
