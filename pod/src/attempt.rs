//! Attempts: one record for each start of an app.
//!
//! An attempt is a directory, `apps/<app>/attempts/<n>/`; making it takes the number. What is known about it are files in
//! it, each written once, by rename: `started`, then `ended`, or `error` when the app never got to run. The number of
//! the newest attempt says how often the app was started, however many records have been pruned.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::Spec;
use rustix::fs::Mode;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::bundle::ImageRef;
use crate::{AppName, FileError, ProcessRef, file, remove, signal};

/// How many attempts' records are kept.
pub const KEPT: usize = 16;

const PRIVATE: Mode = Mode::from_raw_mode(0o640);

/// One app of a pod, opened.
#[derive(Debug)]
pub struct AppDir {
    name: AppName,
    fd: OwnedFd,
}

/// An attempt that is being made: its directory, to put the writable layer and the records in.
#[derive(Debug)]
pub struct AttemptDir {
    number: u32,
    fd: OwnedFd,
}

/// What is known of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// That it started. `None`: it was killed before, or has failed.
    pub started: Option<Started>,
    /// Why the app never got to run.
    pub error: Option<String>,
    /// How it ended. `None`: it runs, or nobody was there to see its end.
    pub ended: Option<Ended>,
}

/// `started`: the app's first process exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// When, by the wall clock.
    #[serde(rename = "startedAt")]
    pub at: jiff::Timestamp,
    /// The app's PID 1, seen from the host.
    #[serde(flatten)]
    pub process: ProcessRef,
    /// systemd's invocation ID: the key of its lines in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "invocationId")]
    pub invocation_id: Option<String>,
}

/// `ended`: the attempt is over. The words are systemd's, see systemd.exec(5) on `$EXIT_CODE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, by the wall clock.
    #[serde(rename = "endedAt")]
    pub at: jiff::Timestamp,
    /// How.
    #[serde(flatten)]
    pub exit: Exit,
    /// `success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, ….
    pub result: String,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", content = "status", rename_all = "lowercase")]
pub enum Exit {
    /// It exited with this status.
    Exited(u8),
    /// This signal killed it; the name without `SIG`.
    Killed(String),
    /// This signal killed it, with a core dump.
    Dumped(String),
    /// It is not known: the app's process was gone when somebody looked.
    Unknown,
}

/// What an app is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppState {
    /// It has not been started.
    Created,
    /// Its process runs.
    Running,
    /// Its newest attempt is over.
    Exited,
}

impl Exit {
    /// The status as a shell would show it: 128 + n for signal n. `None` when it is not known.
    pub fn code(&self) -> Option<u8> {
        match self {
            Exit::Exited(status) => Some(*status),
            Exit::Killed(name) | Exit::Dumped(name) => signal::number(name).map(|n| n.saturating_add(128)),
            Exit::Unknown => None,
        }
    }
}

impl Attempt {
    /// Whether the attempt's process runs.
    pub fn is_running(&self) -> bool {
        let process = self.started.as_ref().map(|s| s.process);
        self.ended.is_none() && self.error.is_none() && process.is_some_and(|p| p.is_alive())
    }

    /// What the app is doing, this being its newest attempt.
    pub fn state(&self) -> AppState {
        if self.is_running() { AppState::Running } else { AppState::Exited }
    }
}

impl AppDir {
    pub(crate) fn open(pod: impl AsFd, name: &AppName) -> Result<Self, FileError> {
        let fd = file::open_dir(pod, &format!("apps/{name}"))?;
        Ok(Self { name: name.clone(), fd })
    }

    /// The app's name.
    pub fn name(&self) -> &AppName {
        &self.name
    }

    /// The descriptor of `apps/<app>/`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// `config.json`.
    pub fn config(&self) -> Result<Spec, FileError> {
        file::read_json(&self.fd, "config.json")
    }

    /// `image.json`.
    pub fn image(&self) -> Result<ImageRef, FileError> {
        file::read_json(&self.fd, "image.json")
    }

    /// The attempts whose records are there, oldest first.
    pub fn attempts(&self) -> Result<Vec<Attempt>, FileError> {
        self.numbers()?.into_iter().map(|n| self.attempt(n)).filter_map(Result::transpose).collect()
    }

    /// The newest attempt. `None`: the app has never been started.
    pub fn newest(&self) -> Result<Option<Attempt>, FileError> {
        // A record can be pruned between the listing and the reading, but never the newest.
        self.numbers()?.last().map_or(Ok(None), |n| self.attempt(*n))
    }

    /// Takes the next number and makes the attempt's directory. Older attempts lose their writable layers, the oldest
    /// their records. Only stage1 `app` and, when that was killed before, a launcher calls this.
    pub fn begin(&self) -> Result<AttemptDir, FileError> {
        file::make_dir(&self.fd, "attempts", Mode::from_raw_mode(0o755))?;
        let attempts = file::open_dir(&self.fd, "attempts")?;
        let older = self.numbers()?;
        let mut number = older.last().map_or(1, |n| n + 1);
        loop {
            match rustix::fs::mkdirat(&attempts, number.to_string(), Mode::from_raw_mode(0o755)) {
                Ok(()) => break,
                Err(Errno::EXIST) => number += 1,
                Err(e) => return Err(FileError::io("make", &format!("attempts/{number}"), e)),
            }
        }
        prune(&attempts, &older)?;
        let fd = file::open_dir(&attempts, &number.to_string())?;
        Ok(AttemptDir { number, fd })
    }

    /// Writes how the newest attempt ended, unless that is known already. Only a launcher calls this.
    ///
    /// `invocation`: the attempt must be of this systemd invocation; when stage1 `app` was killed before it could make
    /// one, the attempt is made here, so that it counts.
    pub fn end(&self, ended: &Ended, invocation: Option<&str>) -> Result<(), FileError> {
        let attempt = match self.newest()? {
            Some(a) if a.ended.is_none() && is_of(&a, invocation) => self.open_attempt(a.number)?,
            Some(a) if a.ended.is_some() && is_of(&a, invocation) && invocation.is_some() => return Ok(()),
            _ => self.begin()?,
        };
        file::write_json(&attempt.fd, "ended", ended, PRIVATE)
    }

    fn open_attempt(&self, number: u32) -> Result<AttemptDir, FileError> {
        Ok(AttemptDir { number, fd: file::open_dir(&self.fd, &format!("attempts/{number}"))? })
    }

    fn attempt(&self, number: u32) -> Result<Option<Attempt>, FileError> {
        let dir = match self.open_attempt(number) {
            Ok(dir) => dir,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        };
        let error = match file::read(&dir.fd, "error") {
            Ok(text) => Some(String::from_utf8_lossy(&text).trim_end().to_owned()),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        Ok(Some(Attempt {
            number,
            started: file::read_json_if_there(&dir.fd, "started")?,
            error,
            ended: file::read_json_if_there(&dir.fd, "ended")?,
        }))
    }

    fn numbers(&self) -> Result<Vec<u32>, FileError> {
        let io = |e: Errno| FileError::io("list", "attempts", e);
        let dir = match file::open_dir(&self.fd, "attempts") {
            Ok(dir) => dir,
            Err(e) if e.is_not_found() => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut numbers = Vec::new();
        for entry in rustix::fs::Dir::new(dir).map_err(io)? {
            numbers.extend(entry.map_err(io)?.file_name().to_str().ok().and_then(|n| n.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl AttemptDir {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The descriptor of the attempt's directory, for `upper/` and `work/`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes `started`.
    pub fn write_started(&self, started: &Started) -> Result<(), FileError> {
        file::write_json(&self.fd, "started", started, PRIVATE)
    }

    /// Writes `error`: one line, why the app never got to run.
    pub fn write_error(&self, sentence: &str) -> Result<(), FileError> {
        let line = sentence.replace(['\n', '\r'], " ") + "\n";
        file::write(&self.fd, "error", line.as_bytes(), PRIVATE)
    }
}

/// An attempt that wrote no `started` does not say whose it is; being the newest and open, it is the one that ended.
fn is_of(attempt: &Attempt, invocation: Option<&str>) -> bool {
    match (&attempt.started, invocation) {
        (Some(started), Some(invocation)) => started.invocation_id.as_deref() == Some(invocation),
        (Some(_) | None, _) => attempt.ended.is_none(),
    }
}

fn prune(attempts: &OwnedFd, older: &[u32]) -> Result<(), FileError> {
    let pruned = older.len().saturating_sub(KEPT - 1);
    for (i, number) in older.iter().enumerate() {
        let io = |e| FileError::io("remove", &format!("attempts/{number}"), e);
        if i < pruned {
            remove::remove_tree(attempts, &number.to_string()).map_err(io)?;
        } else if let Ok(dir) = file::open_dir(attempts, &number.to_string()) {
            remove::remove_tree(&dir, "upper")
                .and_then(|()| remove::remove_tree(&dir, "work"))
                .map_err(io)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> (tempfile::TempDir, AppDir) {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("apps/web")).unwrap();
        let pod = std::fs::File::open(tmp.path()).unwrap();
        let app = AppDir::open(&pod, &"web".parse().unwrap()).unwrap();
        (tmp, app)
    }

    fn started(invocation: &str) -> Started {
        let process = ProcessRef::now(std::process::id()).unwrap();
        Started { at: jiff::Timestamp::UNIX_EPOCH, process, invocation_id: Some(invocation.to_owned()) }
    }

    fn ended(exit: Exit) -> Ended {
        Ended { at: jiff::Timestamp::UNIX_EPOCH, exit, result: "success".to_owned() }
    }

    #[test]
    fn from_nothing_to_the_end() {
        let (_tmp, app) = app();
        assert_eq!(app.newest().unwrap(), None);
        let attempt = app.begin().unwrap();
        assert_eq!(attempt.number(), 1);
        attempt.write_started(&started("a")).unwrap();
        assert_eq!(app.newest().unwrap().unwrap().state(), AppState::Running);
        app.end(&ended(Exit::Exited(3)), Some("a")).unwrap();
        let newest = app.newest().unwrap().unwrap();
        assert_eq!((newest.state(), newest.number), (AppState::Exited, 1));
        assert_eq!(newest.ended.unwrap().exit.code(), Some(3));
    }

    #[test]
    fn an_attempt_that_was_killed_before_it_could_be_made_counts() {
        let (_tmp, app) = app();
        app.begin().unwrap().write_started(&started("a")).unwrap();
        app.end(&ended(Exit::Exited(0)), Some("a")).unwrap();
        app.end(&ended(Exit::Killed("KILL".to_owned())), Some("b")).unwrap();
        let attempts = app.attempts().unwrap();
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[1].ended.as_ref().unwrap().exit.code(), Some(137));
    }

    #[test]
    fn an_end_is_written_once() {
        let (_tmp, app) = app();
        app.begin().unwrap().write_started(&started("a")).unwrap();
        app.end(&ended(Exit::Exited(1)), Some("a")).unwrap();
        app.end(&ended(Exit::Exited(2)), Some("a")).unwrap();
        assert_eq!(app.attempts().unwrap().len(), 1);
        assert_eq!(app.newest().unwrap().unwrap().ended.unwrap().exit, Exit::Exited(1));
    }

    #[test]
    fn old_records_are_pruned_and_numbers_go_on() {
        let (tmp, app) = app();
        for _ in 0..40 {
            let attempt = app.begin().unwrap();
            rustix::fs::mkdirat(attempt.fd(), "upper", Mode::RWXU).unwrap();
        }
        let numbers: Vec<u32> = app.attempts().unwrap().iter().map(|a| a.number).collect();
        assert_eq!(numbers, (25..=40).collect::<Vec<_>>());
        assert!(!tmp.path().join("apps/web/attempts/39/upper").exists());
        assert!(tmp.path().join("apps/web/attempts/40/upper").exists());
    }

    #[test]
    fn the_records_read_as_the_contract_says() {
        let json = serde_json::to_value(ended(Exit::Killed("TERM".to_owned()))).unwrap();
        let expected = serde_json::json!({"endedAt": "1970-01-01T00:00:00Z", "code": "killed", "status": "TERM", "result": "success"});
        assert_eq!(json, expected);
    }
}
