//! `rkt-api`: a read-only service that answers questions about pods.
//!
//! This crate is a page for now. `rkt list`, `rkt status` and `rkt logs` answer from the pod directory and the journal
//! without any service, and so does the kubelet.
//!
//! It will serve rkt's gRPC API (`v1alpha.PublicAPI`, wire-compatible) and a second service that can say what that one
//! cannot: attempts and their reasons, resource use, events with resume. Socket-activated, not root, gone when idle.
//! It reads what is in `docs/pod-directory.md` through the `pod` crate, and writes nothing.
