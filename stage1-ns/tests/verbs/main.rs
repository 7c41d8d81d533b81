//! The verbs, called as a direct launcher calls them: real namespaces, real mounts, a real (small) image of busybox.
//!
//! These tests need root, like the stage1 itself.

#[cfg(test)]
mod app;
#[cfg(test)]
mod enter;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod launcher;
#[cfg(test)]
mod limits;
