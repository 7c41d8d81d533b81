//! What every stage1 shares: the five verbs, and the steps that turn an OCI `config.json` into a confined process.
//!
//! A stage1 is a binary that implements [`verbs::Stage1`]. Each kernel concern has a file here that does one thing and
//! has its own error; a stage1 puts them in order. An app comes to be in these steps:
//!
//! 1. outside: [`own_executable`], [`tether`], [`backoff`], [`sandbox`] (the pod's namespaces), [`limits`],
//!    [`relay`] (for apps that need one), [`channel`] (the process that will be the app);
//! 2. in it, still in the host's tree: [`outputs`], [`null_device`], [`namespaces`], [`rootfs`], [`mounts`], [`devices`], [`sysctls`],
//!    [`masks`], [`users`], then [`pivot`];
//! 3. in the app's tree: [`resource_limits`], [`program`] (working directory), [`credentials`] with [`capabilities`]
//!    and [`seccomp`], and [`program`] again, which executes.
//!
//! In a pod with a [`user_namespace`], roots and volumes come before everything in 2 ([`staging`]): they need the host's root.
//!
//! [`verbs`] calls the stage1, [`failure`] is how every step fails, [`unsupported`] what is refused before the first.
//!
//! Three rules hold throughout. The image, the volumes and other apps are hostile: files in an app's root are found and
//! made through descriptors ([`target`]). Mounts are complete before anybody can see them. And nothing is ignored:
//! what a config asks for and cannot be had is an error with a sentence.

pub mod backoff;
pub mod capabilities;
pub mod channel;
pub mod commentary;
pub mod control_group;
pub mod credentials;
pub mod devices;
pub mod failure;
pub mod limits;
pub mod masks;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
pub mod null_device;
pub mod outputs;
pub mod own_executable;
pub mod pivot;
pub mod program;
pub mod relay;
pub mod resource_limits;
pub mod rootfs;
pub mod running;
pub mod sandbox;
pub mod seccomp;
pub mod staging;
pub mod sysctls;
pub mod target;
pub mod tether;
pub mod unsupported;
pub mod user_namespace;
pub mod users;
pub mod verbs;
