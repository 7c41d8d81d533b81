//! One notification: its lines, its descriptors, and who sent it.

use std::os::fd::OwnedFd;

/// A message as it arrived. Dropping it closes its descriptors, which is what a sender of `BARRIER=1` waits for.
#[derive(Debug)]
pub struct Message {
    /// The sender's process, in the PID namespace of the receiver.
    pub sender: u32,
    /// The sender's effective user.
    pub uid: u32,
    /// The descriptors, in the order in which they were sent.
    pub fds: Vec<OwnedFd>,
    text: String,
}

impl Message {
    pub(super) fn new(sender: u32, uid: u32, fds: Vec<OwnedFd>, text: String) -> Self {
        Self { sender, uid, fds, text }
    }

    /// The last value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.assignments().filter(|(k, _)| *k == key).last().map(|(_, value)| value)
    }

    /// Every `KEY=value`, in order. Lines without `=` are ignored.
    pub fn assignments(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once('='))
    }

    /// `READY=1`: what was started has finished starting.
    pub fn is_ready(&self) -> bool {
        self.get("READY") == Some("1")
    }

    /// `MAINPID=`: the process that is the service from now on.
    pub fn main_pid(&self) -> Option<u32> {
        self.get("MAINPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0)
    }

    /// `FDSTORE=1` with `FDNAME=`: the name under which the descriptors are to be kept. Without a name it is `stored`,
    /// as in systemd.
    pub fn fd_name(&self) -> Option<&str> {
        (self.get("FDSTORE") == Some("1")).then(|| self.get("FDNAME").unwrap_or("stored"))
    }

    /// `BARRIER=1`: the sender waits until its descriptor is closed here.
    pub fn is_barrier(&self) -> bool {
        self.get("BARRIER") == Some("1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::new(1, 0, Vec::new(), text.to_owned())
    }

    #[test]
    fn the_lines_of_a_message() {
        let m = message("STATUS=a=b\nnonsense\nREADY=1\nMAINPID=12\n");
        assert_eq!(m.get("STATUS"), Some("a=b"));
        assert!(m.is_ready());
        assert_eq!((m.main_pid(), m.fd_name(), m.is_barrier()), (Some(12), None, false));
    }

    #[test]
    fn a_main_process_is_a_positive_number() {
        for bad in ["MAINPID=", "MAINPID=0", "MAINPID=-1", "MAINPID=1x", "XMAINPID=3"] {
            assert_eq!(message(bad).main_pid(), None, "{bad}");
        }
    }

    #[test]
    fn stored_descriptors_have_a_name() {
        assert_eq!(message("FDSTORE=1\nFDNAME=net").fd_name(), Some("net"));
        assert_eq!(message("FDSTORE=1").fd_name(), Some("stored"));
        assert_eq!(message("FDNAME=net").fd_name(), None);
    }
}
