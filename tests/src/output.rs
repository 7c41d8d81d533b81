//! What became of a command.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With this exit status.
    Exited(i32),
    /// Killed by this signal.
    Signaled(i32),
    /// It runs still, or its end is not known.
    Unknown,
}

/// A finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// What ran.
    pub argv: Vec<String>,
    /// How it ended.
    pub status: Status,
    /// Its stdout; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Its stderr, likewise.
    pub stderr: String,
    /// Its stdout as it was.
    pub bytes: Vec<u8>,
    /// How long it took, seen from outside the node.
    pub took: Duration,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == Status::Exited(0)
    }

    /// The exit status; `None` when a signal killed it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self.status {
            Status::Exited(code) => Some(code),
            Status::Signaled(_) | Status::Unknown => None,
        }
    }

    /// The output of a command that succeeded.
    ///
    /// # Errors
    ///
    /// When it did not; the error shows all of it.
    pub fn checked(self) -> Result<Self> {
        if self.success() { Ok(self) } else { bail!("a command failed: {self}") }
    }

    /// Asserts that it succeeded, and returns its stdout without the blanks around it.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.success(), "should have succeeded: {self}");
        self.stdout.trim()
    }

    /// Asserts that it ended with `code`, and returns its stderr without the blanks around it.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn fails_with(&self, code: i32) -> &str {
        assert!(self.status == Status::Exited(code), "should have ended with {code}: {self}");
        self.stderr.trim()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argv = self.argv.iter().map(|a| quoted(a)).collect::<Vec<_>>().join(" ");
        writeln!(f, "$ {argv}\n# {:?} after {:.3} s", self.status, self.took.as_secs_f64())?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            text.lines().try_for_each(|line| writeln!(f, "{name}| {line}"))?;
        }
        Ok(())
    }
}

/// An argument as a shell would have to see it, so that transcripts can be pasted.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_a_shell_needs_them() {
        for (argument, expected) in
            [("plain-1.0", "plain-1.0"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quoted(argument), expected);
        }
    }
}
