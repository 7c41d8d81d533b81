//! Safe wrappers for kernel calls that no library covers, one idea per file.
//!
//! This crate is the fence: the only `unsafe` of the workspace is here, each block with the invariant that makes it
//! sound and the manual page that states it. What rustix already wraps safely is called through rustix, not here.
//! Nothing here knows what a pod is.
//!
//! * [`notify`]: sd_notify(3), both sides: the sender, and a listener for whoever plays systemd;
//! * [`journal_stream`]: a connection to journald that can serve as stdout or stderr;
//! * [`clone`](mod@clone), [`namespace`], [`exec`]: making processes and becoming others;
//! * [`mount_attributes`] is mount_setattr(2);
//! * [`executable`]: a way to a program's file that nobody can write through;
//! * [`seccomp`], [`signal`], [`descriptor`], [`network`], [`keyring`]: one call or two each.

pub mod clone;
pub mod descriptor;
pub mod exec;
pub mod executable;
pub mod journal_stream;
pub mod keyring;
pub mod mount_attributes;
pub mod namespace;
pub mod network;
pub mod notify;
pub mod seccomp;
pub mod signal;
