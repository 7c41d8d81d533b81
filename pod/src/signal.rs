//! Names of signals, signal(7), as systemd and Kubernetes write them: without `SIG`; real-time ones as `RTMIN+n`.

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first real-time signal that glibc leaves to programs.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// A signal's number, by its name (`TERM`, `SIGTERM`, `RTMIN+3`) or number.
pub fn number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<u8>().ok()? };
        return offset.checked_add(RTMIN).filter(|n| *n <= RTMAX);
    }
    NAMES.iter().position(|n| *n == name).and_then(|i| u8::try_from(i + 1).ok())
}

/// A signal's name.
pub fn name(number: u8) -> String {
    match NAMES.get(usize::from(number).wrapping_sub(1)) {
        Some(name) => (*name).to_owned(),
        None => format!("RTMIN+{}", number.saturating_sub(RTMIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, n) in [("TERM", 15), ("SIGTERM", 15), ("15", 15), ("HUP", 1), ("SYS", 31), ("RTMIN+3", 37)]
        {
            assert_eq!(number(text), Some(n), "{text}");
        }
        for bad in ["", "0", "65", "255", "NOPE", "RTMIN+99", "SIG"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!((name(9), name(37)), ("KILL".to_owned(), "RTMIN+3".to_owned()));
    }
}
