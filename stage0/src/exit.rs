//! How a command ends: the one place that decides exit statuses and how errors look. `docs/exit-codes.md`.
//!
//! As rkt 1.30: a message is prefixed with the command's name; without `--debug` an error is one line, our own sentence
//! and the innermost cause; with it, a tree of all of them. Where the innermost cause does not say what it is about, the
//! one before it does.

use std::fmt::Write as _;
use std::io::Write as _;

/// Everything went well.
pub(crate) const SUCCESS: u8 = 0;
/// Nothing was asked for.
pub(crate) const NO_COMMAND: u8 = 2;
/// Practically every failure.
pub(crate) const FAILURE: u8 = 254;

/// A failure that has a status of its own: rkt's scripts tell a missing `--uuid-file` by it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Special {
    /// The exit status.
    pub(crate) status: u8,
    /// What was being done.
    pub(crate) message: String,
    /// Why it failed.
    pub(crate) source: Option<std::io::Error>,
}

/// Where a command's messages for people go: standard error, prefixed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    /// The command's name.
    pub(crate) prefix: &'static str,
    /// Whether `--debug` was given.
    pub(crate) debug: bool,
}

impl Log {
    /// Says something.
    pub(crate) fn say(self, message: impl std::fmt::Display) {
        // In one piece: others may write to the same place. Nobody can be told that standard error is closed.
        let line = format!("{}: {message}\n", self.prefix);
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// Says something that only matters to those who asked for details.
    pub(crate) fn debug(self, message: impl std::fmt::Display) {
        if self.debug {
            self.say(message);
        }
    }

    /// Reports an error.
    pub(crate) fn error(self, error: &anyhow::Error) {
        self.say(render(error, self.debug));
    }
}

/// Prints a line about work that is done. That nobody reads it, or that there is no room for it where it goes, must not
/// keep a command from the rest of its work: `rkt gc` may be what makes room.
pub(crate) fn report(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The exit status that an error asks for.
pub(crate) fn status(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|e| e.downcast_ref::<Special>()).map_or(FAILURE, |special| special.status)
}

/// An error as text, without the prefix.
pub(crate) fn render(error: &anyhow::Error, debug: bool) -> String {
    sentence(error.as_ref(), debug)
}

/// The same, of an error that is still needed.
pub(crate) fn sentence(error: &(dyn std::error::Error + 'static), debug: bool) -> String {
    let chain = || std::iter::successors(Some(error), |e| e.source());
    let mut causes: Vec<String> = chain().map(|e| harmless(&e.to_string())).collect();
    // A `#[error(transparent)]` or `?` may repeat a sentence; people need it once.
    causes.dedup();
    let mut text = String::new();
    let mut levels = causes.into_iter().enumerate();
    if let Some((_, own)) = levels.next() {
        text.push_str(&own);
    }
    if debug {
        for (level, cause) in levels {
            let _ = write!(text, "\n{}└─{cause}", "  ".repeat(level));
        }
        return text;
    }
    let innermost = levels.next_back();
    // "No such file or directory" and "expected value at line 1" are about something that the cause before them names.
    let about = levels.next_back().filter(|_| chain().last().is_some_and(says_not_of_what));
    for (_, cause) in about.into_iter().chain(innermost) {
        let _ = write!(text, ": {cause}");
    }
    text
}

/// Text from outside (a registry's answer, a file's name) must neither move a terminal's cursor nor begin lines of its own
/// in a journal.
pub(crate) fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Marks that change the direction of what follows make text say something else than it does.
            _ if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                clean.extend(c.escape_default());
            }
            _ => clean.push(c),
        }
    }
    clean
}

fn says_not_of_what(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>() || cause.is::<serde_json::Error>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    fn error() -> anyhow::Error {
        Err::<(), _>(anyhow!("no such file"))
            .context("open the store")
            .context("find image \"x\"")
            .unwrap_err()
    }

    #[test]
    fn innermost_cause_or_tree() {
        assert_eq!(render(&error(), false), "find image \"x\": no such file");
        assert_eq!(render(&error(), true), "find image \"x\"\n  └─open the store\n    └─no such file");
        assert_eq!(render(&anyhow!("alone"), false), "alone");
    }

    #[test]
    fn what_the_kernel_says_is_about_something() {
        let error = |depth: usize| {
            let cause = anyhow::Error::new(std::io::Error::from_raw_os_error(13));
            ["read /a/b", "find the layer", "find image \"x\""]
                .into_iter()
                .take(depth)
                .fold(cause, anyhow::Error::context)
        };
        let denied = "Permission denied (os error 13)";
        assert_eq!(render(&error(0), false), denied);
        assert_eq!(render(&error(1), false), format!("read /a/b: {denied}"));
        assert_eq!(render(&error(2), false), format!("find the layer: read /a/b: {denied}"));
        assert_eq!(render(&error(3), false), format!("find image \"x\": read /a/b: {denied}"));
    }

    #[test]
    fn what_others_say_stays_on_its_line() {
        let error = anyhow!("404: gone\nfetch: all is well\u{1b}[2J\u{202e}dab").context("ask the registry");
        assert_eq!(
            render(&error, false),
            r"ask the registry: 404: gone\nfetch: all is well\u{1b}[2J\u{202e}dab"
        );
        assert_eq!(render(&anyhow!("\"ä\" is not there"), false), "\"ä\" is not there");
    }

    #[test]
    fn statuses() {
        assert_eq!(status(&error()), 254);
        let special = Special { status: 1, message: "read the file".to_owned(), source: None };
        assert_eq!(status(&anyhow::Error::new(special).context("stop")), 1);
    }
}
