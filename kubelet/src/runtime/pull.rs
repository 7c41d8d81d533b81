//! A pull that is watched: `rkt fetch --progress=json`, its steps read as they happen.
//!
//! What it says becomes a line in the log now and then, and one about the end. A pull of which nothing comes any more is
//! given up: the process is killed, which is what rkt is made for. Time does not run while the pull waits for another
//! process that fetches the same layer, nor while what has come is being made durable: neither is the network's fault.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use pod::fetch_event::{FetchEvent, FetchStep, LayerState};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::Instant;

use super::rkt::{RktError, failure};

/// How often the log hears of a pull that goes on.
const REPORT: Duration = Duration::from_secs(10);
/// A pull through a slow line, in which bytes keep coming.
const LONGEST: Duration = Duration::from_secs(3600);
/// More than an id and its line end.
const OUTPUT: u64 = 4096;

/// What a pull has said so far.
#[derive(Debug)]
struct Pull {
    layers: BTreeMap<String, Layer>,
    /// When something last came.
    heard: Instant,
    /// What it says is wrong, for people.
    words: Option<String>,
    /// The same, without the name of the command before it.
    error: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    state: LayerState,
    received: u64,
    size: u64,
}

/// Runs `command`, a fetch of `image`, and returns what it printed. Dropped half-way, it is killed.
pub(super) async fn run(mut command: Command, image: &str, deadline: Duration) -> Result<String, RktError> {
    let spawned =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = spawned.map_err(|source| RktError::Spawn { command: "fetch", source })?;
    let lost = |source| RktError::Spawn { command: "fetch", source };
    let nothing = || lost(std::io::ErrorKind::BrokenPipe.into());
    let mut lines = BufReader::new(child.stderr.take().ok_or_else(nothing)?).lines();
    let stdout = child.stdout.take().ok_or_else(nothing)?;
    let begun = Instant::now();
    let mut pull = Pull { layers: BTreeMap::new(), heard: begun, words: None, error: None };
    let mut report = tokio::time::interval_at(begun + REPORT, REPORT);
    loop {
        let due = pull.gives_up(deadline).unwrap_or(begun + LONGEST).min(begun + LONGEST);
        // `next_line` keeps what it has read of a line when another arm comes first.
        tokio::select! {
            line = lines.next_line() => match line.map_err(lost)? {
                Some(line) => pull.hear(&line),
                None => break,
            },
            _ = report.tick() => pull.report(image),
            () = tokio::time::sleep_until(due) => {
                let seconds = due.duration_since(pull.heard).as_secs();
                // Waited for, so that its locks are free before anybody tries again.
                let _ = child.kill().await;
                return Err(RktError::Stalled { seconds, received: pull.received(), size: pull.size() });
            }
        }
    }
    let mut output = String::new();
    let _ = stdout.take(OUTPUT).read_to_string(&mut output).await.map_err(lost)?;
    let status = child.wait().await.map_err(lost)?;
    if !status.success() {
        let words = pull.error.or(pull.words).unwrap_or_else(|| failure("fetch", status));
        return Err(RktError::Failed { words });
    }
    if pull.received() > 0 {
        let (bytes, seconds) = (pull.received(), begun.elapsed().as_secs());
        tracing::info!(image, bytes, seconds, id = output.trim(), "pulled");
    }
    Ok(output)
}

impl Pull {
    fn hear(&mut self, line: &str) {
        let Some(event) = FetchEvent::parse(line) else {
            let line = line.trim();
            if !line.is_empty() {
                self.words = Some(line.chars().take(1000).collect());
            }
            return;
        };
        match event.step {
            FetchStep::Layer { layer, state, received, size } => {
                // To try again is not to get anywhere.
                if state != LayerState::Retrying {
                    self.heard = Instant::now();
                }
                let _ = self.layers.insert(layer, Layer { state, received, size });
            }
            FetchStep::Error { message } => self.error = Some(message.chars().take(1000).collect()),
            FetchStep::Resolving | FetchStep::Done { .. } | FetchStep::Other => self.heard = Instant::now(),
        }
    }

    /// When it is to be given up unless something comes. `None`: nothing has to come.
    fn gives_up(&self, deadline: Duration) -> Option<Instant> {
        use LayerState::{Other, Receiving, Retrying, Started};
        let comes = |layer: &Layer| matches!(layer.state, Started | Receiving | Retrying | Other);
        let awaited = self.layers.is_empty() || self.layers.values().any(comes);
        (awaited || self.is_between()).then(|| self.heard + deadline)
    }

    /// All layers so far are there: more of them may have to be asked for.
    fn is_between(&self) -> bool {
        let is_there = |layer: &Layer| matches!(layer.state, LayerState::Present | LayerState::Done);
        self.layers.values().all(is_there)
    }

    fn received(&self) -> u64 {
        self.layers.values().map(|layer| layer.received).fold(0, u64::saturating_add)
    }

    fn size(&self) -> u64 {
        self.layers.values().map(|layer| layer.size).fold(0, u64::saturating_add)
    }

    fn report(&self, image: &str) {
        let waiting = self.layers.values().filter(|l| l.state == LayerState::Waiting).count();
        let (bytes, of, layers) = (self.received(), self.size(), self.layers.len());
        tracing::info!(image, bytes, of, layers, waiting, "pulling");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let _ = command.args(["-c", text]);
        command
    }

    fn layer(state: &str, received: u64) -> String {
        format!(
            r#"{{"v":1,"image":"a","event":"layer","layer":"x","state":"{state}","received":{received},"size":9}}"#
        )
    }

    const AGES: Duration = Duration::from_secs(60);
    const NOTHING: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn the_error_of_the_steps_is_the_sentence() {
        let error = r#"{"v":1,"image":"a","event":"error","message":"no such image"}"#;
        let fails = format!("echo '{error}' >&2; echo 'fetch: no such image' >&2; exit 254");
        let said = run(script(&fails), "a", AGES).await.unwrap_err();
        assert_eq!(said.to_string(), "no such image");
        let said = run(script("echo 'fetch: --what is no flag' >&2; exit 254"), "a", AGES).await.unwrap_err();
        assert_eq!(said.to_string(), "fetch: --what is no flag");
        let said = run(script("exit 3"), "a", AGES).await.unwrap_err();
        assert_eq!(said.to_string(), "rkt fetch ended with exit status: 3 and without a word");
        assert_eq!(run(script("echo sha256-00"), "a", AGES).await.unwrap(), "sha256-00\n");
    }

    #[tokio::test]
    async fn a_pull_of_which_nothing_comes_is_killed() {
        for state in ["started", "receiving", "retrying"] {
            let line = layer(state, 4);
            // It would never end by itself.
            let stalls = format!("echo '{line}' >&2; exec sleep infinity");
            let error = run(script(&stalls), "a", NOTHING).await.unwrap_err();
            assert!(matches!(error, RktError::Stalled { received: 4, size: 9, .. }), "{state}: {error}");
        }
        let silent = run(script("exec sleep infinity"), "a", NOTHING).await.unwrap_err();
        assert!(matches!(silent, RktError::Stalled { .. }), "{silent}");
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_only_while_bytes_have_to_come() {
        let now = Instant::now();
        let mut pull = Pull { layers: BTreeMap::new(), heard: now, words: None, error: None };
        assert!(pull.gives_up(AGES).is_some(), "the registry has to answer");
        let table = [
            ("started", true),
            ("receiving", true),
            ("waiting", false),
            ("unpacked", false),
            ("done", true),
            ("present", true),
            ("something new", true),
        ];
        for (state, runs) in table {
            tokio::time::advance(Duration::from_secs(1)).await;
            pull.hear(&layer(state, 1));
            let due = pull.gives_up(AGES);
            assert_eq!(due, runs.then(|| Instant::now() + AGES), "{state}");
        }
        pull.hear(&layer("receiving", 1));
        let before = pull.gives_up(AGES);
        tokio::time::advance(Duration::from_secs(1)).await;
        pull.hear(&layer("retrying", 1));
        assert_eq!(pull.gives_up(AGES), before, "an attempt is not progress");
    }
}
