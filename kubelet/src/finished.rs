//! What became of pods that are over, for when their rkt pods are gone.
//!
//! A pod that is over is kept by rkt only until somebody collects garbage. Without this record it would then look as if
//! it had never run, and a job would run again. One file per pod, below the kubelet's own directory:
//! `finished/<namespace>_<name>.json`, written by rename. It counts for the version of the manifest that it names.

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
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&self.dir)?;
        let path = self.path(&desired.name);
        let beside = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(&beside)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        std::fs::rename(beside, path)
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
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let file = entry.file_name();
            let name = file.to_str().and_then(|n| n.strip_suffix(".json")?.split_once('_'));
            let name =
                name.map(|(namespace, name)| FullName { namespace: namespace.into(), name: name.into() });
            name.into_iter().filter(|name| !wanted(name)).for_each(|name| self.forget(&name));
        }
    }

    fn path(&self, name: &FullName) -> PathBuf {
        // Both are DNS names: no slash, no underscore.
        self.dir.join(format!("{}_{}.json", name.namespace, name.name))
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
        std::fs::write(tmp.path().join("finished/default_web-n1.json"), "{").unwrap();
        assert_eq!(finished.of(&one), None);
    }
}
