//! The stage1 that isolates nothing: a chroot, with the host's namespaces.
//!
//! This crate is a page for now; `rkt --stage1-name=fly` says that it is not installed.
//!
//! It is for agents of the node that are delivered as images: kubelets, proxies, storage drivers. One app per pod, no
//! network, PID or IPC isolation, no limits, mount propagation shared with the host, so that what the app mounts reaches
//! the host. That is power, and it needs consent: every container of the pod must be privileged.
//!
//! It will be a binary that implements the five verbs of `docs/stage1.md` on top of the `stage1` crate, with `up` and
//! `down` having nothing to make and nothing to release.
