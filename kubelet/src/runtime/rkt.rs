//! The `rkt` commands that the kubelet runs: `fetch`, `image cat-manifest`, `image gc`, `prepare`, `rm`.
//!
//! A command is a child process with arguments of our own making, no shell, an empty standard input. When the future of
//! a command is dropped, the process is killed: `rkt` is made for that (what it leaves is found by the next command).

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pod::PodId;
use pod::manifest::ImageManifest;
use tokio::process::Command;

use super::pull;
use crate::image::PullPolicy;

/// Where `rkt` is and what it is always told.
#[derive(Debug, Clone)]
pub(crate) struct Rkt {
    path: PathBuf,
    data: PathBuf,
    pulls: Pulls,
}

/// How images are pulled.
#[derive(Debug, Clone)]
pub(crate) struct Pulls {
    /// A pull of which nothing has come for this long is given up.
    pub(crate) deadline: Duration,
    /// A directory that may have the node's own `config.json`, with names and passwords for registries.
    pub(crate) credentials: PathBuf,
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RktError {
    /// It could not be run.
    #[error("run rkt {command}")]
    Spawn {
        /// The command's name.
        command: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It said no. Its last words are the message.
    #[error("{words}")]
    Failed {
        /// What it said on standard error.
        words: String,
    },
    /// It did not come to an end.
    #[error("rkt {command} has not ended after {seconds} s")]
    Timeout {
        /// The command's name.
        command: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// A pull was given up.
    #[error("nothing has come for {seconds} s, after {received} of {size} bytes: the pull was given up")]
    Stalled {
        /// For how long nothing came.
        seconds: u64,
        /// Bytes that had come.
        received: u64,
        /// Bytes that were expected, as far as that was known.
        size: u64,
    },
    /// What it printed is not what it should print.
    #[error("rkt {command} printed {output:?}")]
    Output {
        /// The command's name.
        command: &'static str,
        /// The beginning of its output.
        output: String,
    },
}

/// Commands that only touch the disk.
const SHORT: Duration = Duration::from_secs(120);
/// Garbage collection of images: it has trees to delete.
const LONG: Duration = Duration::from_secs(1800);

impl Rkt {
    /// The executable at `path`, which is absolute, with this data directory.
    pub(crate) fn new(path: &Path, data: &Path, pulls: Pulls) -> Self {
        Self { path: path.to_owned(), data: data.to_owned(), pulls }
    }

    /// The executable.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gets an image, and returns its id.
    pub(crate) async fn fetch(&self, image: &str, policy: PullPolicy) -> Result<String, RktError> {
        let policy = format!("--pull-policy={}", policy.as_rkt());
        // Only registries: a manifest must not name files of the host.
        let name = format!("docker://{image}");
        let mut command = self.command(&["fetch", "--full", "--progress=json", &policy, &name]);
        // As the Go kubelet: the node's own credentials are beside its state. Without them, root's are used.
        let credentials = self.pulls.credentials.join("config.json");
        if credentials.exists() {
            let _ = command.env("REGISTRY_AUTH_FILE", credentials);
        }
        let output = pull::run(command, image, self.pulls.deadline).await?;
        let id = output.lines().last().unwrap_or_default().trim();
        let is_id = id.split_once('-').is_some_and(|(_, hex)| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_id { Ok(id.to_owned()) } else { Err(unexpected("fetch", &output)) }
    }

    /// What an image of the store says about itself.
    pub(crate) async fn image_manifest(&self, id: &str) -> Result<ImageManifest, RktError> {
        let output = self.run("image cat-manifest", &["image", "cat-manifest", id], SHORT).await?;
        serde_json::from_str(&output).map_err(|_| unexpected("image cat-manifest", &output))
    }

    /// Collects images; `arguments` say which. Returns the lines about what is gone.
    pub(crate) async fn image_gc(&self, arguments: &[String]) -> Result<String, RktError> {
        let words: Vec<&str> =
            ["image", "gc"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        self.run("image gc", &words, LONG).await
    }

    /// Makes a pod of the manifest in `file`; `flags` are more of the command's own.
    pub(crate) async fn prepare(&self, file: &Path, flags: &[String]) -> Result<PodId, RktError> {
        let file = format!("--pod-manifest={}", file.display());
        let mut arguments = vec!["prepare", "--quiet", &file];
        arguments.extend(flags.iter().map(String::as_str));
        let output = self.run("prepare", &arguments, SHORT).await?;
        output.trim().parse().map_err(|_| unexpected("prepare", &output))
    }

    /// Deletes a pod that does not run.
    pub(crate) async fn rm(&self, id: PodId) -> Result<(), RktError> {
        self.run("rm", &["rm", &id.to_string()], SHORT).await.map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        let _ = command.arg(format!("--dir={}", self.data.display())).args(arguments);
        command
    }

    async fn run(
        &self,
        command: &'static str,
        arguments: &[&str],
        patience: Duration,
    ) -> Result<String, RktError> {
        let mut child = self.command(arguments);
        let _ = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(patience, child.output()).await;
        let output = output.map_err(|_| RktError::Timeout { command, seconds: patience.as_secs() })?;
        let output = output.map_err(|source| RktError::Spawn { command, source })?;
        if !output.status.success() {
            return Err(RktError::Failed { words: last_words(command, output.status, &output.stderr) });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn unexpected(command: &'static str, output: &str) -> RktError {
    RktError::Output { command, output: output.chars().take(200).collect() }
}

/// The last line of what it said; its status when it said nothing.
fn last_words(command: &str, status: ExitStatus, stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    match text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => line.chars().take(1000).collect(),
        None => failure(command, status),
    }
}

/// What is to be said about a command that said nothing.
pub(super) fn failure(command: &str, status: ExitStatus) -> String {
    format!("rkt {command} ended with {status} and without a word")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn last_words_are_the_error() {
        let status = ExitStatus::from_raw(254 << 8);
        assert_eq!(
            last_words("fetch", status, b"resolving\nfetch: no such image\n\n"),
            "fetch: no such image"
        );
        assert_eq!(last_words("rm", status, b""), "rkt rm ended with exit status: 254 and without a word");
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_or_talks_nonsense() {
        let data = Path::new("/nonexistent");
        let pulls = Pulls { deadline: SHORT, credentials: data.to_owned() };
        let absent = Rkt::new(Path::new("/nonexistent/rkt"), data, pulls.clone());
        assert!(matches!(absent.rm(PodId::random()).await, Err(RktError::Spawn { command: "rm", .. })));
        let echo = Rkt::new(Path::new("/bin/echo"), data, pulls.clone());
        assert!(matches!(echo.prepare(Path::new("/m"), &[]).await, Err(RktError::Output { .. })));
        let no = Rkt::new(Path::new("/bin/false"), data, pulls);
        assert!(matches!(no.fetch("busybox", PullPolicy::Always).await, Err(RktError::Failed { .. })));
    }
}
