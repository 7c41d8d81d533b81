//! The directory of manifests: which file holds which pods.
//!
//! Every look reads the whole directory; files whose text has not changed are not parsed again. Sub-directories, hidden
//! files, editors' backups and what is not a regular file are passed over.
//!
//! A document that is refused takes nothing away: as long as a file has such documents, the pods that it held before and
//! that are not among its good documents stay as they were. They go when the file is good again without them, or gone.
//! [`Directory::remember`] tells a fresh kubelet about the pods of its predecessor, so that this holds across restarts.
//! When the directory cannot be read, nothing changes at all.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::{self, DecodeError};
use super::static_pod;
use crate::desired::{Desired, FullName};

/// A file that is larger is refused; the Go kubelet's limit.
const LARGEST: u64 = 10 << 20;

/// The directory, and what was in it at the last look.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    node: String,
    files: BTreeMap<PathBuf, File>,
}

/// A document that is not a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{document}{pod}: {reason}", file = .file.display(), pod = name_of(.name.as_deref()))]
pub(crate) struct Rejection {
    /// The file.
    pub(crate) file: PathBuf,
    /// What of it.
    pub(crate) document: Place,
    /// The name that it gives itself, when it could be read.
    pub(crate) name: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The pods that are wanted.
    pub(crate) pods: BTreeMap<FullName, Arc<Desired>>,
    /// Documents that were refused and were not at the last look.
    pub(crate) rejected: Vec<Rejection>,
}

#[derive(Debug, Default)]
struct File {
    text: Option<Vec<u8>>,
    pods: Vec<Arc<Desired>>,
    rejected: Vec<Rejection>,
}

/// What of a file was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file as a whole.
    File,
    /// A document, from 1.
    Document(usize),
    /// A good document of which another file has a rival.
    Rival,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File | Self::Rival => Ok(()),
            Self::Document(number) => write!(f, ": document {number}"),
        }
    }
}

fn name_of(name: Option<&str>) -> String {
    name.map(|n| format!(" (pod {n:?})")).unwrap_or_default()
}

impl Directory {
    /// The directory at `path`, for the node of this name.
    pub(crate) fn new(path: &Path, node: &str) -> Self {
        Self { path: path.to_owned(), node: node.to_owned(), files: BTreeMap::new() }
    }

    /// Says which pods the files held when they were last good.
    pub(crate) fn remember(&mut self, pods: impl IntoIterator<Item = Desired>) {
        for pod in pods {
            let file = PathBuf::from(&pod.file);
            if file.parent() == Some(&self.path) {
                self.files.entry(file).or_default().pods.push(Arc::new(pod));
            }
        }
    }

    /// Looks at every file.
    pub(crate) fn read(&mut self, now: jiff::Timestamp) -> std::io::Result<Listing> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if is_manifest(&path) {
                paths.push(path);
            }
        }
        self.files.retain(|path, _| paths.contains(path));
        let mut listing = Listing::default();
        paths.sort();
        for path in paths {
            let text = read_text(&path);
            if text.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
                // It has gone since the directory was read.
                let _ = self.files.remove(&path);
                continue;
            }
            let file = self.files.entry(path.clone()).or_default();
            let before = file.rejected.clone();
            file.look(&path, text, &self.node, now);
            file.rejected.retain(|r| r.document != Place::Rival);
            for pod in &file.pods {
                if let Some(reason) = rival(&listing.pods, pod) {
                    let name = pod.pod.metadata.name.clone();
                    file.rejected.push(Rejection {
                        file: path.clone(),
                        document: Place::Rival,
                        name,
                        reason,
                    });
                } else {
                    let _ = listing.pods.insert(pod.name.clone(), Arc::clone(pod));
                }
            }
            listing.rejected.extend(file.rejected.iter().filter(|r| !before.contains(r)).cloned());
        }
        Ok(listing)
    }
}

impl File {
    fn look(&mut self, path: &Path, text: std::io::Result<Vec<u8>>, node: &str, now: jiff::Timestamp) {
        let text = match text {
            Ok(text) => text,
            Err(e) => {
                // Nothing is known about the file now: what it held stays.
                let reason = format!("cannot be read: {e}");
                self.rejected =
                    vec![Rejection { file: path.to_owned(), document: Place::File, name: None, reason }];
                self.text = None;
                return;
            }
        };
        if self.text.as_ref() == Some(&text) {
            return;
        }
        let (mut pods, rejected) = parse(&text, path, node, now);
        for pod in &mut pods {
            // The same version keeps the time when it was first seen.
            if let Some(same) = self.pods.iter().find(|p| p.uid == pod.uid && p.hash == pod.hash) {
                *pod = Arc::clone(same);
            }
        }
        if !rejected.is_empty() {
            let names: Vec<FullName> = pods.iter().map(|p| p.name.clone()).collect();
            pods.extend(self.pods.drain(..).filter(|p| !names.contains(&p.name)));
        }
        *self = Self { text: Some(text), pods, rejected };
    }
}

/// Why a pod cannot be beside those that are there.
fn rival(pods: &BTreeMap<FullName, Arc<Desired>>, pod: &Desired) -> Option<String> {
    if let Some(first) = pods.get(&pod.name) {
        return Some(format!("there is another manifest of {}, in {}", pod.name, first.file));
    }
    let first = pods.values().find(|p| p.uid == pod.uid)?;
    Some(format!("its UID {} is that of {}, in {}", pod.uid, first.name, first.file))
}

fn parse(text: &[u8], path: &Path, node: &str, now: jiff::Timestamp) -> (Vec<Arc<Desired>>, Vec<Rejection>) {
    let (mut pods, mut rejected): (Vec<Arc<Desired>>, Vec<Rejection>) = (Vec::new(), Vec::new());
    let mut reject = |document, name, reason| {
        let document = Place::Document(document);
        rejected.push(Rejection { file: path.to_owned(), document, name, reason });
    };
    let Ok(text) = std::str::from_utf8(text) else {
        reject(1, None, "not YAML: not UTF-8 text".to_owned());
        return (pods, rejected);
    };
    for (i, document) in decode::pods(text).into_iter().enumerate() {
        let made = match document {
            Ok(document) => {
                static_pod::pod(document, path, node, now).map_err(|r| (r.name, r.reasons.join("; ")))
            }
            Err(DecodeError::Yaml(e)) => Err((None, format!("not YAML: {e}"))),
            Err(e @ DecodeError::Kind(_)) => Err((None, e.to_string())),
        };
        match made {
            Ok(pod) if pods.iter().any(|p| p.name == pod.name) => {
                reject(i + 1, pod.pod.metadata.name, "this file has another pod of that name".to_owned());
            }
            Ok(pod) => pods.push(Arc::new(pod)),
            Err((name, reason)) => reject(i + 1, name, one_line(&reason)),
        }
    }
    (pods, rejected)
}

/// Text from a manifest in a line of a log.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect()
}

fn is_manifest(path: &Path) -> bool {
    // Following links: a ConfigMap's files are links. A FIFO must not even be opened.
    has_manifest_name(path) && std::fs::metadata(path).is_ok_and(|m| m.is_file())
}

/// Whether the name is neither hidden nor that of an editor's backup.
pub(super) fn has_manifest_name(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return false };
    let backup = name.starts_with('.') || name.starts_with('#') || name.ends_with('~');
    let temporary =
        [".swp", ".swx", ".tmp", ".bak", ".orig", ".rej", ".part"].iter().any(|s| name.ends_with(s));
    !backup && !temporary
}

fn read_text(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut text)?;
    if u64::try_from(read).is_ok_and(|n| n > LARGEST) {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 10 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        tmp: tempfile::TempDir,
        directory: Directory,
    }

    fn fixture() -> Fixture {
        let tmp = tempfile::tempdir().unwrap();
        let directory = Directory::new(tmp.path(), "n1");
        Fixture { tmp, directory }
    }

    fn yaml(name: &str, image: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: \"{image}\"}}]}}\n"
        )
    }

    impl Fixture {
        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.tmp.path().join(name), text).unwrap();
        }

        /// `name=image` of each pod, and the new rejections.
        fn look(&mut self) -> (Vec<String>, Vec<String>) {
            let listing = self.directory.read(jiff::Timestamp::now()).unwrap();
            let image = |p: &Desired| p.spec().containers[0].image.clone().unwrap();
            let pods = listing.pods.values().map(|p| format!("{}={}", p.name.name, image(p))).collect();
            (pods, listing.rejected.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn files_come_and_go() {
        let mut f = fixture();
        assert_eq!(f.look().0, Vec::<String>::new());
        f.write("a.yaml", &(yaml("a", "x") + &yaml("b", "x")));
        f.write("c.json", r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"},"spec":{"containers":[{"name":"c","image":"x"}]}}"#);
        for ignored in [".a.yaml", ".a.yaml.swp", "a.yaml~", "a.yaml.swp", "#a.yaml#", "a.yaml.bak"] {
            f.write(ignored, &yaml("ignored", "x"));
        }
        std::fs::create_dir(f.tmp.path().join("dir")).unwrap();
        assert_eq!(f.look(), (vec!["a-n1=x".into(), "b-n1=x".into(), "c-n1=x".into()], vec![]));
        std::fs::remove_file(f.tmp.path().join("a.yaml")).unwrap();
        assert_eq!(f.look().0, ["c-n1=x"]);
    }

    #[test]
    fn a_bad_document_keeps_what_it_said_and_spoils_no_other() {
        let mut f = fixture();
        f.write("m", &(yaml("a", "1") + &yaml("b", "1")));
        f.write("other", &yaml("c", "1"));
        assert_eq!(f.look().0, ["a-n1=1", "b-n1=1", "c-n1=1"]);
        f.write("m", &(yaml("a", "2") + "---\n\tb: [\n"));
        f.write("other", &yaml("c", "2"));
        let (pods, rejected) = f.look();
        assert_eq!(pods, ["a-n1=2", "b-n1=1", "c-n1=2"]);
        assert!(rejected.len() == 1 && rejected[0].contains("/m: document 2: not YAML"), "{rejected:?}");
        assert_eq!(f.look().1, Vec::<String>::new(), "said once");
        f.write("m", &yaml("a", "2"));
        assert_eq!(f.look().0, ["a-n1=2", "c-n1=2"]);
    }

    #[test]
    fn a_refused_version_keeps_the_one_before_also_across_a_restart() {
        let mut f = fixture();
        f.write("m", &yaml("a", "1"));
        let before = f.directory.read(jiff::Timestamp::now()).unwrap();
        f.write("m", &yaml("a", "-bad"));
        let (pods, rejected) = f.look();
        assert_eq!(pods, ["a-n1=1"]);
        assert!(rejected[0].contains("document 1 (pod \"a\"): spec.containers[0].image"), "{rejected:?}");

        f.directory = Directory::new(f.tmp.path(), "n1");
        f.directory.remember(before.pods.values().map(|p| Desired::clone(p)));
        assert_eq!(f.look().0, ["a-n1=1"]);
        std::fs::remove_file(f.tmp.path().join("m")).unwrap();
        assert_eq!(f.look().0, Vec::<String>::new());
    }

    #[test]
    fn one_name_twice() {
        let mut f = fixture();
        f.write("1", &yaml("a", "1"));
        f.write("2", &(yaml("a", "2") + &yaml("b", "1") + &yaml("b", "2")));
        let (pods, rejected) = f.look();
        assert_eq!(pods, ["a-n1=1", "b-n1=1"]);
        assert_eq!(rejected.len(), 2, "{rejected:?}");
        assert_eq!(f.look().1, Vec::<String>::new(), "said once");
        let with_uid = |name: &str| yaml(name, "1").replace("{name: ", "{uid: same, name: ");
        f.write("3", &(with_uid("c") + &with_uid("d")));
        let (pods, rejected) = f.look();
        assert_eq!(pods, ["a-n1=1", "b-n1=1", "c-n1=1"]);
        assert!(rejected[0].contains("its UID same is that of default/c-n1"), "{rejected:?}");
    }

    #[test]
    fn a_manifest_that_stays_keeps_the_time_it_was_seen() {
        let mut f = fixture();
        f.write("m", &yaml("a", "1"));
        let first = f.directory.read("2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
        let later = f.directory.read("2026-02-01T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(first.pods, later.pods);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let mut f = fixture();
        f.write("m", &yaml("a", "1"));
        assert_eq!(f.look().0, ["a-n1=1"]);
        let huge = std::fs::File::create(f.tmp.path().join("m")).unwrap();
        huge.set_len(LARGEST + 1).unwrap();
        let (pods, rejected) = f.look();
        assert_eq!(pods, ["a-n1=1"]);
        assert!(rejected[0].ends_with("/m: cannot be read: larger than 10 MiB"), "{rejected:?}");
        std::fs::remove_dir_all(f.tmp.path()).unwrap();
        assert!(f.directory.read(jiff::Timestamp::now()).is_err());
    }

    #[test]
    fn a_fifo_does_not_hang_and_bytes_are_not_text() {
        let mut f = fixture();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            f.tmp.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        std::fs::write(f.tmp.path().join("bytes"), [0xff, 0xfe, 0]).unwrap();
        let (pods, rejected) = f.look();
        assert!(pods.is_empty() && rejected.len() == 1, "{rejected:?}");
    }
}
