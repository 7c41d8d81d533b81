//! An error with its causes, on one line.

use std::error::Error;
use std::fmt::Write;

/// `what was being done: why: why that`, without control characters.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read the file")]
    struct Outer(#[from] std::io::Error);

    #[test]
    fn causes_are_there_and_lines_are_not() {
        let error = Outer(std::io::Error::other("a\nb\u{1b}[1m"));
        assert_eq!(chain(&error), "read the file: a b [1m");
    }
}
