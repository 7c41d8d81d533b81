//! Images, as `rkt`'s commands see them: found in the store or fetched, with progress on a terminal.
//!
//! What is found is pinned: garbage collection of images leaves it alone until the [`Found`] is dropped, which `prepare`
//! does after `image.json` names it.

use std::path::{Path, PathBuf};

use image::{
    AciOptions, AciTrust, AciWord, Content, Credentials, CredentialsError, FetchError, FetchOptions, Image,
    ImageName, ImageTrust, Keystore, NameError, PullPolicy, Reference, RegistryOptions, Store, StoreError,
    StoreSettings,
};
use pod::DataDir;
use pod::fetch_event::FetchStep;
use pod::manifest::{App, RuntimeImage};

use crate::progress::{Output, Watch};
use crate::{names, registries};

/// How to come by images: the checked form of the global flags and `--pull-policy`.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// When to ask a registry.
    pub(crate) pull: PullPolicy,
    /// Whether registries elsewhere than on this machine may be spoken to without TLS.
    pub(crate) allow_http: bool,
    /// Whether registries have to prove who they are.
    pub(crate) verify_tls: bool,
    /// Who may sign ACIs. Nothing: nobody has to.
    pub(crate) keystore: Option<Keystore>,
    /// Which images may be used. `None`: all.
    pub(crate) trust: Option<ImageTrust>,
    /// Directories that may have an `auth.d`, the most important first.
    pub(crate) config_dirs: Vec<PathBuf>,
    /// Names and passwords to use instead of those of files.
    pub(crate) credentials: Option<Credentials>,
    /// Where progress goes.
    pub(crate) progress: Output,
}

/// The image store and how to fill it.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    store: Store,
    policy: &'a Policy,
}

/// An image of the store.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// `sha256-<64 hex>`.
    pub(crate) id: String,
    /// Its name without a tag.
    pub(crate) name: String,
    /// Its tag.
    pub(crate) version: Option<String>,
    /// What to run, and how.
    pub(crate) content: Content,
    /// The layers' trees, bottom first.
    pub(crate) layers: Vec<PathBuf>,
    /// Whether it has links to /dev/stdout or /dev/stderr.
    pub(crate) opens_outputs: bool,
    /// Keeps garbage collection away.
    pub(crate) _pin: Option<image::Pin>,
}

/// An image cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("image {0:?}")]
    Name(String, #[source] image::ReferenceError),
    #[error(transparent)]
    ShortName(#[from] NameError),
    #[error(transparent)]
    Registries(#[from] image::RegistriesError),
    #[error(transparent)]
    Proxy(#[from] image::ProxyError),
    #[error("an app of the pod has neither the id nor the name of an image")]
    Unnamed,
    #[error("image {name:?} was built for {platform}, and this machine is {host}")]
    Platform { name: String, platform: String, host: String },
    #[error(transparent)]
    Names(#[from] names::NamesError),
    #[error("image {name:?} cannot run here")]
    Aci { name: String, source: image::AciManifestError },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Settings(#[from] image::StoreSettingsError),
}

impl Policy {
    /// Names and passwords for registries.
    pub(crate) fn credentials(&self) -> Result<Credentials, CredentialsError> {
        if let Some(given) = &self.credentials {
            return Ok(given.clone());
        }
        registries::credentials(&self.config_dirs)
    }
}

impl<'a> Images<'a> {
    /// Opens the store of a data directory.
    pub(crate) fn open(data: &DataDir, policy: &'a Policy) -> Result<Self, ImageError> {
        Ok(Self { store: open_store(data.path())?, policy })
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Understands a word for an image.
    pub(crate) fn name(&self, text: &str) -> Result<ImageName, ImageError> {
        match names::configured_aci(&self.policy.config_dirs, text)? {
            Some(name) => Ok(name),
            None => understand(Some(&self.store), text),
        }
    }

    /// Finds or fetches the image that `text` names.
    pub(crate) fn find(&self, text: &str) -> Result<Found, ImageError> {
        self.find_signed(text, None)
    }

    /// The same, with the file that has the signature of an ACI.
    pub(crate) fn find_signed(&self, text: &str, signature: Option<&Path>) -> Result<Found, ImageError> {
        let name = self.name(text)?;
        let image = self.fetch(&name, signature)?;
        self.found(&name, image)
    }

    /// Finds or fetches the image of an app in a pod manifest: by id, or else by name and version.
    pub(crate) fn find_for(&self, image: &RuntimeImage) -> Result<Found, ImageError> {
        let version = image.labels.iter().find(|l| l.name == "version").map(|l| l.value.as_str());
        match (&image.name, image.id.as_str()) {
            (None, "") => Err(ImageError::Unnamed),
            (Some(name), "") => self.find(&full_name(name, version)),
            // An id is never looked for in a registry, whatever it looks like.
            (name, id) => {
                if let Err(source) = id.parse::<image::IdPrefix>() {
                    return Err(ImageError::Name(id.to_owned(), source));
                }
                let mut found = self.find(id)?;
                if let Some(name) = name {
                    (found.name, found.version) = (name.clone(), version.map(str::to_owned));
                }
                Ok(found)
            }
        }
    }

    /// Fetches an image as the policy says.
    pub(crate) fn fetch(&self, name: &ImageName, signature: Option<&Path>) -> Result<Image, ImageError> {
        let watch = self.policy.progress.watch(&name.to_string());
        let outcome = self.fetch_watched(name, signature, &watch);
        watch.show(&match &outcome {
            Ok(image) => FetchStep::Done { id: image.id.to_string() },
            Err(error) => FetchStep::Error { message: crate::exit::sentence(error, false) },
        });
        outcome
    }

    /// Fetches an image, and tells how far it is; how it ends is for the caller to tell.
    pub(crate) fn fetch_watched(
        &self,
        name: &ImageName,
        signature: Option<&Path>,
        watch: &Watch,
    ) -> Result<Image, ImageError> {
        // What is in the store needs no credentials, and no threads to draw bars.
        if self.policy.pull == PullPolicy::New || matches!(name, ImageName::Id(_)) {
            let trust = self.policy.trust.as_ref();
            let options = FetchOptions { pull_policy: PullPolicy::Never, trust, ..FetchOptions::default() };
            let local = name.path().is_some();
            match if local { Ok(None) } else { image::fetch(&self.store, name, &options, &()).map(Some) } {
                Ok(Some(image)) => return Ok(image),
                Err(e @ FetchError::NotInStore { .. }) if matches!(name, ImageName::Id(_)) => {
                    return Err(self.other_platform(name).unwrap_or(ImageError::Fetch(e)));
                }
                Ok(None) | Err(FetchError::NotInStore { .. }) => {}
                // The policy demands a signature that was not looked for when it was fetched.
                Err(e) if e.is_unverified() && !matches!(name, ImageName::Id(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        watch.show(&FetchStep::Resolving);
        let fetched = with_fetch_options(self.policy, signature, |options| {
            image::fetch(&self.store, name, &options, watch)
        })?;
        Ok(fetched?)
    }

    /// Why an image that has the right id was not taken.
    fn other_platform(&self, name: &ImageName) -> Option<ImageError> {
        let image = self.store.image(self.store.find(name).ok()??).ok()?;
        let host = image::Platform::host();
        (image.platform != host).then(|| ImageError::Platform {
            name: name.to_string(),
            platform: format!("{}/{}", image.platform.os, image.platform.architecture),
            host: format!("{}/{}", host.os, host.architecture),
        })
    }

    fn found(&self, name: &ImageName, image: Image) -> Result<Found, ImageError> {
        let (name, version) = self.split(name, &image)?;
        if let Some(manifest) = image.aci() {
            image::check_platform(manifest, &image::Platform::host())
                .map_err(|source| ImageError::Aci { name: full_name(&name, version.as_deref()), source })?;
        }
        Ok(Found {
            id: image.id.to_string(),
            name,
            version,
            content: image.content,
            layers: image.layers,
            opens_outputs: image.opens_outputs,
            _pin: Some(image.pin),
        })
    }

    /// An image's name without its tag, and the tag. One that was asked for by id goes by one of its names.
    fn split(&self, name: &ImageName, image: &Image) -> Result<(String, Option<String>), ImageError> {
        if let Some(manifest) = image.aci() {
            return Ok((manifest.name.clone(), manifest.label("version").map(str::to_owned)));
        }
        if !matches!(name, ImageName::Id(_)) {
            return Ok(split_name(name));
        }
        let record = self.store.images()?.into_iter().find(|r| r.id == image.id);
        let named = record.and_then(|r| r.names.into_iter().next()).and_then(|n| n.parse().ok());
        Ok(named.map_or_else(|| (image.id.to_string(), None), |name| split_name(&name)))
    }
}

impl Found {
    /// The app that the image runs.
    pub(crate) fn app(&self) -> App {
        crate::appc::app(&self.content)
    }

    /// Name and tag.
    pub(crate) fn full_name(&self) -> String {
        full_name(&self.name, self.version.as_deref())
    }
}

/// Understands a word for an image that is to be in the store. A name without a registry, on a host that says nothing about
/// those, can only be docker.io's: to look for it there gives nothing away.
pub(crate) fn parse_name(store: Option<&Store>, text: &str) -> Result<ImageName, ImageError> {
    match understand(store, text) {
        Err(ImageError::ShortName(NameError::Unlisted { .. })) => parse(text),
        other => other,
    }
}

/// Understands a word for an image. A name without a registry is looked for in the store under every name that it may
/// stand for. One that the store has as an ACI means that.
fn understand(store: Option<&Store>, text: &str) -> Result<ImageName, ImageError> {
    if let Some(name) = store.and_then(|store| names::stored_aci(store, text)) {
        return Ok(name);
    }
    let known = |name: &ImageName| store.is_some_and(|store| matches!(store.find(name), Ok(Some(_))));
    if Reference::is_short(text) {
        Ok(registries::config()?.registries.name(text, &known)?)
    } else {
        parse(text)
    }
}

fn parse(text: &str) -> Result<ImageName, ImageError> {
    text.parse().map_err(|e| ImageError::Name(text.to_owned(), e))
}

/// Calls `act` with what the policy and the configuration say about fetching.
pub(crate) fn with_fetch_options<T>(
    policy: &Policy,
    signature: Option<&Path>,
    act: impl FnOnce(FetchOptions<'_>) -> T,
) -> Result<T, ImageError> {
    let credentials = policy.credentials()?;
    let settings = StoreSettings::read(&policy.config_dirs)?;
    Ok(act(FetchOptions {
        pull_policy: policy.pull,
        registry: RegistryOptions {
            allow_http: policy.allow_http,
            verify_tls: policy.verify_tls,
            credentials: &credentials,
            config: registries::config()?,
            ..RegistryOptions::default()
        },
        aci: AciOptions {
            trust: policy.keystore.as_ref().map_or(AciTrust::Waived, |keys| AciTrust::Signed(keys)),
            authorization: &credentials,
            signature,
        },
        keep_blobs: settings.keep_layer_blobs,
        trust: policy.trust.as_ref(),
        ..FetchOptions::default()
    }))
}

/// Opens the image store of a data directory.
pub(crate) fn open_store(data: &Path) -> Result<Store, StoreError> {
    Store::open(&data.join("cas"))
}

pub(crate) fn split_name(name: &ImageName) -> (String, Option<String>) {
    match name {
        ImageName::Registry(r) => {
            (format!("{}/{}", r.registry(), r.repository()), r.tag().map(str::to_owned))
        }
        ImageName::Oci { path, tag } => (format!("oci:{}", path.display()), tag.clone()),
        ImageName::OciArchive { path, tag } => (format!("oci-archive:{}", path.display()), tag.clone()),
        ImageName::DockerArchive { path, name } => {
            (format!("docker-archive:{}", path.display()), name.clone())
        }
        ImageName::Id(id) => (id.to_string(), None),
        ImageName::Aci(AciWord::Named(name)) => (name.name().to_owned(), name.version().map(str::to_owned)),
        ImageName::Aci(word) => (word.to_string(), None),
    }
}

fn full_name(name: &str, version: Option<&str>) -> String {
    version.map_or_else(|| name.to_owned(), |version| format!("{name}:{version}"))
}
