//! Credential helpers: programs that know secrets, `docker-credential-NAME get`.
//!
//! The program reads the registry's address from its standard input and writes JSON with `Username` and `Secret`; the
//! name `<token>` says that the secret is a refresh token. It has a time limit, with everything that it starts: one that
//! wants to ask somebody would wait for ever in a service.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::Credential;

/// The most that is read from a helper.
const MAX_ANSWER: u64 = 64 << 10;
/// What helpers say, word for word, of a registry that they do not know.
const UNKNOWN: &str = "credentials not found in native keychain";

/// How helpers are run.
#[derive(Clone, Debug)]
pub(super) struct Helpers {
    /// Where they are looked for, if not in the `PATH` of this process.
    pub(super) path: Option<OsString>,
    pub(super) limit: Duration,
}

impl Default for Helpers {
    fn default() -> Self {
        Self { path: None, limit: Duration::from_secs(30) }
    }
}

/// A helper does not help.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name could be a path.
    #[error("this is not the name of a helper")]
    Name,
    /// It is not there, or cannot be executed.
    #[error("cannot run it")]
    Run(#[source] io::Error),
    /// It takes too long.
    #[error("it did not answer within {} seconds", .0.as_secs_f32())]
    Time(Duration),
    /// It fails.
    #[error("it failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said, the beginning of it.
        said: String,
    },
    /// It answers something else. What, is not told: it may be half a secret.
    #[error("it did not answer with credentials")]
    Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helpers {
    /// What a helper knows about a server.
    pub(super) fn get(&self, name: &str, server: &str) -> Result<Option<Credential>, HelperError> {
        let lawful = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(lawful) {
            return Err(HelperError::Name);
        }
        let mut command = Command::new(format!("docker-credential-{name}"));
        let _ = command.arg("get").process_group(0);
        let _ = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(path) = &self.path {
            let _ = command.env("PATH", path);
        }
        let mut child = command.spawn().map_err(HelperError::Run)?;
        let outcome = converse(&mut child, server, Instant::now() + self.limit);
        if outcome.is_none() {
            // It and what it started. What cannot be killed has ended.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
        let (status, output) = outcome.ok_or(HelperError::Time(self.limit))?;
        judge(status, &output)
    }
}

/// How the helper ended, and what it wrote. `None`: it did not end in time.
fn converse(child: &mut Child, server: &str, deadline: Instant) -> Option<(ExitStatus, Vec<u8>)> {
    // One that does not read its input may know the answer all the same.
    let _ = child.stdin.take().map(|mut input| input.write_all(server.as_bytes()));
    let output = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    let _reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.take(MAX_ANSWER).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let output = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some((status, output));
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn judge(status: ExitStatus, output: &[u8]) -> Result<Option<Credential>, HelperError> {
    if !status.success() {
        let said = String::from_utf8_lossy(output);
        if said.trim() == UNKNOWN {
            return Ok(None);
        }
        let said = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        return Err(HelperError::Failed { status, said });
    }
    let Answer { username, secret } = serde_json::from_slice(output).map_err(|_| HelperError::Answer)?;
    Ok(Some(match username.as_str() {
        "<token>" => Credential::RefreshToken(secret),
        _ => Credential::Password { user: username, password: secret },
    }))
}
