//! Preparing a pod: from a request to a directory that a launcher can run.
//!
//! The order of the acts is what makes a `kill -9` harmless: the images are pinned before they are looked up and until
//! `image.json` names them; the pod's directory is *embryo* or *prepare*, and locked by us, until everything is in it.
//! Killed, we leave an unlocked directory there, which `rkt gc` removes. A preparation that fails removes its own.

mod merge;
mod request;
mod users;
mod volumes;

use pod::bundle::{Bundle, ImageRef};
use pod::manifest::{ManifestError, PodManifest, RuntimeApp};
use pod::users::IdRange;
use pod::{DataDir, LockedPod, Phase, PodError, PodId, TransitionError};

use crate::images::{Found, ImageError, Images};
use crate::spec::{self, SpecError};

pub(crate) use merge::MergeError;
pub(crate) use request::{AppRequest, Apps, Content, Request, Users};
pub(crate) use users::UsersError;
pub(crate) use volumes::VolumeError;

/// A pod could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Transition(#[from] TransitionError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Users(#[from] UsersError),
}

/// Prepares a pod: it is then in [`Phase::Prepare`], and ours.
pub(crate) fn prepare(
    data: &DataDir,
    images: &Images<'_>,
    request: &Request,
) -> Result<LockedPod, PrepareError> {
    let (manifest, found) = resolve(images, &request.content)?;
    manifest.validate()?;
    volumes::check_sources(&manifest)?;
    let mut pod = create(data)?;
    match fill(&mut pod, &manifest, &found, request) {
        Ok(()) => Ok(pod),
        Err(e) => {
            discard(pod);
            Err(e)
        }
    }
}

/// A new pod. Between its making and its locking somebody may collect it: then another one is made.
fn create(data: &DataDir) -> Result<LockedPod, PodError> {
    let lost = |e: &PodError| {
        use std::io::ErrorKind::{NotFound, ResourceBusy};
        matches!(e, PodError::Io { source, .. } if matches!(source.kind(), NotFound | ResourceBusy))
    };
    for _ in 0..8 {
        match data.create(PodId::random()) {
            Err(e) if lost(&e) => {}
            other => return other,
        }
    }
    data.create(PodId::random())
}

/// Removes a pod that never got anywhere. What cannot be removed is left to `rkt gc`: the reason why we are here
/// matters more.
pub(crate) fn discard(mut pod: LockedPod) {
    if pod.transition(Phase::Garbage).is_ok() {
        let _ = pod.remove();
    }
}

/// The pod's manifest, complete, and the image of each of its apps.
fn resolve(images: &Images<'_>, content: &Content) -> Result<(PodManifest, Vec<Found>), PrepareError> {
    let (mut manifest, found) = match content {
        Content::Apps(wishes) => {
            let find = |app: &AppRequest| images.find_signed(&app.image, app.signature.as_deref());
            let found: Vec<Found> = wishes.apps.iter().map(find).collect::<Result<_, _>>()?;
            (merge::manifest(wishes, &found)?, found)
        }
        Content::Manifest(manifest) => {
            // Before the images: what is wrong with the manifest should not cost a download.
            manifest.validate()?;
            let find = |app: &RuntimeApp| images.find_for(&app.image);
            let found: Vec<Found> = manifest.apps.iter().map(find).collect::<Result<_, _>>()?;
            (complete(manifest.clone(), &found), found)
        }
    };
    merge::resolve_mount_points(&mut manifest)?;
    Ok((manifest, found))
}

/// Adds to a manifest what its images say.
fn complete(mut manifest: PodManifest, found: &[Found]) -> PodManifest {
    for (app, image) in manifest.apps.iter_mut().zip(found) {
        app.image = merge::runtime_image(image);
        let _ = app.app.get_or_insert_with(|| image.app());
    }
    manifest
}

fn bundles(
    pod: &LockedPod,
    manifest: &PodManifest,
    found: &[Found],
    request: &Request,
    users: Option<IdRange>,
) -> Result<Vec<Bundle>, PrepareError> {
    let data = pod.dir().data_dir().path();
    let run_dir = data.join("pods").join(Phase::Run.dir_name()).join(pod.dir().id().to_string());
    let bundle = |(runtime, image): (&RuntimeApp, &Found)| {
        let own = image.app();
        let app = runtime.app.as_ref().unwrap_or(&own);
        let input = spec::Input {
            pod: manifest,
            runtime,
            app,
            stop_signal: crate::appc::stop_signal(&image.content),
            opens_outputs: image.opens_outputs,
            run_dir: &run_dir,
            lifted: request.lifted,
            terminal: request.terminal,
            users,
        };
        let image = ImageRef { id: image.id.clone(), name: image.full_name(), layers: image.layers.clone() };
        Ok(Bundle { config: spec::spec(&input)?, image })
    };
    manifest.apps.iter().zip(found).map(bundle).collect()
}

/// Writes everything into the pod's directory.
fn fill(
    pod: &mut LockedPod,
    manifest: &PodManifest,
    found: &[Found],
    request: &Request,
) -> Result<(), PrepareError> {
    let users = match request.users {
        Users::Host => None,
        Users::Own => Some(users::reserve(pod)?),
    };
    let bundles = bundles(pod, manifest, found, request, users)?;
    pod.transition_volatile(Phase::Prepare)?;
    pod.dir().write_manifest(manifest, &request.stage1)?;
    for volume in &manifest.volumes {
        volumes::make(pod, volume, users)?;
    }
    for (app, bundle) in manifest.apps.iter().zip(&bundles) {
        pod.dir().write_app(&app.name, bundle)?;
    }
    Ok(())
}
