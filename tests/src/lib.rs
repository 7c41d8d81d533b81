//! Throwaway systemd nodes, images to run in them, and what the end-to-end tests and benchmarks share.
//!
//! A test asks for the kind of node it needs, works in it through a guard, and asserts:
//!
//! ```no_run
//! use tests::{Kind, Node};
//!
//! let t = Node::shared(Kind::Hybrid).test("node_answers");
//! let out = t.run(&["systemctl", "is-system-running"]);
//! assert_eq!(out.stdout.trim(), "running");
//! ```
//!
//! * [`Node`] boots (a second in namespaces, some seconds in a virtual machine) and runs commands;
//! * [`Test`] is one test inside a node: its directories, and the record kept when it fails;
//! * [`installed`] is a node with what `make install` installs;
//! * [`fixtures`] builds OCI images from Debian packages; [`registry`] serves them;
//! * [`hostile`] makes images that mean harm;
//! * [`bench`] times commands against one another.
//!
//! | environment | does |
//! |---|---|
//! | `RKT_TEST_NODE=host` | every node is this machine itself, whose PID 1 has to be systemd |
//! | `RKT_TEST_ACCEL` | QEMU's accelerator for virtual machines, `kvm` for instance; emulation otherwise |
//! | `RKT_TEST_VM_MEMORY` | MiB of memory of a virtual machine, 4096 otherwise |
//! | `XDG_CACHE_HOME` | kernels, images and registries are kept in `rktnetes/` there, or in `~/.cache` |
//!
//! Nodes belong to the process that booted them. However it dies, a keeper process notices the end of a
//! pipe, kills the node and removes its control groups and files; what even a killed keeper leaves is
//! removed at the next boot. Nothing here needs the machine to run systemd; everything needs root.

pub mod agent;
pub mod artifact;
pub mod bench;
mod boot;
mod child;
mod client;
mod command;
mod control_group;
pub mod fixtures;
mod guard;
pub mod hostile;
mod init;
pub mod installed;
pub mod keeper;
mod kernel;
mod node;
mod output;
pub mod registry;
pub mod root;
pub mod terminal;
mod vm;
mod wire;

pub use child::Child;
pub use command::Command;
pub use guard::Test;
pub use node::{Bind, Kind, Network, Node, Options};
pub use output::{Output, Status};
