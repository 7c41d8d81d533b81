//! Whether the kubelet can do its work: the manifests can be read, and systemd can be reached.

use std::sync::{Arc, Mutex, PoisonError};

/// What was found out last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    inner: Arc<Mutex<Facts>>,
}

#[derive(Debug, Default)]
struct Facts {
    bus: bool,
    manifests: Option<Result<(), String>>,
}

impl Health {
    /// Whether there is a connection to systemd.
    pub(crate) fn set_bus(&self, connected: bool) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bus = connected;
    }

    /// Whether the directory of manifests could be read. Returns whether that is news.
    pub(crate) fn set_manifests(&self, read: Result<(), String>) -> bool {
        let mut facts = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = facts.manifests.as_ref() != Some(&read);
        facts.manifests = Some(read);
        is_news
    }

    /// What is wrong, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let facts = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let bus = (!facts.bus).then(|| "there is no connection to systemd".to_owned());
        let manifests = match &facts.manifests {
            None => Some("the manifests have not been read yet".to_owned()),
            Some(Err(why)) => Some(format!("the manifests cannot be read: {why}")),
            Some(Ok(())) => None,
        };
        bus.into_iter().chain(manifests).collect()
    }
}
