//! Pod networking by CNI.
//!
//! This crate is a page for now. Today a pod has the host's network or a namespace of its own with a loopback interface
//! only; stage1 `up` makes that namespace and brings `lo` up, and needs nothing from here.
//!
//! What belongs here, and nowhere else:
//!
//! * configuration lists of the CNI specification (<https://www.cni.dev/docs/spec/>), from rkt's `net.d` directories and
//!   from `/etc/cni/net.d`;
//! * running plugins (ADD, DEL, CHECK, STATUS, GC, VERSION), chained, with time limits, and understanding their results;
//! * the record of what was attached, in the pod's directory, so that DEL works after a reboot and without the
//!   configuration;
//! * port mappings, and the built-in `default` and `default-restricted` networks of `rkt run --net`.
//!
//! Where it fits: between `up` making the namespace and `up` writing `sandbox.json`; `down` undoes it. The namespace is
//! handed over as a descriptor and as a path below `/proc/<holder>/fd` (see `docs/pod-directory.md`), so a plugin can be
//! given a path although nothing is mounted. May use `pod` and `sys`; nothing but a stage1 may use it.
