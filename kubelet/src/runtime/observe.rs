//! Which rkt pods are ours, and what their directories say.
//!
//! A pod's manifest never changes, so that what it says is read once per pod and kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use pod::manifest::PodManifest;
use pod::{AppName, DataDir, PodDir, PodError, PodId, unit};

use super::{AppStatus, Instance, UnitState};
use crate::desired::{Desired, FullName};
use crate::translate::{HASH, MANAGED, STORED};

/// What a pod's manifest says about whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The Kubernetes pod.
    pub(crate) desired: Desired,
    hash: String,
    apps: Vec<(AppName, String)>,
}

/// The pods of a data directory, as far as kubelets made them.
#[derive(Debug, Clone)]
pub(crate) struct Pods {
    data: DataDir,
    /// `None`: not made by a kubelet.
    known: Arc<Mutex<HashMap<PodId, Option<Arc<Identity>>>>>,
}

impl Pods {
    /// Those of this data directory.
    pub(crate) fn new(data: DataDir) -> Self {
        Self { data, known: Arc::default() }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }

    /// Every pod that a kubelet made. Blocks.
    pub(crate) fn all(&self) -> Result<Vec<(PodId, Arc<Identity>)>, PodError> {
        let pods = self.data.pods()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| pods.iter().any(|p| p.id() == *id));
        let mut all = Vec::new();
        for pod in pods {
            let identity = match known.get(&pod.id()) {
                Some(identity) => identity.clone(),
                // It is being made, or half deleted: it does not say yet, or any more.
                None => match pod.manifest() {
                    Ok(manifest) => {
                        known.entry(pod.id()).or_insert(identity(&manifest).map(Arc::new)).clone()
                    }
                    Err(_) => None,
                },
            };
            all.extend(identity.map(|identity| (pod.id(), identity)));
        }
        Ok(all)
    }

    /// The rkt pods of one Kubernetes pod. Blocks.
    pub(crate) fn of(&self, name: &FullName) -> Result<Vec<(PodId, Arc<Identity>)>, PodError> {
        let all = self.all()?;
        Ok(all.into_iter().filter(|(_, identity)| identity.desired.name == *name).collect())
    }

    /// What the directory of one pod says, together with what systemd said just before. `None`: it is gone. Blocks.
    ///
    /// systemd has to be asked first: a unit that has stopped has left its record, a record says nothing about the unit.
    pub(crate) fn instance(
        &self,
        id: PodId,
        identity: &Identity,
        units: &BTreeMap<String, UnitState>,
    ) -> Result<Option<Instance>, PodError> {
        let Some(dir) = self.data.pod(id)? else { return Ok(None) };
        let state = match dir.state()? {
            // It moved since it was opened: where it is now counts.
            _ if !is_there(&dir) => match self.data.pod(id)? {
                Some(dir) => dir.state()?,
                None => return Ok(None),
            },
            state => state,
        };
        let unit_state = |name: &str| units.get(name).copied().unwrap_or(UnitState::Inactive);
        let app = |(app, image): &(AppName, String)| AppStatus {
            app: app.clone(),
            image: image.clone(),
            unit: unit_state(&unit::app(id, app)),
            attempts: attempts(&dir, app),
        };
        Ok(Some(Instance {
            id,
            hash: identity.hash.clone(),
            state,
            created: dir.created()?.and_then(timestamp),
            launched: dir.started()?.and_then(timestamp),
            sandbox: unit_state(&unit::sandbox(id)),
            apps: identity.apps.iter().map(app).collect(),
        }))
    }
}

fn is_there(dir: &PodDir) -> bool {
    dir.path().exists()
}

/// The records of an app. What cannot be read (the pod is being deleted) is not there.
fn attempts(dir: &PodDir, app: &AppName) -> Vec<pod::attempt::Attempt> {
    let records =
        dir.app(app).and_then(|app| app.attempts().map_err(|source| PodError::File { id: dir.id(), source }));
    records.unwrap_or_else(|e| {
        tracing::debug!("{}", crate::chain::chain(&e));
        Vec::new()
    })
}

fn timestamp(time: SystemTime) -> Option<jiff::Timestamp> {
    time.try_into().ok()
}

fn identity(manifest: &PodManifest) -> Option<Identity> {
    if manifest.annotation(MANAGED) != Some("true") {
        return None;
    }
    let desired = Desired::from_stored(manifest.annotation(STORED)?)?;
    let hash = manifest.annotation(HASH)?.to_owned();
    let apps = manifest.apps.iter().map(|a| (a.name.clone(), a.image.id.clone())).collect();
    Some(Identity { desired, hash, apps })
}
