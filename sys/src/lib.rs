//! Safe wrappers for kernel calls that no library covers, one idea per file.
//!
//! This crate is the fence: the only `unsafe` of the workspace is here, each block with the invariant that makes it
//! sound and the manual page that states it. What rustix already wraps safely is called through rustix, not here.
//! Nothing here knows what a pod is.
//!
//! * [`notify`]: sd_notify(3), both sides: the sender, and a listener for whoever plays systemd.

pub mod notify;
