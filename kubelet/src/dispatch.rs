//! Keeps one worker per pod, and tells each what is wanted of its pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use pod::stage1::Backoff;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::desired::{Desired, FullName};
use crate::finished::Finished;
use crate::runtime::Runtime;
use crate::worker::Worker;

/// The workers.
#[derive(Debug)]
pub(crate) struct Dispatch<R> {
    runtime: Arc<R>,
    board: Board,
    finished: Finished,
    backoff: Backoff,
    workers: BTreeMap<FullName, Entry>,
}

#[derive(Debug)]
struct Entry {
    wanted: watch::Sender<Option<Arc<Desired>>>,
    task: JoinHandle<()>,
}

impl<R: Runtime> Dispatch<R> {
    /// No workers yet.
    pub(crate) fn new(runtime: Arc<R>, board: Board, finished: Finished, backoff: Backoff) -> Self {
        Self { runtime, board, finished, backoff, workers: BTreeMap::new() }
    }

    /// Says what is wanted now. `there` are the pods of which there are instances: those that nobody wants are stopped.
    pub(crate) fn sync(
        &mut self,
        wanted: &BTreeMap<FullName, Arc<Desired>>,
        there: impl IntoIterator<Item = FullName>,
    ) {
        self.finished.keep(|name| wanted.contains_key(name));
        // A worker that has ended has done all that it was told.
        self.workers.retain(|_, entry| !entry.task.is_finished());
        for (name, entry) in &self.workers {
            let now = wanted.get(name);
            let version = |d: &Arc<Desired>| (d.uid.clone(), d.hash.clone());
            let _ = entry.wanted.send_if_modified(|before| {
                let changed = before.as_ref().map(version) != now.map(version);
                if changed {
                    now.into_iter().for_each(|desired| note(desired));
                    *before = now.cloned();
                }
                changed
            });
        }
        for (name, desired) in wanted {
            if !self.workers.contains_key(name) {
                note(desired);
                self.spawn(name.clone(), Some(Arc::clone(desired)));
            }
        }
        for name in there {
            if !self.workers.contains_key(&name) {
                tracing::info!(pod = %name, "nobody wants this pod any more");
                self.spawn(name, None);
            }
        }
    }

    fn spawn(&mut self, name: FullName, desired: Option<Arc<Desired>>) {
        let (wanted, receiver) = watch::channel(desired);
        let (runtime, board, finished) =
            (Arc::clone(&self.runtime), self.board.clone(), self.finished.clone());
        let worker = Worker::new(name.clone(), runtime, receiver, board, finished, self.backoff);
        let task = tokio::spawn(worker.run());
        let _ = self.workers.insert(name, Entry { wanted, task });
    }
}

/// Says what a pod asks for in vain.
fn note(desired: &Desired) {
    for what in crate::translate::unsupported::ignored(desired.spec()) {
        tracing::warn!(pod = %desired.name, "left out: {what}");
    }
}
