//! The crate against real things: registries, tools, archives, processes that die.
//!
//! These tests need root, because layers are unpacked with their owners and whiteouts are device nodes, and Debian's
//! `docker-registry`, `skopeo`, `umoci`, `gnupg`, `openssl` and `busybox-static`. They use loopback and temporary directories only.

#[cfg(test)]
mod build;
#[cfg(test)]
mod gnupg;
#[cfg(test)]
mod server;

#[cfg(test)]
mod aci;
#[cfg(test)]
mod aci_remote;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod bombs;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod digests;
#[cfg(test)]
mod export;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod mirrors;
#[cfg(test)]
mod openpgp;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod recipe;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod render;
#[cfg(test)]
mod rude;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod verify;
