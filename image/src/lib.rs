//! Container images: from a name on a command line to trees that overlayfs can stack.
//!
//! [`fetch`] is the whole of it: it understands where an image is ([`ImageName`]), asks the registry, the OCI layout
//! or the archive for it ([`Source`]), verifies every byte against its digest, unpacks each layer once into a tree of
//! the [`Store`], and returns an [`Image`]: what to run (its configuration) and what to stack (its trees). The store is
//! a directory that any number of processes share without a daemon; a killed fetch leaves nothing that the next one
//! trips over; garbage collection never takes what somebody holds.
//!
//! ```no_run
//! use std::path::Path;
//! use image::{FetchOptions, ImageName, Store, fetch};
//!
//! let store = Store::open(Path::new("/var/lib/rkt/cas"))?;
//! let name: ImageName = "docker.io/library/busybox:1.36".parse()?;
//! let image = fetch(&store, &name, &FetchOptions::default(), &())?;
//! println!("{} has {} layers, the lowest is {:?}", image.id, image.layers.len(), image.layers.first());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Images are hostile until proven otherwise: what an archive may do to the disk is the business of the `unpack`
//! module, what a registry may do to us that of `registry`. Everything here is synchronous; layers are fetched by
//! threads. Unpacking needs root: files get their owners, whiteouts are device nodes, and marking a directory as
//! opaque takes CAP_SYS_ADMIN.

#![forbid(unsafe_code)]

mod aci;
mod digest;
mod platform;
mod reference;
mod registries_conf;

mod content;
mod manifest;
mod source;

mod archive;
mod certs;
mod credentials;
mod layout;
mod registry;

mod compare;
mod compression;
mod layer;
mod pipe;
mod recipe;
mod tarball;
mod unpack;

mod export;
mod import;
mod merged;
mod output;
mod render;

mod remove;
mod store;

mod trust;

mod fetch;
mod progress;
mod verify;

pub use aci::{
    AciAuthorization, AciError, AciFileError, AciKeys, AciManifestError, AciName, AciNameError, AciOptions,
    AciRemoteError, AciTrust, AciWord, check_platform, discover_keys,
};
pub use archive::{ArchiveError, DockerArchive};
pub use certs::{Certificates, CertificatesError};
pub use content::{Content, Format};
pub use credentials::{Credential, CredentialLookup, Credentials, CredentialsError, HelperError, ServerAuth};
pub use digest::{Algorithm, Digest, DigestError, Hasher, ImageId};
pub use export::{ExportError, Exported, export_aci, export_docker_archive, export_oci, export_oci_archive};
pub use fetch::{FetchError, FetchOptions, PullPolicy, fetch};
pub use import::{ImportError, import_archive, import_rootfs};
pub use layer::LayerError;
pub use layout::{ChoiceError, Layout, LayoutError};
pub use manifest::{DocumentError, MAX_DOCUMENT, MAX_LAYERS};
pub use output::{Existing, NewDirectory, NewFile, OutputError};
pub use platform::Platform;
pub use progress::{LayerEvent, Progress};
pub use recipe::{Difference, Wrong};
pub use reference::{DEFAULT_REGISTRY, IdPrefix, ImageName, Reference, ReferenceError};
pub use registries_conf::{NameError, Registries, RegistriesError};
pub use registry::{
    Complaint, HttpError, Patience, Proxies, ProxyError, Registry, RegistryConfig, RegistryError,
    RegistryOptions, download_small,
};
pub use render::{RenderError, render};
pub use source::{Raw, Resolved, Source, SourceError, resolve};
pub use store::{
    Candidates, Damage, GcPlan, GcReport, Image, ImageRecord, InUse, LayerBlob, LayerCheck, LayerInfo,
    LayerTar, LayerTarError, Pin, Pressure, Store, StoreError, StoreSettings, StoreSettingsError, Usage,
};
pub use tarball::TarError;
pub use trust::{
    AdmissionError, Certificate, ImageTrust, KEYSTORE_DIR, KeyError, Keystore, KeystoreError, LookasideError,
    MAX_SIGNATURE, OpenPgpError, Origin, POLICY_FILE, PolicyError, PolicyRefusal, Prefix, REGISTRIES_DIR,
    Scope, SignatureKind, SignatureRefusal, Signer, StoredKey, TrustError, Verification,
};
pub use unpack::{Limits, Refusal, Shape, UnpackError, Unpacked};
pub use verify::{RepairError, Verdict, Verified, VerifyOptions, verify};

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
