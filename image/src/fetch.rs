//! From a name to an image in the store.
//!
//! 1. Look in the store, if the policy says so.
//! 2. Resolve the name to the manifest for the platform, verified.
//! 3. If the store has that image, only its name is new. Otherwise read and check its configuration.
//! 4. Bring in the layers that are missing, several at a time, the largest first. Each is held from then on.
//! 5. Record the image and its name, and let go of the layers.
//!
//! A fetch that fails or is killed leaves no image and no name. Layers that were complete stay until they are
//! collected: the next attempt finds them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use oci_spec::image::Descriptor;

use crate::aci::{self, AciError, AciOptions, AciWord};
use crate::archive::DockerArchive;
use crate::digest::{Digest, ImageId};
use crate::layer::{Delivery, LayerError};
use crate::layout::Layout;
use crate::manifest::{self, DocumentError};
use crate::platform::Platform;
use crate::progress::{LayerEvent, Progress};
use crate::reference::ImageName;
use crate::registry::{Registry, RegistryOptions};
use crate::source::{Resolved, Source, SourceError, resolve, small_blob};
use crate::store::{Image, LayerHold, LayerSlot, Store, StoreError};
use crate::trust::{AdmissionError, ImageTrust, Origin, Subject, Verification};
use crate::unpack::{Limits, Shape};

/// When to look elsewhere than in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the store has nothing of that name. Local layouts and archives that exist are always looked at:
    /// that costs little, and whoever has just rebuilt an image means the new one.
    New,
    /// Never.
    Never,
    /// Always. What has not changed is not transferred again.
    Update,
}

/// How to fetch.
#[derive(Clone)]
pub struct FetchOptions<'a> {
    /// When to look elsewhere than in the store.
    pub pull_policy: PullPolicy,
    /// What the image is for.
    pub platform: Platform,
    /// How registries may be spoken to.
    pub registry: RegistryOptions<'a>,
    /// What each layer may use up.
    pub limits: Limits,
    /// What holds for ACIs only.
    pub aci: AciOptions<'a>,
    /// Whether to keep layers as they were transported, too: for exports with the same digests, and for repairs without a
    /// registry.
    pub keep_blobs: bool,
    /// Layers at a time.
    pub parallel: usize,
    /// The policy that decides which images may be used. `None`: none, as `--insecure-options=image` demands; digests
    /// are compared all the same.
    pub trust: Option<&'a ImageTrust>,
}

/// An image cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The policy is `never`, or it was asked for by id, and the store does not have it.
    #[error("image {name} is not in the store, and is not to be fetched")]
    NotInStore {
        /// The image.
        name: String,
    },
    /// The host's policy does not accept it.
    #[error(transparent)]
    Refused(#[from] AdmissionError),
    /// Its source does not deliver.
    #[error("cannot fetch image {name}")]
    Source {
        /// The image.
        name: String,
        /// Why not.
        source: Box<SourceError>,
    },
    /// What its source delivers is no image that can be used here.
    #[error("cannot use image {name}")]
    Document {
        /// The image.
        name: String,
        /// Why not.
        source: DocumentError,
    },
    /// It is an ACI, and cannot be had.
    #[error("cannot fetch image {name}")]
    Aci {
        /// The image.
        name: String,
        /// Why not.
        source: Box<AciError>,
    },
    /// One of its layers cannot be brought in.
    #[error("cannot fetch layer {layer} of image {name}")]
    Layer {
        /// The image.
        name: String,
        /// The layer, as the manifest calls it.
        layer: Digest,
        /// Why not.
        source: Box<LayerError>,
    },
    /// The store cannot take it.
    #[error("cannot store image {name}")]
    Store {
        /// The image.
        name: String,
        /// Why not.
        source: StoreError,
    },
}

impl FetchError {
    /// Whether the image is there, and its signature has not been looked for where it came from: a fetch would do that.
    #[must_use]
    pub fn is_unverified(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_unverified())
    }
}

impl Default for FetchOptions<'_> {
    fn default() -> Self {
        Self {
            pull_policy: PullPolicy::New,
            platform: Platform::host(),
            registry: RegistryOptions::default(),
            limits: Limits::default(),
            aci: AciOptions::default(),
            keep_blobs: true,
            parallel: 4,
            trust: None,
        }
    }
}

/// Fetches an image, unless the store has it and the policy is content with that.
///
/// # Errors
/// [`FetchError`]; the store is then as before, except that complete layers may be new in it.
pub fn fetch(
    store: &Store,
    name: &ImageName,
    options: &FetchOptions<'_>,
    progress: &dyn Progress,
) -> Result<Image, FetchError> {
    let name = &absolute(name);
    let fetch = Fetch { store, name, text: name.to_string(), options, progress };
    let local = name.path().is_some_and(Path::exists);
    let by_id = matches!(name, ImageName::Id(_));
    let stored = match options.pull_policy {
        PullPolicy::New if local => None,
        PullPolicy::Update if !by_id => None,
        _ => fetch.stored()?,
    };
    if let Some(image) = stored {
        return Ok(image);
    }
    if let (ImageName::Aci(word), PullPolicy::New | PullPolicy::Update) = (name, options.pull_policy) {
        return fetch.aci(word);
    }
    let ours = || store.is_local(name).map_err(|error| fetch.failed(error));
    let source = match options.pull_policy {
        PullPolicy::Never => None,
        // Something is wrong with the image. Another one of the same name is not what was asked for.
        PullPolicy::New if ours()? => None,
        _ => {
            // What is rejected by name costs nobody a request.
            if let Some(trust) = options.trust {
                trust.check_name(name)?;
            }
            fetch.open().map_err(|source| fetch.source(source))?
        }
    };
    match source {
        Some(source) => fetch.run(source.as_ref()),
        None => Err(fetch.why_not_stored()),
    }
}

/// Brings an image in from a source that is open, as `name`.
pub(crate) fn bring(
    store: &Store,
    name: &ImageName,
    source: &dyn Source,
    options: &FetchOptions<'_>,
    progress: &dyn Progress,
) -> Result<Image, FetchError> {
    Fetch { store, name, text: name.to_string(), options, progress }.run(source)
}

/// Names in the store must mean the same from every working directory.
fn absolute(name: &ImageName) -> ImageName {
    // Without a working directory, the path fails where it is used.
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    match name {
        ImageName::Oci { path, tag } => ImageName::Oci { path: full(path), tag: tag.clone() },
        ImageName::OciArchive { path, tag } => ImageName::OciArchive { path: full(path), tag: tag.clone() },
        ImageName::DockerArchive { path, name } => {
            ImageName::DockerArchive { path: full(path), name: name.clone() }
        }
        ImageName::Aci(AciWord::File(path)) => ImageName::Aci(AciWord::File(full(path))),
        other => other.clone(),
    }
}

/// Opens the place that a name speaks of. Nothing for an id: only the store knows those.
pub(crate) fn open_source<'a>(
    name: &'a ImageName,
    options: &'a FetchOptions<'_>,
) -> Result<Option<Box<dyn Source + 'a>>, SourceError> {
    Ok(Some(match name {
        ImageName::Registry(reference) => Box::new(Registry::connect(reference, &options.registry)?),
        ImageName::Oci { path, tag } => Box::new(Layout::open(path, tag.as_deref())?),
        ImageName::OciArchive { path, tag } => Box::new(Layout::open_archive(path, tag.as_deref())?),
        ImageName::DockerArchive { path, name } => Box::new(DockerArchive::open(path, name.as_deref())?),
        ImageName::Id(_) | ImageName::Aci(_) => return Ok(None),
    }))
}

/// One fetch.
struct Fetch<'a> {
    store: &'a Store,
    name: &'a ImageName,
    text: String,
    options: &'a FetchOptions<'a>,
    progress: &'a dyn Progress,
}

impl Fetch<'_> {
    fn source(&self, source: SourceError) -> FetchError {
        FetchError::Source { name: self.text.clone(), source: Box::new(source) }
    }

    fn document(&self, source: DocumentError) -> FetchError {
        FetchError::Document { name: self.text.clone(), source }
    }

    fn failed(&self, source: StoreError) -> FetchError {
        FetchError::Store { name: self.text.clone(), source }
    }

    /// What the store has under this name, if it is complete and for the right platform.
    fn stored(&self) -> Result<Option<Image>, FetchError> {
        let Some(id) = self.store.find(self.name).map_err(|error| self.failed(error))? else {
            return Ok(None);
        };
        // Whoever names an id means that image and no other.
        let by_id = matches!(self.name, ImageName::Id(_));
        let fits = |image: &Image| by_id || image.aci().is_some() || image.platform == self.options.platform;
        let image = self.image(id)?.filter(fits);
        match image.map(|image| self.admitted(image)).transpose() {
            // Its signatures can still be looked for where it came from.
            Err(error) if error.is_unverified() && self.options.pull_policy == PullPolicy::New && !by_id => {
                Ok(None)
            }
            outcome => outcome,
        }
    }

    /// Asks today's policy about an image of the store. ACIs are not its business: they are signed for the keystore.
    fn admitted(&self, image: Image) -> Result<Image, FetchError> {
        let Some(trust) = self.options.trust.filter(|_| image.aci().is_none()) else { return Ok(image) };
        let origins = self.store.origins(image.id).map_err(|error| self.failed(error))?;
        trust.check_stored(self.name, &origins)?;
        Ok(image)
    }

    /// It is not there, or there is something wrong with it.
    fn why_not_stored(&self) -> FetchError {
        match self.store.find(self.name).map(|id| id.map(|id| self.store.image(id))) {
            Err(error) | Ok(Some(Err(error))) => self.failed(error),
            Ok(_) => FetchError::NotInStore { name: self.text.clone() },
        }
    }

    fn image(&self, id: ImageId) -> Result<Option<Image>, FetchError> {
        match self.store.image(id) {
            Ok(mut image) => {
                self.store.touch(id);
                image.name = (!matches!(self.name, ImageName::Id(_))).then(|| self.text.clone());
                Ok(Some(image))
            }
            // Fetching again repairs it.
            Err(
                StoreError::Incomplete { .. }
                | StoreError::NotFound(_)
                | StoreError::Corrupt { .. }
                | StoreError::Parse { .. },
            ) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn aci(&self, word: &AciWord) -> Result<Image, FetchError> {
        let wrong = |source| FetchError::Aci { name: self.text.clone(), source: Box::new(source) };
        let (id, _holds) = aci::fetch::fetch(self.store, word, self.options, self.progress).map_err(wrong)?;
        let mut image = self.store.image(id).map_err(|error| self.failed(error))?;
        image.name = Some(self.text.clone());
        Ok(image)
    }

    fn open(&self) -> Result<Option<Box<dyn Source + '_>>, SourceError> {
        open_source(self.name, self.options)
    }

    /// What the policy demands, verified, before anything else is fetched.
    fn verify(&self, source: &dyn Source, resolved: &Resolved) -> Result<Vec<Verification>, FetchError> {
        let registry = &self.options.registry;
        let subject = Subject { name: self.name, chain: &resolved.chain, source, registry };
        Ok(self.options.trust.map(|trust| trust.check(subject)).transpose()?.unwrap_or_default())
    }

    fn run(&self, source: &dyn Source) -> Result<Image, FetchError> {
        let resolved = resolve(source, &self.options.platform).map_err(|error| self.source(error))?;
        let signatures = self.verify(source, &resolved)?;
        let origin = Origin { name: self.text.clone(), signatures };
        let id = ImageId::new(resolved.digest);
        if let Some(image) = self.image(id)? {
            self.store.note_origin(id, origin).map_err(|error| self.failed(error))?;
            self.store.name(&self.text, id).map_err(|error| self.failed(error))?;
            self.report_present(&resolved);
            return Ok(image);
        }
        let config = small_blob(source, resolved.manifest.config()).map_err(|error| self.source(error))?;
        let platform = &self.options.platform;
        let (_, diff_ids) = manifest::configuration(&config, &resolved.manifest, platform)
            .map_err(|error| self.document(error))?;
        self.store.sweep().map_err(|error| self.failed(error))?;
        let _holds = self.layers(source, &resolved, &diff_ids)?;
        let recorded = self.store.record(&self.text, &resolved, &config, (&diff_ids, platform));
        let (id, _pin) = recorded.map_err(|error| self.failed(error))?;
        self.store.note_origin(id, origin).map_err(|error| self.failed(error))?;
        let mut image = self.store.image(id).map_err(|error| self.failed(error))?;
        image.name = Some(self.text.clone());
        Ok(image)
    }

    fn report_present(&self, resolved: &Resolved) {
        for digest in resolved.manifest.layers().iter().filter_map(|layer| manifest::digest_of(layer).ok()) {
            self.progress.layer(digest, LayerEvent::Present);
        }
    }

    /// Brings in all layers and holds them.
    fn layers(
        &self,
        source: &dyn Source,
        resolved: &Resolved,
        diff_ids: &[Digest],
    ) -> Result<Vec<LayerHold>, FetchError> {
        let mut todo: Vec<(Digest, &Descriptor)> =
            diff_ids.iter().copied().zip(resolved.manifest.layers()).collect();
        todo.sort_by_key(|(diff_id, _)| *diff_id);
        todo.dedup_by_key(|(diff_id, _)| *diff_id);
        // The largest first: the work of the others fits in around it.
        todo.sort_by_key(|(_, layer)| std::cmp::Reverse(layer.size()));
        let (next, cancelled) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done: Mutex<Result<Vec<LayerHold>, FetchError>> = Mutex::new(Ok(Vec::new()));
        let work = || {
            while let Some((diff_id, layer)) = todo.get(next.fetch_add(1, Ordering::Relaxed))
                && !cancelled.load(Ordering::Relaxed)
            {
                let outcome = self.layer(source, layer, *diff_id, &cancelled);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                match (done.as_mut(), outcome) {
                    (Ok(holds), Ok(hold)) => holds.push(hold),
                    (Ok(_), Err(error)) => {
                        cancelled.store(true, Ordering::Relaxed);
                        *done = Err(error);
                    }
                    // The first failure is the one to tell.
                    (Err(_), _) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.options.parallel.min(todo.len()) {
                let _ = scope.spawn(work);
            }
            work();
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn layer(
        &self,
        source: &dyn Source,
        descriptor: &Descriptor,
        diff_id: Digest,
        cancelled: &AtomicBool,
    ) -> Result<LayerHold, FetchError> {
        let digest = manifest::digest_of(descriptor).map_err(|error| self.source(error.into()))?;
        let (limits, progress, keep_blob) = (&self.options.limits, self.progress, self.options.keep_blobs);
        let shape = Shape::Layer;
        let delivery =
            Delivery { source, descriptor, diff_id, limits, shape, progress, keep_blob, cancelled };
        loop {
            let waiting = || self.progress.layer(digest, LayerEvent::Waiting);
            let work = match self.store.layer(diff_id, waiting).map_err(|error| self.failed(error))? {
                LayerSlot::Present(hold) => {
                    self.store.check_shape(diff_id, Shape::Layer).map_err(|error| self.failed(error))?;
                    self.progress.layer(digest, LayerEvent::Present);
                    return Ok(hold);
                }
                LayerSlot::Missing(work) => work,
            };
            let dirs = work.directories().map_err(|error| self.failed(error))?;
            let unpacked = delivery.run(dirs).map_err(|source| {
                self.progress.layer(digest, LayerEvent::Failed);
                FetchError::Layer { name: self.text.clone(), layer: digest, source: Box::new(source) }
            })?;
            self.progress.layer(digest, LayerEvent::Unpacked);
            if let Some(hold) = work.finish(&unpacked, delivery.kept()).map_err(|error| self.failed(error))? {
                self.progress.layer(digest, LayerEvent::Done);
                return Ok(hold);
            }
        }
    }
}
