//! When to look at the manifests again: when something happened to the directory, and from time to time.
//!
//! Editors write a file in several steps (truncate and write, or write beside it and rename). A look waits until nothing
//! has happened for a moment, so that half a file is not taken for a whole one.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// This long without an event is quiet.
const QUIET: Duration = Duration::from_millis(200);
/// However busy the directory is, a look comes after this.
const LONGEST: Duration = Duration::from_secs(2);
/// A look without any event: repairs what was missed.
const RELIST: Duration = Duration::from_secs(20);
/// A directory that is not there is looked for this often.
const ABSENT: Duration = Duration::from_secs(2);

/// Tells when to look.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
}

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new() -> Self {
        let (sender, events) = mpsc::channel(1);
        Self { watcher: None, events, sender }
    }

    /// Begins to watch the directory, if that is not so already. Called before each look, so that nothing that happens
    /// after the look is missed.
    pub(crate) fn arm(&mut self, directory: &Path) -> Result<(), notify::Error> {
        if self.watcher.is_some() {
            return Ok(());
        }
        let sender = self.sender.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let only_read = event.is_ok_and(|e| e.kind.is_access() && !is_close_after_write(e.kind));
            if !only_read {
                // A full channel: a look is due anyway.
                let _ = sender.try_send(());
            }
        })?;
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// The directory could not be read: it may have been replaced, and the watch be of the old one.
    pub(crate) fn disarm(&mut self) {
        self.watcher = None;
    }

    /// Waits until it is time to look.
    pub(crate) async fn due(&mut self) {
        let patience = if self.watcher.is_some() { RELIST } else { ABSENT };
        if tokio::time::timeout(patience, self.events.recv()).await.is_err() {
            // The directory can have been replaced by another of its name without an event that says so.
            self.disarm();
            return;
        }
        let quiet =
            async { while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {} };
        let _ = tokio::time::timeout(LONGEST, quiet).await;
    }
}

fn is_close_after_write(kind: notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    kind == notify::EventKind::Access(AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_file_is_noticed_long_before_the_relist() {
        let tmp = tempfile::tempdir().unwrap();
        let mut watch = Watch::new();
        watch.arm(tmp.path()).unwrap();
        std::fs::write(tmp.path().join(".new"), "x").unwrap();
        std::fs::rename(tmp.path().join(".new"), tmp.path().join("new")).unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.due()).await.unwrap();
        assert!(watch.watcher.is_some(), "it was an event, not the relist");
    }

    #[tokio::test(start_paused = true)]
    async fn without_events_there_is_a_relist() {
        let tmp = tempfile::tempdir().unwrap();
        let mut watch = Watch::new();
        watch.arm(tmp.path()).unwrap();
        let start = tokio::time::Instant::now();
        watch.due().await;
        assert!((RELIST..RELIST * 2).contains(&start.elapsed()));
    }
}
