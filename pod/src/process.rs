//! A process that a record names: its number, and its start time so that a reused number is noticed.

use serde::{Deserialize, Serialize};

/// A process in the PID namespace of whoever wrote the record (the host's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its number.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat` (proc(5)): when it started, in clock ticks since boot.
    #[serde(rename = "pidStart")]
    pub start: u64,
}

impl ProcessRef {
    /// The process that has this number now. `None`: there is none, or it is a zombie.
    pub fn now(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start })
    }

    /// Whether this very process is still there.
    pub fn is_alive(&self) -> bool {
        Self::now(self.pid) == Some(*self)
    }
}

/// State and start time from the text of `/proc/<pid>/stat`. The command, in parentheses, may contain anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_confuse() {
        let stat = "12 (a) R 99 (b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(parse_stat(stat), Some(('S', 4711)));
        assert_eq!(parse_stat("12 (sh"), None);
    }

    #[test]
    fn this_process_is_alive_and_another_with_its_number_is_not() {
        let me = ProcessRef::now(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessRef { start: me.start + 1, ..me }.is_alive());
    }
}
