//! The pod on disk.
//!
//! Everything of rktnetes that runs a pod or asks about one goes through this crate: it owns the names of files, units
//! and environment variables that the parts use to talk to each other, and the state machine of a pod.
//! It does not start anything and it does not isolate anything.
//!
//! The central types, in the order in which a pod meets them:
//!
//! * [`PodId`], [`AppName`]: names, parsed once;
//! * [`manifest::PodManifest`]: what the user wants (appc schema);
//! * [`DataDir`]: `/var/lib/rkt`; creates, lists and finds pods;
//! * [`PodDir`]: one pod's directory, opened: its [`State`], manifest, records;
//! * [`LockedPod`]: a pod that we hold the exclusive lock of, and may move from [`Phase`] to [`Phase`];
//! * [`attempt`]: the records of each start of an app;
//! * [`users`]: the ids of a pod with a user namespace;
//! * [`stage1`] and [`unit`]: how the isolators are called, and what systemd's units are called;
//! * [`fetch_event`]: what a fetch tells the program that started it.
//!
//! The contracts are prose, in `docs/pod-directory.md`, `docs/pod-lifecycle.md`, `docs/stage1.md` and `docs/units.md`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! let data = pod::DataDir::open(tmp.path())?;
//! let embryo = data.create(pod::PodId::random())?;
//! assert_eq!(embryo.dir().state()?, pod::State::Embryo);
//! for pod in data.pods()? {
//!     println!("{} {}", pod.id(), pod.state()?);
//! }
//! # Ok(())
//! # }
//! ```

pub mod attempt;
pub mod bundle;
pub mod fetch_event;
pub mod launch;
pub mod manifest;
pub mod sandbox;
pub mod signal;
pub mod stage1;
pub mod unit;
pub mod users;

mod data_dir;
mod directory;
mod file;
mod id;
mod lock;
mod name;
mod phase;
mod process;
mod remove;
mod transition;

pub use data_dir::{DataDir, FindError};
pub use directory::{OpenError, PodDir, PodError};
pub use file::FileError;
pub use id::{InvalidPodId, PodId};
pub use name::{AppName, InvalidName};
pub use phase::{Phase, State};
pub use process::ProcessRef;
pub use transition::{LockedPod, TransitionError};
