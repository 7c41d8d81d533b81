//! When to look at the manifests again: when something happened to the directory, and from time to time.
//!
//! A file that was closed after writing, renamed or removed is whole: a look comes at once. One that is being written is
//! waited for, so that half a file is not taken for a whole one; so is a directory in which much happens.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::directory::has_manifest_name;

/// Events of one act come together: this long without another, and it is over.
const SETTLED: Duration = Duration::from_millis(10);
/// This long without an event is quiet. Waited for after a file has appeared (a link is never written or closed), and
/// when the last look was just now.
const QUIET: Duration = Duration::from_millis(200);
/// A look that is this long ago was not just now.
const CALM: Duration = Duration::from_secs(1);
/// However busy the directory is and however slowly a file is written, a look comes after this.
const LONGEST: Duration = Duration::from_secs(2);
/// A look without any event: repairs what was missed.
const RELIST: Duration = Duration::from_secs(20);
/// A directory that is not there is looked for this often.
const ABSENT: Duration = Duration::from_secs(2);
/// Events that may wait. When there are more, a look is due anyway.
const QUEUE: usize = 256;

/// Tells when to look.
#[derive(Debug)]
pub(crate) struct Watch {
    watched: Option<Watched>,
    events: mpsc::Receiver<Act>,
    sender: mpsc::Sender<Act>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    _watcher: RecommendedWatcher,
    /// Device and inode: another directory can take the name of the one that is watched.
    identity: (u64, u64),
}

/// What somebody did in the directory.
#[derive(Debug)]
enum Act {
    /// A file is there that was not.
    Made(PathBuf),
    /// Something was written into a file.
    Written(PathBuf),
    /// These are as they are meant to be, or gone.
    Whole(Vec<PathBuf>),
    /// Something else.
    Other,
}

/// The files that are not whole yet.
#[derive(Debug, Default)]
struct Unfinished(HashMap<PathBuf, Stage>);

#[derive(Debug, PartialEq)]
enum Stage {
    Made,
    Written,
}

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new() -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        Self { watched: None, events, sender, looked: None }
    }

    /// Begins to watch the directory, if that is not so already. Called before each look, so that nothing that happens
    /// after the look is missed.
    pub(crate) fn arm(&mut self, directory: &Path) -> Result<(), notify::Error> {
        let meta = std::fs::metadata(directory).map_err(notify::Error::io)?;
        let identity = (meta.dev(), meta.ino());
        if self.watched.as_ref().is_some_and(|w| w.identity == identity) {
            return Ok(());
        }
        self.watched = None;
        let sender = self.sender.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(act) = event.map_or(Some(Act::Other), act) {
                // A full channel: a look is due anyway.
                let _ = sender.try_send(act);
            }
        })?;
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        self.watched = Some(Watched { _watcher: watcher, identity });
        Ok(())
    }

    /// The directory could not be read: the watch may be of one that is gone.
    pub(crate) fn disarm(&mut self) {
        self.watched = None;
    }

    /// Waits until it is time to look.
    pub(crate) async fn due(&mut self) {
        let patience = if self.watched.is_some() { RELIST } else { ABSENT };
        let first = tokio::time::timeout(patience, self.events.recv()).await;
        let mut unfinished = Unfinished::default();
        if let Ok(Some(act)) = first {
            let now = Instant::now();
            let calm = self.looked.is_none_or(|looked| now.duration_since(looked) > CALM);
            let (settled, last) = (if calm { SETTLED } else { QUIET }, now + LONGEST);
            unfinished.note(act);
            while let Ok(Some(act)) =
                timeout_at(last.min(Instant::now() + unfinished.patience(settled)), self.events.recv()).await
            {
                unfinished.note(act);
            }
        }
        self.looked = Some(Instant::now());
    }
}

impl Unfinished {
    fn note(&mut self, act: Act) {
        match act {
            Act::Made(path) => {
                let _ = self.0.entry(path).or_insert(Stage::Made);
            }
            Act::Written(path) => {
                let _ = self.0.insert(path, Stage::Written);
            }
            Act::Whole(paths) => self.0.retain(|path, _| !paths.contains(path)),
            Act::Other => {}
        }
    }

    /// How long to wait for the next event.
    fn patience(&self, settled: Duration) -> Duration {
        if self.0.values().any(|stage| *stage == Stage::Written) {
            LONGEST
        } else if self.0.is_empty() {
            settled
        } else {
            QUIET
        }
    }
}

/// What an event says. `None`: nothing of interest. (A hidden name is of interest when it is renamed: the files of a
/// ConfigMap change that way.)
fn act(event: notify::Event) -> Option<Act> {
    let path = || event.paths.first().filter(|path| has_manifest_name(path)).cloned();
    match event.kind {
        EventKind::Create(CreateKind::Folder) => None,
        EventKind::Create(_) => path().map(Act::Made),
        EventKind::Modify(ModifyKind::Data(_)) => path().map(Act::Written),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => path().map(|path| Act::Whole(vec![path])),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => Some(Act::Whole(event.paths)),
        _ => Some(Act::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn watch() -> (tempfile::TempDir, Watch) {
        let (tmp, mut watch) = (tempfile::tempdir().unwrap(), Watch::new());
        watch.arm(tmp.path()).unwrap();
        (tmp, watch)
    }

    async fn due(watch: &mut Watch) -> Duration {
        let begun = Instant::now();
        tokio::time::timeout(RELIST / 2, watch.due()).await.expect("an event, not the relist");
        begun.elapsed()
    }

    #[tokio::test]
    async fn a_whole_file_is_not_waited_for() {
        let (tmp, mut watch) = watch();
        std::fs::write(tmp.path().join(".new"), "x").unwrap();
        std::fs::rename(tmp.path().join(".new"), tmp.path().join("new")).unwrap();
        assert!(due(&mut watch).await < QUIET);
        watch.looked = None;
        std::fs::write(tmp.path().join("new"), "y").unwrap();
        assert!(due(&mut watch).await < QUIET);
    }

    #[tokio::test]
    async fn a_file_that_is_written_slowly_is_waited_for() {
        let (tmp, mut watch) = watch();
        let mut file = std::fs::File::create(tmp.path().join("new")).unwrap();
        file.write_all(b"half").unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(QUIET * 3);
            file.write_all(b"whole").unwrap();
        });
        assert!((QUIET * 2..LONGEST).contains(&due(&mut watch).await));
        writer.join().unwrap();
        let mut never_closed = std::fs::File::create(tmp.path().join("new")).unwrap();
        never_closed.write_all(b"x").unwrap();
        assert!(due(&mut watch).await >= LONGEST);
    }

    #[tokio::test]
    async fn a_directory_in_which_much_happens_is_looked_at_now_and_then() {
        let (tmp, mut watch) = watch();
        let path = tmp.path().join("new");
        let writer = std::thread::spawn(move || {
            for i in 0..60 {
                std::fs::write(&path, format!("{i}")).unwrap();
                std::thread::sleep(QUIET / 4);
            }
        });
        let mut looks = 0;
        while !writer.is_finished() {
            let _ = due(&mut watch).await;
            looks += 1;
        }
        assert!((2..=5).contains(&looks), "{looks}");
    }

    #[tokio::test]
    async fn another_directory_of_that_name_is_watched_at_the_next_look() {
        let (tmp, mut watch) = (tempfile::tempdir().unwrap(), Watch::new());
        let (path, old) = (tmp.path().join("m"), tmp.path().join("old"));
        std::fs::create_dir(&path).unwrap();
        watch.arm(&path).unwrap();
        std::fs::rename(&path, &old).unwrap();
        assert!(watch.arm(&path).is_err());
        std::fs::create_dir(&path).unwrap();
        watch.arm(&path).unwrap();
        std::fs::write(path.join("new"), "x").unwrap();
        let _ = due(&mut watch).await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_events_there_is_a_relist() {
        let (_tmp, mut watch) = watch();
        let start = Instant::now();
        watch.due().await;
        assert!((RELIST..RELIST * 2).contains(&start.elapsed()));
    }
}
