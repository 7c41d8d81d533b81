//! journald's stream protocol: a socket that serves as stdout or stderr of a program, one record per line.
//!
//! The connection opens with a header of seven lines, the same that systemd sends for the services it starts. journald
//! takes unit, invocation and log fields from the control group of the process that *writes*. One that is gone before
//! journald looks has none, so that the header names the unit as well: journald falls back on that (it takes root's word).

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/stdout";

/// The variable by which a program knows that an output of its is a journal stream: `device:inode`.
pub const ENV_JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Priorities of syslog(3) for the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// `LOG_ERR`
    Error = 3,
    /// `LOG_INFO`
    Info = 6,
}

/// Connects a stream whose lines carry this identifier (`SYSLOG_IDENTIFIER=`) and priority. Lines are taken as they
/// are: a `<n>` at the start of one means nothing. `unit` may be empty.
///
/// # Errors
/// What connect(2) says; `EINVAL` for an identifier or a unit with a newline.
pub fn connect(identifier: &str, unit: &str, priority: Priority) -> rustix::io::Result<OwnedFd> {
    let header = header(identifier, unit, priority).ok_or(rustix::io::Errno::INVAL)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    rustix::net::shutdown(&socket, Shutdown::Read)?;
    // A burst of output must not block the app at once; as large as systemd makes it, as far as the kernel allows.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, 8 << 20);
    // The header is shorter than any socket's buffer: it is taken whole.
    let _ = rustix::net::send(&socket, header.as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(socket)
}

/// Whether descriptor `fd` is the stream that `$JOURNAL_STREAM` names.
pub fn is_stream(fd: impl std::os::fd::AsFd) -> bool {
    let Some(value) = std::env::var_os(ENV_JOURNAL_STREAM) else { return false };
    let Ok(stat) = rustix::fs::fstat(fd) else { return false };
    value.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// `device:inode` of a stream: the value of `$JOURNAL_STREAM` for the program that gets it.
pub fn name(stream: &OwnedFd) -> Option<String> {
    rustix::fs::fstat(stream).ok().map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Identifier, unit, priority, `<n>` prefixes, and forwarding to syslog, kmsg and console.
fn header(identifier: &str, unit: &str, priority: Priority) -> Option<String> {
    let is_line = |text: &str| !text.contains('\n');
    (is_line(identifier) && is_line(unit))
        .then(|| format!("{identifier}\n{unit}\n{}\n0\n0\n0\n0\n", priority as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_seven_lines_whatever_the_identifier() {
        assert_eq!(header("web", "", Priority::Info).unwrap(), "web\n\n6\n0\n0\n0\n0\n");
        assert_eq!(header("web", "a.service", Priority::Error).unwrap(), "web\na.service\n3\n0\n0\n0\n0\n");
        assert_eq!(header("web\nevil", "", Priority::Error), None);
        assert_eq!(header("web", "a\nb", Priority::Error), None);
    }

    #[test]
    fn an_ordinary_file_is_no_stream() {
        assert!(!is_stream(std::fs::File::open("/dev/null").unwrap()));
    }
}
