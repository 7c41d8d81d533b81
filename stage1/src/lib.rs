//! placeholder
pub mod capabilities;
pub mod control_group;
pub mod credentials;
pub mod devices;
pub mod failure;
pub mod masks;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
pub mod pivot;
pub mod program;
pub mod resource_limits;
pub mod rootfs;
pub mod seccomp;
pub mod sysctls;
pub mod target;
pub mod users;
