//! Where pods come from: a directory of manifests.
//!
//! Text becomes documents ([`decode`]), documents become pods ([`static_pod`]) that were checked ([`validate`]); a
//! [`directory::Directory`] remembers which file holds which pods, and [`watch`] says when to look again.
//! One bad document affects no other pod; what it said before stays in force until it is good again or gone.

pub(crate) mod decode;
pub(crate) mod directory;
pub(crate) mod static_pod;
pub(crate) mod validate;
pub(crate) mod watch;
