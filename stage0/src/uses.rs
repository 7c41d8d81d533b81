//! Which images the pods of a data directory use: those that nobody may remove.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use image::{Digest, ImageId, InUse};
use pod::attempt::AppDir;
use pod::{DataDir, PodDir, PodId, State};

/// That an app of a pod uses an image.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    /// Whose app.
    pub(crate) pod: PodId,
    /// What it uses.
    pub(crate) image: ImageId,
    layers: Vec<Digest>,
}

/// What pods use: `image.json` of every app of every pod. A pod that cannot be read might use anything; that is an error.
pub(crate) fn of_pods(data: &DataDir) -> anyhow::Result<Vec<Use>> {
    let mut uses = Vec::new();
    for pod in data.pods()? {
        for app in apps(data, &pod)? {
            uses.extend(of_app(&pod, &app).with_context(|| format!("pod {}", pod.id()))?);
        }
    }
    Ok(uses)
}

/// The trees that running pods have mounted.
pub(crate) fn mounted(data: &DataDir) -> anyhow::Result<BTreeSet<Digest>> {
    let mut trees = BTreeSet::new();
    for pod in data.pods()? {
        if pod.state()? != State::Running {
            continue;
        }
        for app in apps(data, &pod)? {
            let used = of_app(&pod, &app).with_context(|| format!("pod {}", pod.id()))?;
            trees.extend(used.into_iter().flat_map(|used| used.layers));
        }
    }
    Ok(trees)
}

/// All of them, for the store's garbage collection.
pub(crate) fn all(uses: Vec<Use>) -> InUse {
    let mut all = InUse::default();
    for one in uses {
        let _new = all.images.insert(one.image);
        all.trees.extend(one.layers);
    }
    all
}

fn of_app(pod: &PodDir, app: &AppDir) -> anyhow::Result<Option<Use>> {
    let image = match app.image() {
        Ok(image) => image,
        // It is not written yet: the image is pinned by whoever prepares the pod. Or it is deleted already.
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let layers = image.layers.iter().filter_map(|tree| tree_digest(tree)).collect();
    Ok(Some(Use { pod: pod.id(), image: image.id.parse()?, layers }))
}

/// The apps of a pod that have a directory.
fn apps(data: &DataDir, pod: &PodDir) -> anyhow::Result<Vec<AppDir>> {
    let dir = match std::fs::read_dir(pod.path().join("apps")) {
        Ok(dir) => dir,
        // It has none yet or any more, or it has moved on: then it is found where it is now.
        Err(e) if e.kind() == io::ErrorKind::NotFound => match data.pod(pod.id())? {
            Some(moved) if moved.phase() != pod.phase() => return apps(data, &moved),
            _ => return Ok(Vec::new()),
        },
        Err(e) => return Err(e).with_context(|| format!("list the apps of pod {}", pod.id())),
    };
    let names: BTreeSet<_> = dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    names.iter().map(|name| Ok(pod.app(name)?)).collect()
}

/// `<data>/cas/tree/<hex>/rootfs`
fn tree_digest(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.parent()?.file_name()?.to_str()?).ok()
}
