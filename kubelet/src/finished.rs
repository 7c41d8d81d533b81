//! What became of pods that are over, for when their rkt pods are gone.
//!
//! A pod that is over is kept by rkt only until somebody collects garbage. Without this record it would then look as if
//! it had never run, and a job would run again. One file per pod, below the kubelet's own directory:
//! `finished/<namespace>/<name>`, JSON, written by rename. (A name can be as long as a file's name may be: nothing else
//! fits into it.) It counts for the version of the manifest that it names.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};

use crate::desired::{Desired, FullName};

/// The records.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    dir: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    hash: String,
    status: PodStatus,
}

// A few hundred bytes, a few times in the life of a pod: not worth a thread.
impl Finished {
    /// Those below the kubelet's directory.
    pub(crate) fn new(root: &Path) -> Self {
        Self { dir: root.join("finished") }
    }

    /// How this version of the pod ended, if it did. A record that cannot be read is none: the pod runs again.
    pub(crate) fn of(&self, desired: &Desired) -> Option<PodStatus> {
        let text = std::fs::read(self.path(&desired.name)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        (record.hash == desired.hash).then_some(record.status)
    }

    /// Writes down how it ended.
    pub(crate) fn note(&self, desired: &Desired, status: &PodStatus) -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let record = Record { hash: desired.hash.clone(), status: status.clone() };
        let dir = self.dir.join(&desired.name.namespace);
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
        // Pods are noted one at a time, and no pod's name begins with a dot.
        let beside = dir.join(".new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(&beside)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        std::fs::rename(beside, self.path(&desired.name))
    }

    /// The pod is not wanted any more.
    pub(crate) fn forget(&self, name: &FullName) {
        if let Err(e) = std::fs::remove_file(self.path(name))
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(pod = %name, "cannot remove the record of its end: {e}");
        }
    }

    /// Forgets every pod that is not wanted: also those whose manifest went away while no kubelet ran.
    pub(crate) fn keep(&self, wanted: impl Fn(&FullName) -> bool) {
        let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
        for namespace in entries(&self.dir) {
            for file in entries(&namespace.path()) {
                let (Ok(namespace), Ok(name)) =
                    (namespace.file_name().into_string(), file.file_name().into_string())
                else {
                    continue;
                };
                let name = FullName { namespace, name };
                if !wanted(&name) {
                    self.forget(&name);
                }
            }
            // It is removed when it is empty.
            let _ = std::fs::remove_dir(namespace.path());
        }
    }

    fn path(&self, name: &FullName) -> PathBuf {
        // Both are DNS names: no slash, no dot at the beginning.
        self.dir.join(&name.namespace).join(&name.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::desired;

    #[test]
    fn a_record_counts_for_its_version_only() {
        let tmp = tempfile::tempdir().unwrap();
        let finished = Finished::new(tmp.path());
        let (one, other) = (desired("Never", &[], &["a"]), desired("Never", &[], &["b"]));
        assert_eq!(finished.of(&one), None);
        let status = PodStatus { phase: Some("Succeeded".to_owned()), ..PodStatus::default() };
        finished.note(&one, &status).unwrap();
        assert_eq!((finished.of(&one), finished.of(&other)), (Some(status.clone()), None));
        finished.note(&other, &status).unwrap();
        assert_eq!((finished.of(&one), finished.of(&other)), (None, Some(status.clone())));
        finished.forget(&one.name);
        finished.forget(&one.name);
        assert_eq!(finished.of(&other), None);
        finished.note(&one, &status).unwrap();
        finished.keep(|name| *name == one.name);
        assert_eq!(finished.of(&one), Some(status));
        finished.keep(|_| false);
        assert_eq!(finished.of(&one), None);
        assert!(!tmp.path().join("finished/default").exists());
        finished.note(&one, &PodStatus::default()).unwrap();
        std::fs::write(tmp.path().join("finished/default/web-n1"), "{").unwrap();
        assert_eq!(finished.of(&one), None);
    }

    #[test]
    fn a_job_with_the_longest_name_ran_again_because_its_end_could_not_be_written_down() {
        let tmp = tempfile::tempdir().unwrap();
        let finished = Finished::new(tmp.path());
        let mut job = desired("Never", &[], &["a"]);
        job.name = FullName { namespace: "s".repeat(63), name: "n".repeat(253) };
        finished.note(&job, &PodStatus::default()).unwrap();
        finished.keep(|name| *name == job.name);
        assert_eq!(finished.of(&job), Some(PodStatus::default()));
    }
}
