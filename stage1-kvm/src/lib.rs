//! The stage1 that isolates with a virtual machine.
//!
//! This crate is a page for now; `rkt --stage1-name=kvm` says that it is not installed.
//!
//! It will be two binaries: one implements the five verbs of `docs/stage1.md` on the host (`up` starts the machine,
//! `app` stands for an app that runs in it), the other is the guest's static init, which runs the apps with the same steps
//! from `config.json` to a confined process that `stage1-ns` takes, from the `stage1` crate.
//!
//! The pod directory is what both sides share; host and guest talk over virtio-serial, because a vsock device is not
//! everywhere to be had; the accelerator is `kvm`, or `tcg` where a guest does not start under it.
