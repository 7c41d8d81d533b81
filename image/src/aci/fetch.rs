//! From a word to an ACI of the store, with everything beneath it.
//!
//! 1. Find the archive: in a file, on a server, or by discovery.
//! 2. Read it once: its id, its manifest, and whether it is what was asked for.
//! 3. Verify its signature, unless that is waived. Until here, nothing of it is on the disk but the archive itself.
//! 4. Fetch what it depends on, by the same steps.
//! 5. Unpack it as a layer is, named by its id. If it has a whitelist, render.
//! 6. Record it and its names.
//!
//! What lies beneath comes first: the first dependency lowest, each over what it depends on itself, the image on top.
//! The topmost whitelist counts, those beneath it do not. An image that depends on itself is refused, and so is a
//! hierarchy that is deeper or has more images than anybody needs.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use oci_spec::image::{Descriptor, MediaType};
use pod::manifest::{Dependency, ImageManifest};

use super::discovery::Endpoint;
use super::file::{AciFile, AciFileError, Hashing, Scan};
use super::manifest::{self, AciManifestError};
use super::name::{AciName, AciNameError, AciWord};
use super::remote::{AciAuthorization, AciRemoteError, Downloaded, Part as Downloading, Servers};
use super::render;
use crate::digest::{Algorithm, Digest, ImageId};
use crate::fetch::FetchOptions;
use crate::layer::{Delivery, LayerError};
use crate::manifest::MAX_LAYERS;
use crate::progress::{LayerEvent, Progress};
use crate::reference::ImageName;
use crate::store::{AciNames, AciRecord, LayerHold, LayerSlot, Store, StoreError};
use crate::unpack::Shape;

/// Images that depend on images that … are followed this far.
const MAX_DEPTH: usize = 16;
/// The largest signature that is read.
const MAX_SIGNATURE: u64 = 1 << 20;

/// How ACIs are fetched, beyond what holds for every image.
#[derive(Clone, Copy)]
pub struct AciOptions<'a> {
    /// Who vouches for them.
    pub trust: AciTrust<'a>,
    /// What servers are told who want to know who asks.
    pub authorization: &'a dyn AciAuthorization,
    /// The signature of the image that is asked for; otherwise it is looked for beside the archive.
    pub signature: Option<&'a Path>,
}

/// Who vouches for ACIs.
#[derive(Clone, Copy)]
pub enum AciTrust<'a> {
    /// Whoever has one of these keys.
    Signed(&'a dyn AciKeys),
    /// Nobody is asked to.
    Waived,
}

/// Keys that may vouch for ACIs.
pub trait AciKeys: Sync {
    /// Verifies that `content` was signed by a key that may sign images called `name`. Returns who signed.
    ///
    /// # Errors
    /// If it was not.
    fn verify(
        &self,
        name: &str,
        content: &mut dyn std::io::Read,
        signature: &[u8],
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>>;
}

/// There are no keys.
impl AciKeys for () {
    fn verify(
        &self,
        name: &str,
        _: &mut dyn std::io::Read,
        _: &[u8],
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("no key may sign images called {name:?}").into())
    }
}

/// An ACI cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AciError {
    /// The archive cannot be used.
    #[error(transparent)]
    File(#[from] AciFileError),
    /// It is not what was asked for.
    #[error(transparent)]
    Manifest(#[from] AciManifestError),
    /// Its server does not deliver.
    #[error(transparent)]
    Remote(#[from] AciRemoteError),
    /// It was in the store when its server said that it has not changed, and then no more.
    #[error("{0} was collected while it was looked for; try again")]
    Gone(String),
    /// It depends on something that is no image.
    #[error("the image {image:?} has a dependency that is none")]
    Dependency {
        /// The image.
        image: String,
        /// Why.
        source: AciNameError,
    },
    /// It depends on something that cannot be had.
    #[error("cannot fetch {dependency}, which {image:?} depends on")]
    Beneath {
        /// The image.
        image: String,
        /// What it depends on.
        dependency: String,
        /// Why it cannot be had.
        source: Box<AciError>,
    },
    /// It depends on itself.
    #[error("the image {0:?} depends on itself")]
    Cycle(String),
    /// It is on top of too many images.
    #[error("more than {limit} images {what}")]
    TooMany {
        /// How they lie.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The dependency has another id than the manifest says.
    #[error("the image has the id {found}, {expected} is wanted")]
    Id {
        /// What the manifest says.
        expected: String,
        /// What it is.
        found: ImageId,
    },
    /// The dependency has another size than the manifest says.
    #[error("the image has {found} bytes, {expected} are wanted")]
    Size {
        /// What the manifest says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// There is no signature.
    #[error("error opening signature file {}; --insecure-options=image fetches without one", path.display())]
    SignatureFile {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The signature is not one that counts.
    #[error("cannot verify the signature of image {image:?}")]
    Signature {
        /// The image.
        image: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file was changed while it was read.
    #[error("{} changed while it was read; try again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Its tree cannot be unpacked.
    #[error("cannot unpack image {image:?}")]
    Layer {
        /// The image.
        image: String,
        /// Why not.
        source: Box<LayerError>,
    },
    /// Its tree cannot be rendered.
    #[error("cannot render image {image:?}")]
    Render {
        /// The image.
        image: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The store cannot take it.
    #[error("cannot store image {image:?}")]
    Store {
        /// The image.
        image: String,
        /// Why not.
        source: StoreError,
    },
}

impl Default for AciOptions<'_> {
    fn default() -> Self {
        Self { trust: AciTrust::Signed(&()), authorization: &(), signature: None }
    }
}

/// Fetches what `word` stands for.
///
/// What is returned beside the id keeps its trees from being collected.
pub(crate) fn fetch(
    store: &Store,
    word: &AciWord,
    options: &FetchOptions<'_>,
    progress: &dyn Progress,
) -> Result<(ImageId, Vec<LayerHold>), AciError> {
    let servers = Servers::new(store, options);
    let mut fetch =
        AciFetch { servers, store, options, progress, holds: Vec::new(), above: Vec::new(), count: 0 };
    let id = fetch.image(word, None)?.id;
    Ok((id, fetch.holds))
}

/// One fetch, of an image and everything beneath it.
struct AciFetch<'a> {
    servers: Servers<'a>,
    store: &'a Store,
    options: &'a FetchOptions<'a>,
    progress: &'a dyn Progress,
    /// Keep trees from being collected until the image on top is recorded.
    holds: Vec<LayerHold>,
    /// The images whose dependencies are being fetched, the outermost first.
    above: Vec<ImageManifest>,
    count: usize,
}

/// Where an image was found.
enum Found {
    /// In the store, and its server says that it has not changed.
    Unchanged(ImageId),
    Brought(Box<Brought>),
}

/// An archive that is here.
struct Brought {
    file: AciFile,
    /// What its server says is its signature.
    signature: Option<Vec<u8>>,
    /// It came from a server, which has its signature there.
    remote: Option<(Downloading, String)>,
}

/// An image that is in the store.
struct Part {
    id: ImageId,
    name: String,
    /// What is stacked, bottom first.
    trees: Vec<Digest>,
    /// What it was made from: the same, unless it was rendered.
    raw: Vec<Digest>,
}

impl AciFetch<'_> {
    /// Fetches an image: the one that was asked for, or one that another depends on.
    fn image(&mut self, word: &AciWord, wanted: Option<&Dependency>) -> Result<Part, AciError> {
        let brought = match self.find(word, wanted.is_none())? {
            Found::Brought(brought) => brought,
            Found::Unchanged(id) => match self.unchanged(word, id)? {
                Some(part) => return Ok(part),
                // It was collected this very moment.
                None => return Err(AciError::Gone(word.to_string())),
            },
        };
        let archive = &brought.file;
        let scan = archive.scan(self.options.limits.stream())?;
        if let AciWord::Named(name) = word {
            manifest::check_identity(&scan.parsed, name)?;
        }
        wanted.map_or(Ok(()), |wanted| check_dependency(wanted, &scan))?;
        let verified = self.check_signature(&brought, &scan, wanted.is_none())?;
        let names = names(word, &scan.parsed);
        if let Some(part) = self.present(scan.id)? {
            self.store.name_aci(&names, scan.id).map_err(failed(&part.name))?;
            self.progress.layer(scan.transported, LayerEvent::Present);
            self.arrived(&brought, scan.id, verified)?;
            return Ok(part);
        }
        self.above.push(scan.parsed.clone());
        let beneath = self.beneath(&scan.parsed);
        let _ = self.above.pop();
        let part = self.unpack(archive, &scan, &beneath?)?;
        let record = AciRecord {
            id: scan.id,
            manifest: &scan.manifest,
            trees: &part.trees,
            parts: if part.raw == part.trees { &[] } else { &part.raw },
            platform: manifest::platform(&scan.parsed),
        };
        self.store.record_aci(&record, &names).map_err(failed(&part.name))?;
        self.arrived(&brought, scan.id, verified)?;
        Ok(part)
    }

    /// Finds the archive, and brings it here if it is elsewhere.
    fn find(&self, word: &AciWord, top: bool) -> Result<Found, AciError> {
        let at = match word {
            AciWord::File(path) => {
                let file = AciFile::open(path)?;
                return Ok(Found::Brought(Box::new(Brought { file, signature: None, remote: None })));
            }
            AciWord::Url(url) => Endpoint { aci: url.clone(), signature: signature_of(url) },
            AciWord::Named(name) => self.servers.discover(name)?,
        };
        let verify = matches!(self.options.aci.trust, AciTrust::Signed(_));
        let ask = verify && !(top && self.options.aci.signature.is_some());
        let mut signature = None;
        let downloaded = self.servers.download(&at.aci, verify, || {
            if ask {
                signature = self.servers.signature(&at.signature, MAX_SIGNATURE)?;
            }
            Ok(())
        })?;
        match downloaded {
            Downloaded::Unchanged(id) => Ok(Found::Unchanged(id)),
            Downloaded::New(part) => {
                let file = AciFile::open(part.path())?;
                Ok(Found::Brought(Box::new(Brought { file, signature, remote: Some((part, at.signature)) })))
            }
        }
    }

    /// What the store has, and the server still has.
    fn unchanged(&mut self, word: &AciWord, id: ImageId) -> Result<Option<Part>, AciError> {
        let Some(part) = self.present(id)? else { return Ok(None) };
        let image = self.store.image(id).map_err(failed(&part.name))?;
        if let Some(manifest) = image.aci() {
            if let AciWord::Named(name) = word {
                manifest::check_identity(manifest, name)?;
            }
            self.store.name_aci(&names(word, manifest), id).map_err(failed(&part.name))?;
        }
        Ok(Some(part))
    }

    /// Notes where the image came from.
    fn arrived(&self, brought: &Brought, id: ImageId, verified: bool) -> Result<(), AciError> {
        match &brought.remote {
            Some((part, _)) => Ok(self.servers.arrived(part, id, verified)?),
            None => Ok(()),
        }
    }

    /// The signature, from where it is to be had.
    fn signature(&self, brought: &Brought, top: bool) -> Result<Vec<u8>, AciError> {
        let path = match (self.options.aci.signature.filter(|_| top), &brought.signature, &brought.remote) {
            (Some(path), ..) => path.to_owned(),
            (None, Some(bytes), _) => return Ok(bytes.clone()),
            (None, None, Some((_, url))) => {
                let deferred = || AciRemoteError::Deferred { url: url.clone() };
                return Ok(self.servers.signature(url, MAX_SIGNATURE)?.ok_or_else(deferred)?);
            }
            (None, None, None) => brought.file.signature(),
        };
        read_bounded(&path).map_err(|source| AciError::SignatureFile { path, source })
    }

    /// Verifies who made the archive. What was verified and what was scanned must be the same bytes. `false`: nobody
    /// asked.
    fn check_signature(&self, brought: &Brought, scan: &Scan, top: bool) -> Result<bool, AciError> {
        let AciTrust::Signed(keys) = self.options.aci.trust else { return Ok(false) };
        let (archive, signature) = (&brought.file, self.signature(brought, top)?);
        let mut content = Hashing::new(archive.bytes(), Algorithm::Sha256);
        let image = || scan.parsed.name.clone();
        let _signer = keys
            .verify(&scan.parsed.name, &mut content, &signature)
            .map_err(|source| AciError::Signature { image: image(), source })?;
        let changed = || AciError::Changed { path: archive.path().to_owned() };
        let _ = std::io::copy(&mut content, &mut std::io::sink()).map_err(|_| changed())?;
        if content.hasher.finish() == scan.transported { Ok(true) } else { Err(changed()) }
    }

    /// The image, if the store has all of it. Its trees are held.
    fn present(&mut self, id: ImageId) -> Result<Option<Part>, AciError> {
        let image = match self.store.image(id) {
            Ok(image) => image,
            Err(
                StoreError::Incomplete { .. }
                | StoreError::NotFound(_)
                | StoreError::Corrupt { .. }
                | StoreError::Parse { .. },
            ) => return Ok(None),
            Err(error) => return Err(failed(&id.to_string())(error)),
        };
        let Some(manifest) = image.aci() else { return Ok(None) };
        let name = manifest.name.clone();
        let raw = self.store.parts(id).map_err(failed(&name))?;
        let all: BTreeSet<Digest> = image.trees.iter().chain(&raw).copied().collect();
        // The pin of the image keeps all of them until each is held.
        for tree in all {
            match self.store.layer(tree, || {}).map_err(failed(&name))? {
                LayerSlot::Present(hold) => self.holds.push(hold),
                LayerSlot::Missing(_) => return Ok(None),
            }
        }
        let raw = if raw.is_empty() { image.trees.clone() } else { raw };
        Ok(Some(Part { id, name, trees: image.trees, raw }))
    }

    /// What lies beneath an image, bottom first.
    fn beneath(&mut self, manifest: &ImageManifest) -> Result<Vec<Part>, AciError> {
        let too_many = |what, limit| Err(AciError::TooMany { what, limit });
        if self.above.len() > MAX_DEPTH {
            return too_many("depend on one another", MAX_DEPTH);
        }
        let mut parts = Vec::new();
        for dependency in &manifest.dependencies {
            self.count += 1;
            if self.count > MAX_LAYERS {
                return too_many("lie beneath one", MAX_LAYERS);
            }
            let part = self.dependency(manifest, dependency).map_err(|source| AciError::Beneath {
                image: manifest.name.clone(),
                dependency: dependency.image_name.clone(),
                source: Box::new(source),
            });
            parts.push(part?);
        }
        Ok(parts)
    }

    fn dependency(&mut self, above: &ImageManifest, wanted: &Dependency) -> Result<Part, AciError> {
        let name = AciName::new(&wanted.image_name, &wanted.labels)
            .map_err(|source| AciError::Dependency { image: above.name.clone(), source })?;
        if self.above.iter().any(|above| manifest::has_identity(above, &name)) {
            return Err(AciError::Cycle(name.to_string()));
        }
        if let Some(part) = self.stored_dependency(&name, wanted)? {
            return Ok(part);
        }
        self.image(&AciWord::Named(name), Some(wanted))
    }

    /// A dependency that the store has, by id or by name. The word `update` asks for new ones of those without an id.
    fn stored_dependency(&mut self, name: &AciName, wanted: &Dependency) -> Result<Option<Part>, AciError> {
        use crate::fetch::PullPolicy;
        let found = match &wanted.image_id {
            Some(id) => id.parse().ok().and_then(|id| self.store.find(&ImageName::Id(id)).transpose()),
            None if self.options.pull_policy == PullPolicy::Update => None,
            None => self.store.find_aci(name).transpose(),
        };
        let Some(id) = found.transpose().map_err(failed(name.name()))? else { return Ok(None) };
        let found = self.store.image(id).ok();
        let fits = found.is_some_and(|image| image.aci().is_some_and(|m| manifest::has_identity(m, name)));
        if fits { self.present(id) } else { Ok(None) }
    }

    /// Unpacks the archive and stacks it onto what lies beneath.
    fn unpack(&mut self, archive: &AciFile, scan: &Scan, beneath: &[Part]) -> Result<Part, AciError> {
        self.tree(archive, scan)?;
        let own = scan.id.digest();
        let stack = |of: fn(&Part) -> &[Digest]| {
            let mut stack: Vec<Digest> = beneath.iter().flat_map(of).copied().collect();
            stack.push(own);
            topmost(stack)
        };
        let raw = stack(|part| &part.raw);
        let whitelist: BTreeSet<String> = scan.parsed.path_whitelist.iter().cloned().collect();
        let trees = match whitelist.is_empty() {
            true => stack(|part| &part.trees),
            false => vec![self.render(&scan.parsed.name, &raw, &whitelist)?],
        };
        if raw.len() > MAX_LAYERS {
            return Err(AciError::TooMany { what: "lie beneath one", limit: MAX_LAYERS });
        }
        Ok(Part { id: scan.id, name: scan.parsed.name.clone(), trees, raw })
    }

    /// The archive's own tree.
    fn tree(&mut self, archive: &AciFile, scan: &Scan) -> Result<(), AciError> {
        let name = &scan.parsed.name;
        let layer = scan.transported;
        let unusable = |source| AciError::Layer { image: name.clone(), source: Box::new(source) };
        let delivery = Delivery {
            source: archive,
            descriptor: &descriptor(scan).map_err(unusable)?,
            diff_id: scan.id.digest(),
            limits: &self.options.limits,
            shape: Shape::Aci,
            progress: self.progress,
            keep_blob: self.options.keep_blobs,
            cancelled: &AtomicBool::new(false),
        };
        self.store.sweep().map_err(failed(name))?;
        loop {
            let waiting = || self.progress.layer(layer, LayerEvent::Waiting);
            let work = match self.store.layer(scan.id.digest(), waiting).map_err(failed(name))? {
                LayerSlot::Present(hold) => {
                    self.progress.layer(layer, LayerEvent::Present);
                    self.store.check_shape(scan.id.digest(), Shape::Aci).map_err(failed(name))?;
                    self.holds.push(hold);
                    return Ok(());
                }
                LayerSlot::Missing(work) => work,
            };
            let dirs = work.directories().map_err(failed(name))?;
            let unpacked = delivery.run(dirs).map_err(|source| {
                self.progress.layer(layer, LayerEvent::Failed);
                unusable(source)
            })?;
            if let Some(hold) = work.finish(&unpacked, delivery.kept()).map_err(failed(name))? {
                self.progress.layer(layer, LayerEvent::Done);
                self.holds.push(hold);
                return Ok(());
            }
        }
    }

    /// The tree of an image with a whitelist.
    fn render(
        &mut self,
        name: &str,
        raw: &[Digest],
        whitelist: &BTreeSet<String>,
    ) -> Result<Digest, AciError> {
        let tree = render::digest(raw, whitelist);
        let unrendered = |source: std::io::Error| AciError::Render { image: name.to_owned(), source };
        loop {
            let work = match self.store.layer(tree, || {}).map_err(failed(name))? {
                LayerSlot::Present(hold) => {
                    self.store.check_shape(tree, Shape::Rendered).map_err(failed(name))?;
                    self.holds.push(hold);
                    return Ok(tree);
                }
                LayerSlot::Missing(work) => work,
            };
            let root = work.directories().map_err(failed(name))?.root;
            let trees: std::io::Result<Vec<OwnedFd>> =
                raw.iter().map(|tree| File::open(self.store.root_of(*tree)).map(OwnedFd::from)).collect();
            let trees = trees.map_err(unrendered)?;
            let rendered = render::render(&trees, whitelist, root).map_err(|e| unrendered(e.into()))?;
            if let Some(hold) = work.finish(&rendered, None).map_err(failed(name))? {
                self.holds.push(hold);
                return Ok(tree);
            }
        }
    }
}

fn failed(image: &str) -> impl Fn(StoreError) -> AciError + use<> {
    let image = image.to_owned();
    move |source| AciError::Store { image: image.clone(), source }
}

/// `NAME.aci.asc` for `NAME.aci`, whatever follows the path.
fn signature_of(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (path, rest) = url.split_at(end);
    format!("{path}.asc{rest}")
}

/// The archive as a layer.
fn descriptor(scan: &Scan) -> Result<Descriptor, LayerError> {
    let media_type = MediaType::Other("application/vnd.appc.image".to_owned());
    let digest: oci_spec::image::Digest = scan
        .transported
        .to_string()
        .parse()
        .map_err(|error| LayerError::Download(std::io::Error::other(error)))?;
    Ok(Descriptor::new(media_type, scan.size, digest))
}

/// Of a tree that is in the stack twice, the upper one hides the lower one.
fn topmost(stack: Vec<Digest>) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Digest> = stack.into_iter().rev().filter(|tree| seen.insert(*tree)).collect();
    kept.reverse();
    kept
}

/// Whether the archive is the dependency that a manifest wants. Its size may be meant with or without compression.
fn check_dependency(wanted: &Dependency, scan: &Scan) -> Result<(), AciError> {
    if let Some(id) = wanted.image_id.as_ref().filter(|id| **id != scan.id.to_string()) {
        return Err(AciError::Id { expected: id.chars().take(200).collect(), found: scan.id });
    }
    match wanted.size.filter(|size| *size != 0 && *size != scan.size && *size != scan.tar_size) {
        Some(expected) => Err(AciError::Size { expected, found: scan.size }),
        None => Ok(()),
    }
}

/// What the image is called from now on.
fn names(word: &AciWord, manifest: &ImageManifest) -> AciNames {
    let bare = format!("aci:{}", manifest.name);
    let versioned = manifest.label("version").map(|version| format!("{bare}:{version}"));
    let asked = word.to_string();
    let latest = asked == bare;
    let mut own: Vec<String> = Some(asked).filter(|_| !latest).into_iter().chain(versioned).collect();
    own.dedup();
    AciNames { own, bare, latest }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let _ = crate::layout::open(path)?.take(MAX_SIGNATURE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl AciKeys for crate::trust::Keystore {
    fn verify(
        &self,
        name: &str,
        content: &mut dyn std::io::Read,
        signature: &[u8],
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        Ok(crate::trust::Keystore::verify(self, name, content, signature)?.fingerprint)
    }
}
