//! `rkt image verify`: is what the store has of an image what was fetched, and if not, making it so.
//!
//! A broken layer is made again: from the layer as it was transported, if the store kept that and it is sound, otherwise
//! from wherever one of the image's names says. The new tree takes the place of the old one at once. A tree that a
//! running pod has mounted is left alone: taking files away under an app is worse than what is wrong with them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use oci_spec::image::Descriptor;

use crate::digest::{Digest, ImageId};
use crate::fetch::{FetchError, FetchOptions, PullPolicy, fetch, open_source};
use crate::layer::{Delivery, LayerError};
use crate::manifest;
use crate::progress::Progress;
use crate::reference::ImageName;
use crate::source::{Raw, Source, SourceError, resolve};
use crate::store::{Damage, LayerCheck, Store, StoreError};

/// How long to wait for others who hold a layer that is to be made again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to verify.
pub struct VerifyOptions<'a> {
    /// How to fetch what is broken.
    pub fetch: FetchOptions<'a>,
    /// The trees that running pods have mounted, now.
    pub mounted: &'a dyn Fn() -> io::Result<BTreeSet<Digest>>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// What was wrong with its manifest or configuration, which were then fetched again.
    pub documents: Option<StoreError>,
    /// Its layers that were not sound.
    pub layers: Vec<(Digest, Verdict)>,
}

/// What became of a layer that was not sound.
#[derive(Debug)]
pub enum Verdict {
    /// It is now.
    Repaired {
        /// What was wrong.
        damage: Vec<Damage>,
        /// Where it came from.
        from: String,
    },
    /// A running pod has it mounted.
    Mounted {
        /// What is wrong.
        damage: Vec<Damage>,
    },
    /// It still is not.
    Broken {
        /// What is wrong.
        damage: Vec<Damage>,
        /// Why it could not be repaired: one reason for each place that was tried.
        reasons: Vec<RepairError>,
    },
}

/// A layer cannot be made again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Nothing tells where to fetch it from.
    #[error("the image has no name that says where it is from; fetch it again")]
    Nameless,
    /// A name means another image now.
    #[error("{0} is another image now")]
    Moved(String),
    /// A place does not have it.
    #[error("cannot fetch it from {from}")]
    Source {
        /// Which place.
        from: String,
        /// Why not.
        source: Box<SourceError>,
    },
    /// What a place has cannot be used.
    #[error("cannot make it again from {from}")]
    Layer {
        /// Which place.
        from: String,
        /// Why not.
        source: Box<LayerError>,
    },
    /// The image cannot be fetched again.
    #[error(transparent)]
    Fetch(#[from] Box<FetchError>),
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verifies an image of the store, and repairs what it can.
///
/// # Errors
/// If the image is not there, or its documents are broken and cannot be had again. Broken layers are no errors.
pub fn verify(
    store: &Store,
    id: ImageId,
    options: &VerifyOptions<'_>,
    progress: &dyn Progress,
) -> Result<Verified, RepairError> {
    let names = store.names_of(id)?;
    let work = Verification { store, id, names, options, progress };
    let mut verified = Verified::default();
    let image = match store.image(id) {
        Err(
            error @ (StoreError::Corrupt { .. } | StoreError::Parse { .. } | StoreError::Incomplete { .. }),
        ) => {
            work.documents()?;
            verified.documents = Some(error);
            store.image(id)?
        }
        other => other?,
    };
    let descriptors = match image.oci() {
        Some((manifest, config)) => {
            let diff_ids = manifest::diff_ids(config).unwrap_or_default();
            diff_ids.into_iter().zip(manifest.layers().iter().cloned()).collect()
        }
        None => Vec::new(),
    };
    // The layers' own locks do from here on: a collection need not wait for hours of checking.
    let trees = store.trees_of(id)?;
    drop(image);
    for tree in trees {
        if let LayerCheck::Broken(damage) = store.check_layer(tree)? {
            let descriptor = descriptors.iter().find(|(diff_id, _)| *diff_id == tree).map(|(_, d)| d);
            verified.layers.push((tree, work.layer(tree, descriptor, damage)?));
        }
    }
    Ok(verified)
}

/// One image being verified.
struct Verification<'a> {
    store: &'a Store,
    id: ImageId,
    names: Vec<String>,
    options: &'a VerifyOptions<'a>,
    progress: &'a dyn Progress,
}

impl Verification<'_> {
    /// Where the image may be had, precisely: a tag may mean another one by now.
    fn places(&self) -> Vec<ImageName> {
        let precise = |name: &String| match name.parse().ok()? {
            ImageName::Registry(reference) => {
                let (registry, repository) = (reference.registry(), reference.repository());
                format!("{registry}/{repository}@{}", self.id.digest()).parse().ok()
            }
            other => Some(other),
        };
        let mut places: Vec<ImageName> = Vec::new();
        for place in self.names.iter().filter_map(precise) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Fetches the image again: that writes documents that are missing or damaged.
    fn documents(&self) -> Result<(), RepairError> {
        let mut last = RepairError::Nameless;
        let options = FetchOptions { pull_policy: PullPolicy::Update, ..self.options.fetch.clone() };
        for place in self.places() {
            match self.still_there(&place).and_then(|()| {
                fetch(self.store, &place, &options, self.progress).map_err(|error| Box::new(error).into())
            }) {
                Ok(_) => {
                    if matches!(place, ImageName::Registry(_)) && !self.names.contains(&place.to_string()) {
                        self.store.unname(&place.to_string())?;
                    }
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn still_there(&self, place: &ImageName) -> Result<(), RepairError> {
        let failed = |source| RepairError::Source { from: place.to_string(), source: Box::new(source) };
        let source = open_source(place, &self.options.fetch).map_err(failed)?.ok_or(RepairError::Nameless)?;
        let resolved = resolve(source.as_ref(), &self.options.fetch.platform).map_err(failed)?;
        if ImageId::new(resolved.digest) == self.id {
            Ok(())
        } else {
            Err(RepairError::Moved(place.to_string()))
        }
    }

    fn layer(
        &self,
        layer: Digest,
        descriptor: Option<&Descriptor>,
        damage: Vec<Damage>,
    ) -> Result<Verdict, RepairError> {
        if self.mounted(layer)? {
            return Ok(Verdict::Mounted { damage });
        }
        let mut reasons = Vec::new();
        if let Some((file, kept)) = self.store.kept_layer(layer, descriptor) {
            let from = "the copy that was kept";
            match self.remake(layer, &kept, &Kept(file, layer), from) {
                Ok(()) => return Ok(Verdict::Repaired { damage, from: from.to_owned() }),
                Err(error) => reasons.push(error),
            }
        }
        for place in self.places() {
            let (from, Some(descriptor)) = (place.to_string(), descriptor) else { continue };
            let outcome = match open_source(&place, &self.options.fetch) {
                Ok(Some(source)) => self.remake(layer, descriptor, source.as_ref(), &from),
                Ok(None) => continue,
                Err(source) => Err(RepairError::Source { from: from.clone(), source: Box::new(source) }),
            };
            match outcome {
                Ok(()) => return Ok(Verdict::Repaired { damage, from }),
                Err(error) => reasons.push(error),
            }
        }
        if reasons.is_empty() {
            reasons.push(RepairError::Nameless);
        }
        Ok(Verdict::Broken { damage, reasons })
    }

    fn mounted(&self, layer: Digest) -> Result<bool, RepairError> {
        let mounted = (self.options.mounted)().map_err(StoreError::InUse)?;
        Ok(mounted.contains(&layer))
    }

    fn remake(
        &self,
        diff_id: Digest,
        descriptor: &Descriptor,
        source: &dyn Source,
        from: &str,
    ) -> Result<(), RepairError> {
        let FetchOptions { limits, keep_blobs, .. } = &self.options.fetch;
        let cancelled = AtomicBool::new(false);
        let work = self.store.remake_layer(diff_id, PATIENCE)?;
        let delivery = Delivery {
            source,
            descriptor,
            diff_id,
            limits,
            shape: self.store.shape(diff_id),
            progress: self.progress,
            keep_blob: *keep_blobs,
            cancelled: &cancelled,
        };
        let unpacked = delivery.run(work.directories()?);
        let unpacked = unpacked
            .map_err(|source| RepairError::Layer { from: from.to_owned(), source: Box::new(source) })?;
        let (_hold, old) = work.replace(&unpacked, delivery.kept())?;
        // A pod that was started meanwhile may have the old tree: then it stays until no pod needs the layer.
        let mounted = self.mounted(diff_id).unwrap_or(true);
        Ok(old.map_or(Ok(()), |old| self.store.retire(&old, diff_id, mounted))?)
    }
}

/// A layer that was kept, as a place to get it from.
struct Kept(PathBuf, Digest);

impl Source for Kept {
    fn root(&self) -> Result<Raw, SourceError> {
        let source = io::ErrorKind::Unsupported.into();
        Err(SourceError::Read { what: "a manifest from the kept layer", digest: self.1, source })
    }

    fn document(&self, _: &Descriptor) -> Result<Raw, SourceError> {
        self.root()
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let digest = manifest::digest_of(descriptor)?;
        let failed = |source| SourceError::Read { what: "layer", digest, source };
        Ok(Box::new(File::open(&self.0).map_err(failed)?))
    }
}
