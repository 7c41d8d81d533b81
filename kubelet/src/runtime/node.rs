//! The real runtime: the pod directory, `rkt`, and systemd.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pod::stage1::Backoff;
use pod::unit::Unit;
use pod::{AppName, PodDir, PodId, bundle, unit};
use tokio::sync::Semaphore;

use super::observe::Pods;
use super::rkt::{Rkt, RktError};
use super::{ActError, Instance, ObserveError, PrepareError, Runtime};
use crate::desired::{Desired, FullName};
use crate::image::PullPolicy;
use crate::systemd::Systemd;
use crate::systemd::units::{AppLaunch, Hierarchy, Launch, UnitSpec};
use crate::systemd::watch::Wakers;
use crate::translate::{self, Image, NodeFacts};
use crate::worker::lifecycle::Role;

/// Annotation of a Kubernetes pod: which stage1 isolates it.
const STAGE1_OVERRIDE: &str = "rkt.alpha.kubernetes.io/stage1-name-override";
/// Signals come in bursts: one look is enough for several.
const BURST: Duration = Duration::from_millis(20);
/// Units of a pod that is being replaced may take this long to disappear from systemd's memory.
const LINGER: Duration = Duration::from_millis(100);
const LINGERS: u32 = 20;
const SIGTERM: u8 = 15;

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    /// The pods on disk.
    pub(crate) pods: Pods,
    /// The command line.
    pub(crate) rkt: Rkt,
    /// systemd.
    pub(crate) systemd: Systemd,
    /// Who is to be woken when something happens.
    pub(crate) wakers: Wakers,
    /// Which stage1 isolates pods that do not choose one.
    pub(crate) stage1: Option<String>,
    /// Where pod manifests for `rkt prepare` are put.
    pub(crate) scratch: PathBuf,
    /// The back-off of containers.
    pub(crate) backoff: Backoff,
    /// What is known about the machine.
    pub(crate) facts: Arc<NodeFacts>,
    /// How it arranges cgroups.
    pub(crate) hierarchy: Hierarchy,
    /// Pulls that may go on at the same time.
    pub(crate) pulls: Semaphore,
}

/// What the pod directory says about how to start a pod.
struct Prepared {
    stage1: PathBuf,
    stop_signals: HashMap<AppName, u8>,
}

impl Runtime for Node {
    async fn observe(&self, name: &FullName) -> Result<Vec<Instance>, ObserveError> {
        let (pods, key) = (self.pods.clone(), name.clone());
        let ours = tokio::task::spawn_blocking(move || pods.of(&key)).await??;
        ours.iter().for_each(|(id, _)| self.wakers.register(*id, name));
        if ours.is_empty() {
            return Ok(Vec::new());
        }
        let patterns: Vec<String> = ours.iter().map(|(id, _)| format!("rkt-{id}*.service")).collect();
        let units = self.systemd.list(&patterns).await?;
        let pods = self.pods.clone();
        let look = move || {
            let instance = |(id, identity): &(_, Arc<_>)| pods.instance(*id, identity, &units);
            ours.iter().map(instance).filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        };
        Ok(tokio::task::spawn_blocking(look).await??)
    }

    async fn prepare(&self, desired: &Desired) -> Result<PodId, PrepareError> {
        translate::unsupported::check(desired.spec())?;
        translate::check_host_paths(desired.spec())?;
        let images = self.images(desired).await?;
        let manifest = translate::manifest(desired, &images, &self.facts)?;
        let text = serde_json::to_vec(&manifest).map_err(std::io::Error::from)?;
        let file = Scratch::write(self.scratch.join(format!("{}.json", desired.uid)), &text)?;
        let overridden = desired.pod.metadata.annotations.as_ref().and_then(|a| a.get(STAGE1_OVERRIDE));
        let stage1 = overridden.or(self.stage1.as_ref()).map(|name| format!("--stage1-name={name}"));
        let users = (desired.spec().host_users == Some(false)).then(|| "--private-users".to_owned());
        let flags: Vec<String> = stage1.into_iter().chain(users).collect();
        Ok(self.rkt.prepare(&file.0, &flags).await?)
    }

    async fn start(&self, desired: &Desired, id: PodId, apps: &[AppName]) -> Result<(), ActError> {
        let prepared = self.prepared(id, apps).await?;
        let launch = self.launch(desired, id, &prepared);
        let apps = app_launches(desired, apps, &prepared);
        self.systemd.reset_failed(&unit::sandbox(id)).await?;
        let mut others: Vec<UnitSpec> = apps.iter().map(|a| launch.app(a)).collect();
        for other in &others {
            self.systemd.reset_failed(&other.name).await?;
        }
        others.push(launch.slice());
        let sandbox = launch.sandbox(&apps);
        for _ in 0..LINGERS {
            match self.systemd.start_transient(&sandbox, &others).await {
                Err(e) if e.is_unit_exists() => tokio::time::sleep(LINGER).await,
                done => return Ok(done?),
            }
        }
        // A slice that somebody else keeps is as good.
        let _ = others.pop();
        Ok(self.systemd.start_transient(&sandbox, &others).await?)
    }

    async fn start_apps(&self, desired: &Desired, id: PodId, apps: &[AppName]) -> Result<(), ActError> {
        let prepared = self.prepared(id, apps).await?;
        let launch = self.launch(desired, id, &prepared);
        for app in app_launches(desired, apps, &prepared) {
            let unit = launch.app(&app);
            self.systemd.reset_failed(&unit.name).await?;
            match self.systemd.start_transient(&unit, &[]).await {
                // It is still loaded, because the sandbox wants it: with the same properties.
                Err(e) if e.is_unit_exists() => self.systemd.start(&unit.name).await?,
                done => done?,
            }
        }
        Ok(())
    }

    async fn stop(&self, instance: &Instance) -> Result<(), ActError> {
        if instance.sandbox.is_live() {
            // The apps are bound to it and stop first.
            return Ok(self.systemd.stop(&unit::sandbox(instance.id)).await?);
        }
        for app in instance.apps.iter().filter(|a| a.unit.is_live()) {
            self.systemd.stop(&unit::app(instance.id, &app.app)).await?;
        }
        Ok(())
    }

    async fn remove(&self, id: PodId) -> Result<(), ActError> {
        let units = self.systemd.list(&[format!("rkt-{id}*.service")]).await?;
        for unit in units.keys() {
            self.systemd.reset_failed(unit).await?;
        }
        self.rkt.rm(id).await?;
        self.wakers.forget(id);
        Ok(())
    }

    async fn changed(&self, name: &FullName) {
        self.wakers.of(name).notified().await;
        tokio::time::sleep(BURST).await;
    }
}

impl Node {
    /// Forgets sandboxes of pods that are gone: of one that was being removed when a kubelet, before it was killed, had
    /// just asked for its start.
    pub(crate) async fn sweep(&self) -> Result<(), ActError> {
        let ours = format!("--dir={}", self.pods.data().path().display());
        for failed in self.systemd.failed("rkt-*.service").await? {
            let Some(Unit::Sandbox(id)) = unit::parse(&failed.name) else { continue };
            let data = self.pods.data().clone();
            let is_gone = tokio::task::spawn_blocking(move || data.pod(id)).await??.is_none();
            // There may be kubelets with other data directories.
            if is_gone && self.systemd.arguments(&failed).await?.contains(&ours) {
                tracing::info!(uuid = %id, "forgetting the unit of a pod that is gone");
                self.systemd.reset_failed(&failed.name).await?;
            }
        }
        Ok(())
    }

    /// The images of all containers, in their order.
    async fn images(&self, desired: &Desired) -> Result<Vec<Image>, PrepareError> {
        let mut had: HashMap<(&str, PullPolicy), Image> = HashMap::new();
        let mut images = Vec::new();
        for container in translate::containers(desired.spec()) {
            let name = container.image.as_deref().unwrap_or_default();
            let policy = PullPolicy::parse(container.image_pull_policy.as_deref(), name);
            let image = match had.get(&(name, policy)) {
                Some(image) => image.clone(),
                None => self.image(name, policy).await.map_err(|source| {
                    let (container, image) = (container.name.clone(), name.to_owned());
                    match policy {
                        PullPolicy::Never => PrepareError::NeverPull { container, image, source },
                        _ => PrepareError::Image { container, image, source },
                    }
                })?,
            };
            let _ = had.insert((name, policy), image.clone());
            images.push(image);
        }
        Ok(images)
    }

    async fn image(&self, name: &str, policy: PullPolicy) -> Result<Image, RktError> {
        // What the store has does not wait for other pods' pulls.
        let stored = match policy {
            PullPolicy::IfNotPresent => self.rkt.fetch(name, PullPolicy::Never).await.ok(),
            PullPolicy::Always | PullPolicy::Never => None,
        };
        let id = match (stored, policy) {
            (Some(id), _) => id,
            (None, PullPolicy::Never) => self.rkt.fetch(name, policy).await?,
            (None, PullPolicy::Always | PullPolicy::IfNotPresent) => {
                // The semaphore is never closed; without a permit there would only be one pull more.
                let _permit = self.pulls.acquire().await;
                self.rkt.fetch(name, policy).await?
            }
        };
        let manifest = self.rkt.image_manifest(&id).await?;
        Ok(Image { id, manifest })
    }

    async fn prepared(&self, id: PodId, apps: &[AppName]) -> Result<Prepared, ActError> {
        let (data, apps) = (self.pods.data().clone(), apps.to_vec());
        let look = move || {
            let dir = data.pod(id)?.ok_or(ActError::Gone(id))?;
            let stop_signals = apps.into_iter().map(|app| (app.clone(), stop_signal(&dir, &app))).collect();
            Ok(Prepared { stage1: dir.stage1()?.path, stop_signals })
        };
        tokio::task::spawn_blocking(look).await?
    }

    fn launch<'a>(&'a self, desired: &'a Desired, id: PodId, prepared: &'a Prepared) -> Launch<'a> {
        Launch {
            desired,
            id,
            rkt: self.rkt.path(),
            data: self.pods.data().path(),
            stage1: &prepared.stage1,
            backoff: self.backoff,
            hierarchy: self.hierarchy,
            node_memory: self.facts.memory,
        }
    }
}

/// These apps with their containers.
fn app_launches<'a>(desired: &'a Desired, apps: &[AppName], prepared: &Prepared) -> Vec<AppLaunch<'a>> {
    let spec = desired.spec();
    let init = spec.init_containers.as_ref().map_or(0, Vec::len);
    let all = translate::containers(spec).zip(translate::app_names(spec)).enumerate();
    all.filter(|(_, (_, name))| apps.contains(name))
        .map(|(i, (container, app))| {
            let role = match i < init {
                true if crate::resources::is_sidecar(container) => Role::Sidecar,
                true => Role::Init,
                false => Role::Main,
            };
            let stop_signal = prepared.stop_signals.get(&app).copied().unwrap_or(SIGTERM);
            AppLaunch { container, role, app, stop_signal }
        })
        .collect()
}

/// The signal that the image wants to be stopped with.
fn stop_signal(dir: &PodDir, app: &AppName) -> u8 {
    let config = dir.app(app).ok().and_then(|a| a.config().ok());
    let annotations = config.and_then(|c| c.annotations().clone()).unwrap_or_default();
    annotations.get(bundle::STOP_SIGNAL).and_then(|s| pod::signal::number(s)).unwrap_or(SIGTERM)
}

/// A file that only root can read. It holds environment variables: it does not stay.
struct Scratch(PathBuf);

impl Scratch {
    /// Writes it, in place of one that a predecessor has left.
    fn write(path: PathBuf, text: &[u8]) -> std::io::Result<Self> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let scratch = Self(path);
        file.write_all(text)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.0) {
            tracing::warn!("cannot remove {}: {e}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_for_rkt_does_not_stay_when_it_was_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("m.json");
        std::fs::write(&path, "left behind").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let scratch = Scratch::write(path.clone(), b"{}").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
        drop(scratch);
        assert!(!path.exists());
    }
}
