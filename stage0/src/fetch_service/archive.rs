//! Images in files: a member opens the file, root reads what was opened.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use image::{AciWord, ImageName};
use rustix::fs::{FileType, Mode, OFlags};

/// proc(5), sysfs(5): what a file there holds depends on who opens it. statfs(2) has the numbers.
const ASK_WHO_OPENS: [i64; 2] = [0x9fa0, 0x6265_6572];

/// A member's file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error(
        "a directory cannot be handed to the fetch service: make an archive of it (oci-archive:PATH), or ask root"
    )]
    Directory,
    #[error("an ACI in a file cannot be handed to the fetch service: name its URL, or ask root")]
    Aci,
    #[error("the image is in a file, and no open file came with the request")]
    Missing,
    #[error("an open file came with the request, and the image is in none")]
    Unasked,
    #[error("what came with the request is no regular file that was opened for reading")]
    Unreadable,
    #[error("cannot look at the file that came with the request")]
    Look(#[from] rustix::io::Errno),
}

/// Opens the file that an image is in, if it is in one: as whoever runs this.
pub(super) fn open(name: &ImageName) -> Result<Option<File>, ArchiveError> {
    match place(name)? {
        Some(path) => {
            let opened =
                rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
            let source =
                |e: rustix::io::Errno| ArchiveError::Open { path: path.to_owned(), source: e.into() };
            Ok(Some(File::from(opened.map_err(source)?)))
        }
        None => Ok(None),
    }
}

/// The name of the same image in the file that came with the request. The path of the request itself is not used. The
/// second is what the file is called in messages, if there is one.
pub(super) fn take(
    name: ImageName,
    came: Option<&OwnedFd>,
) -> Result<(ImageName, Option<String>), ArchiveError> {
    let (file, fd) = match (place(&name)?.is_some(), came) {
        (true, Some(fd)) => (fd, format!("/proc/self/fd/{}", fd.as_raw_fd())),
        (true, None) => return Err(ArchiveError::Missing),
        (false, Some(_)) => return Err(ArchiveError::Unasked),
        (false, None) => return Ok((name, None)),
    };
    check(file)?;
    let path = PathBuf::from(&fd);
    let name = match name {
        ImageName::OciArchive { tag, .. } => ImageName::OciArchive { path, tag },
        ImageName::DockerArchive { name, .. } => ImageName::DockerArchive { path, name },
        ImageName::Oci { .. } | ImageName::Registry(_) | ImageName::Id(_) | ImageName::Aci(_) => {
            return Err(ArchiveError::Unasked);
        }
    };
    Ok((name, Some(fd)))
}

/// The file that an image is in. Every kind of name is listed: one that is new has to be thought about here, because root
/// must open no path that a member wrote.
fn place(name: &ImageName) -> Result<Option<&Path>, ArchiveError> {
    match name {
        ImageName::Oci { .. } => Err(ArchiveError::Directory),
        ImageName::OciArchive { path, .. } | ImageName::DockerArchive { path, .. } => Ok(Some(path)),
        // Its signature is a second file, beside it.
        ImageName::Aci(AciWord::File(_)) => Err(ArchiveError::Aci),
        ImageName::Registry(_) | ImageName::Id(_) | ImageName::Aci(_) => Ok(None),
    }
}

/// Root opens the file again, through /proc: so it has to be one that the member could read. A descriptor proves that if
/// it was opened for reading; one of O_PATH proves nothing at all.
fn check(fd: impl AsFd) -> Result<(), ArchiveError> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    let reads =
        matches!(flags & OFlags::RWMODE, OFlags::RDONLY | OFlags::RDWR) && !flags.contains(OFlags::PATH);
    let stat = rustix::fs::fstat(&fd)?;
    let kind = rustix::fs::fstatfs(&fd)?.f_type;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if reads && regular && !ASK_WHO_OPENS.contains(&kind) { Ok(()) } else { Err(ArchiveError::Unreadable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &Path, flags: OFlags) -> OwnedFd {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn only_what_was_opened_for_reading_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        std::fs::write(&file, "x").unwrap();
        for good in [OFlags::RDONLY, OFlags::RDWR] {
            check(opened(&file, good)).unwrap();
        }
        for bad in [OFlags::WRONLY, OFlags::PATH, OFlags::PATH | OFlags::RDWR] {
            assert!(matches!(check(opened(&file, bad)), Err(ArchiveError::Unreadable)), "{bad:?}");
        }
        for bad in ["/proc/self/status", "/sys/kernel/uevent_seqnum", "/dev/null", "/etc"] {
            let fd = opened(Path::new(bad), OFlags::RDONLY);
            assert!(matches!(check(fd), Err(ArchiveError::Unreadable)), "{bad}");
        }
    }

    #[test]
    fn a_path_of_a_request_is_never_opened() {
        let name = |text: &str| text.parse::<ImageName>().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, "x").unwrap();
        let fd = opened(&path, OFlags::RDONLY);
        let (taken, shown) = take(name("docker-archive:/etc/shadow:a/b:1"), Some(&fd)).unwrap();
        assert_eq!(taken.path().unwrap().to_str(), shown.as_deref());
        assert!(shown.unwrap().starts_with("/proc/self/fd/"));
        assert!(matches!(take(name("oci-archive:/etc/shadow"), None), Err(ArchiveError::Missing)));
        for directory in [None, Some(&fd)] {
            assert!(matches!(take(name("oci:/etc"), directory), Err(ArchiveError::Directory)));
            for path in ["/etc/shadow", "./x", "file:///x.aci", "cimd:aci-archive:v=0:file%3A%2F%2F%2Fx.aci"]
            {
                assert!(matches!(take(name(path), directory), Err(ArchiveError::Aci)), "{path}");
            }
        }
        assert!(matches!(take(name("example.org/a"), Some(&fd)), Err(ArchiveError::Unasked)));
        assert_eq!(take(name("example.org/a"), None).unwrap(), (name("example.org/a"), None));
    }
}
