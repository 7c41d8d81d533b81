//! How a verb fails: an exit status of the contract, and one sentence with the whole chain of causes.

use std::error::Error;
use std::fmt::{self, Write as _};

use pod::stage1::status;

/// A step failed. Knows the exit status that tells which kind of step it was.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Error(Box<dyn Error + Send + Sync>),
    /// The sentence of a failure that happened in another process.
    Told(String),
}

/// An error of one kernel concern, which belongs to one exit status of the contract.
pub trait StepError: Error + Send + Sync + 'static {
    /// The status that `app` exits with when this step fails.
    const STATUS: u8 = status::OTHER;
}

impl<E: StepError> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { status: E::STATUS, cause: Cause::Error(Box::new(error)) }
    }
}

impl StepError for pod::PodError {}
impl StepError for pod::OpenError {}
impl StepError for pod::FileError {}
impl StepError for pod::sandbox::NamespaceError {}
impl StepError for sys::notify::NotifyError {}

impl Failure {
    /// A failure in plain words, with the status for "anything else".
    pub fn other(sentence: impl Into<String>) -> Self {
        Self::told(status::OTHER, sentence.into())
    }

    /// A failure that was told by another process.
    pub fn told(status: u8, sentence: String) -> Self {
        Self { status, cause: Cause::Told(sentence) }
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        self.status
    }
}

impl fmt::Display for Failure {
    /// The sentence: every error of the chain, outermost first, on one line. It may quote what an image chose (a path, a
    /// working directory) and is read on terminals: control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match &self.cause {
            Cause::Told(sentence) => sentence.clone(),
            Cause::Error(error) => chain(error.as_ref()),
        };
        sentence.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

fn chain(error: &dyn Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        sentence.push_str(": ");
        sentence.push_str(&error.to_string());
        source = error.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("mount /proc")]
    struct Mount(#[source] std::io::Error);
    impl StepError for Mount {
        const STATUS: u8 = status::NAMESPACE;
    }

    #[test]
    fn the_sentence_has_the_whole_chain() {
        let failure = Failure::from(Mount(rustix::io::Errno::NOENT.into()));
        assert_eq!(failure.to_string(), "mount /proc: No such file or directory (os error 2)");
        assert_eq!(failure.status(), 226);
    }

    #[test]
    fn an_image_cannot_write_to_the_terminal_of_whoever_reads_the_sentence() {
        let failure = Failure::other("change to /\u{1b}[2J\nREADY=1");
        assert_eq!(failure.to_string(), "change to /\\u{1b}[2J\\nREADY=1");
    }
}
