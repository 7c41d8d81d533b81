//! Finding and making files in an app's root, whatever the image, a volume or another app put there.
//!
//! A path of `config.json` is resolved by the kernel with the app's root as `/` (`RESOLVE_IN_ROOT`) and without magic
//! links; the result is a descriptor, and everything that follows uses the descriptor, so that a link that is swapped
//! meanwhile changes nothing (openat2(2); runc's CVE-2019-19921, CVE-2021-30465, CVE-2024-45310).
//! Missing parts are made one by one beneath descriptors.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory, 0755.
    Directory,
    /// An empty file, 0644.
    File,
}

/// As many links as the kernel follows, path_resolution(7).
const MAX_LINKS: usize = 40;

/// Opens what `path` leads to, with `root` as `/`.
pub fn open(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    resolve(root.as_fd(), path.as_ref(), flags, ResolveFlags::IN_ROOT)
}

/// Opens what `path` leads to, with `root` as `/`, and no symbolic link anywhere on the way (`ELOOP`).
pub fn open_without_links(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    resolve(root.as_fd(), path.as_ref(), flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

/// Opens what `path` leads to (`O_PATH`), and makes what is missing of it: directories, and at the end a `kind`.
pub fn open_or_make(root: impl AsFd, path: impl AsRef<Path>, kind: Kind) -> Result<OwnedFd> {
    let root = root.as_fd();
    let mut path = path.as_ref().to_owned();
    for _ in 0..MAX_LINKS {
        match open(root, &path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        match make(root, &path, kind)? {
            Made::Target(fd) => return Ok(fd),
            Made::Link(target) => path = target,
        }
    }
    Err(Errno::LOOP)
}

enum Made {
    Target(OwnedFd),
    /// A link that leads nowhere is on the way: the path that it stands for.
    Link(PathBuf),
}

/// Walks down, making what is missing, until the end or a dangling link.
fn make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<Made> {
    let names: Vec<&OsStr> = names(path).collect();
    let mut walked = PathBuf::from("/");
    let mut at = open(root, &walked, OFlags::PATH | OFlags::DIRECTORY)?;
    for (i, name) in names.iter().enumerate() {
        let is_last = i + 1 == names.len();
        let next = walked.join(name);
        at = match open(root, &next, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => match make_one(&at, name, if is_last { kind } else { Kind::Directory }) {
                Err(Errno::EXIST) => {
                    let rest: PathBuf = names.iter().skip(i + 1).collect();
                    return Ok(Made::Link(walked.join(read_link(&at, name)?).join(rest)));
                }
                made => made?,
            },
            Err(e) => return Err(e),
        };
        walked = next;
    }
    Ok(Made::Target(at))
}

fn make_one(parent: &OwnedFd, name: &OsStr, kind: Kind) -> Result<OwnedFd> {
    let stay = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        Kind::Directory => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            rustix::fs::openat(parent, name, OFlags::PATH | OFlags::DIRECTORY | stay, Mode::empty())
        }
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | stay;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))
        }
    }
}

fn read_link(parent: &OwnedFd, name: &OsStr) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
    Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
}

/// The names of a path; `..` is kept, the kernel gives it its meaning.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed somewhere while `..` was resolved: the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let tmp = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(tmp.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (tmp, fd)
    }

    #[test]
    fn what_is_missing_is_made() {
        let (tmp, root) = root();
        let _ = open_or_make(&root, "/a/b/../c/d", Kind::Directory).unwrap();
        let _ = open_or_make(&root, "/a/f", Kind::File).unwrap();
        assert!(tmp.path().join("a/c/d").is_dir());
        assert!(tmp.path().join("a/f").is_file());
    }

    #[test]
    fn links_lead_to_places_in_the_root() {
        let (tmp, root) = root();
        symlink("/run", tmp.path().join("var")).unwrap();
        symlink("../../../../up", tmp.path().join("out")).unwrap();
        let _ = open_or_make(&root, "/var/lib/x", Kind::Directory).unwrap();
        let _ = open_or_make(&root, "/out/y", Kind::File).unwrap();
        assert!(tmp.path().join("run/lib/x").is_dir());
        assert!(tmp.path().join("up/y").is_file());
        assert!(!tmp.path().parent().unwrap().join("up").exists());
    }

    #[test]
    fn links_in_a_circle_and_magic_links_are_refused() {
        let (tmp, root) = root();
        symlink("b", tmp.path().join("a")).unwrap();
        symlink("a", tmp.path().join("b")).unwrap();
        assert_eq!(open_or_make(&root, "/a/x", Kind::Directory).unwrap_err(), Errno::LOOP);
        let slash = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(open(&slash, "/proc/self/cwd", OFlags::PATH).unwrap_err(), Errno::LOOP);
        assert_eq!(open_without_links(&root, "/a", OFlags::PATH).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let (tmp, root) = root();
        std::fs::write(tmp.path().join("f"), "").unwrap();
        assert_eq!(open_or_make(&root, "/f/x", Kind::Directory).unwrap_err(), Errno::NOTDIR);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

        /// Whatever links an image has and whatever path is asked for: what is made is made inside.
        #[test]
        fn nothing_is_made_outside(
            links in proptest::collection::vec(("[abc]", "(/|\\.\\./|\\./|[abc]/){0,6}[abcd]?"), 0..5),
            path in "(/|\\.\\./|[abcd]/){1,8}[abcd]",
            is_file: bool,
        ) {
            let outer = tempfile::tempdir().unwrap();
            let inner = outer.path().join("x/y/root");
            std::fs::create_dir_all(&inner).unwrap();
            for (name, to) in links.iter().filter(|(_, to)| !to.is_empty()) {
                // A name can come twice.
                let _ = symlink(to, inner.join(name));
            }
            let root = rustix::fs::open(&inner, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            let _ = open_or_make(&root, &path, if is_file { Kind::File } else { Kind::Directory });
            let names = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
            proptest::prop_assert_eq!(names(outer.path()), 1);
            proptest::prop_assert_eq!(names(&outer.path().join("x")), 1);
            proptest::prop_assert_eq!(names(&outer.path().join("x/y")), 1);
        }
    }
}
