//! sd_notify(3): a process tells whoever started it how it is doing, and hands descriptors over.
//!
//! [`Notifier`] is the sending side, used by every stage1. [`Listener`] is the receiving side, for a launcher that plays
//! systemd's part. A message is `KEY=value` lines in one datagram, with descriptors as `SCM_RIGHTS`; the kernel adds the
//! sender's credentials, so that a receiver knows who is speaking (unix(7)).

mod listener;
mod message;
mod sender;

#[cfg(test)]
mod tests;

pub use listener::{Listener, ListenerError};
pub use message::Message;
pub use sender::{Notifier, NotifyError};

/// The variable that holds the receiver's address.
pub const ENV_NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// The largest message that is sent or accepted, bytes. systemd's own limit is the size of a page, too.
const MAX_TEXT: usize = 4096;

/// The most descriptors in one message: the kernel's `SCM_MAX_FD`.
const MAX_FDS: usize = 253;
