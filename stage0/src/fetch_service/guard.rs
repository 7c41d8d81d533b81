//! What keeps a member from holding up others: a few fetches at a time, a shortest pace, and an end when nobody listens.
//!
//! A process is ended in the middle of its work here, which is what rkt is made for: its locks go with it, and what it
//! leaves is found by the next fetch.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use pod::fetch_event::FetchStep;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::exit::Log;
use crate::progress::Watch;

/// Fetches that a user may have at a time.
const FETCHES: u32 = 4;
/// As many bytes have to come …
const LEAST: u64 = 64 << 10;
/// … in this time.
const PACE: Duration = Duration::from_secs(60);

/// Takes one of the user's places; it is free again when the file is closed.
pub(super) fn place(dir: &Path, uid: u32) -> anyhow::Result<File> {
    for place in 0..FETCHES {
        let path = dir.join(format!("{uid}-{place}"));
        let failed = || format!("cannot take the place {}", path.display());
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.with_context(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) => {}
            Err(e) => return Err(e).with_context(failed),
        }
    }
    bail!("you have {FETCHES} fetches under way: wait until one of them has ended")
}

/// Whom a fetch is for.
#[derive(Debug)]
pub(super) struct Guard {
    /// Where the member listens.
    pub(super) peer: OwnedFd,
    /// What has come.
    pub(super) watch: Arc<Watch>,
    /// Whether it comes from the network, and has to come at a pace.
    pub(super) paced: bool,
    /// Where the end is told.
    pub(super) log: Log,
}

impl Guard {
    /// Ends the process when the member is gone, or the pace is too slow. Never returns otherwise.
    pub(super) fn run(self) {
        let mut pace = Pace { bytes: 0, since: Instant::now() };
        loop {
            if is_gone(&self.peer) {
                self.log.say("nobody waits for the image any more");
                std::process::exit(0);
            }
            let (bytes, awaited) = self.watch.received();
            if self.paced && pace.is_too_slow(bytes, awaited, Instant::now()) {
                let message = format!(
                    "the image comes too slowly: less than {} KiB in {} s; the fetch service has given up",
                    LEAST >> 10,
                    PACE.as_secs()
                );
                self.log.say(&message);
                self.watch.show(&FetchStep::Error { message });
                std::process::exit(0);
            }
        }
    }
}

/// Since when how little has come.
#[derive(Debug)]
struct Pace {
    bytes: u64,
    since: Instant,
}

impl Pace {
    fn is_too_slow(&mut self, bytes: u64, awaited: bool, now: Instant) -> bool {
        // A layer that is tried again is counted anew: then there are fewer.
        if !awaited || bytes.saturating_sub(self.bytes) >= LEAST || bytes < self.bytes {
            *self = Self { bytes, since: now };
        }
        now.duration_since(self.since) >= PACE
    }
}

/// Waits a moment for the other side to hang up.
fn is_gone(peer: impl AsFd) -> bool {
    let mut peers = [PollFd::new(&peer, PollFlags::RDHUP)];
    let moment = Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = poll(&mut peers, Some(&moment));
    peers.iter().any(|peer| peer.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_places() {
        let dir = tempfile::tempdir().unwrap();
        let mut taken: Vec<File> = (0..FETCHES).map(|_| place(dir.path(), 1000).unwrap()).collect();
        assert!(place(dir.path(), 1000).unwrap_err().to_string().contains("under way"));
        let _other = place(dir.path(), 1001).unwrap();
        drop(taken.pop());
        let _again = place(dir.path(), 1000).unwrap();
    }

    #[test]
    fn a_trickle_is_too_slow() {
        let begun = Instant::now();
        let at = |s| begun + Duration::from_secs(s);
        let mut pace = Pace { bytes: 0, since: begun };
        assert!(!pace.is_too_slow(LEAST - 1, true, at(59)));
        assert!(pace.is_too_slow(LEAST - 1, true, at(60)));
        assert!(!pace.is_too_slow(LEAST, true, at(60)), "enough has come");
        assert!(!pace.is_too_slow(LEAST, true, at(119)));
        assert!(!pace.is_too_slow(0, true, at(119)), "from the beginning");
        assert!(!pace.is_too_slow(0, false, at(500)), "nothing has to come");
        assert!(!pace.is_too_slow(0, true, at(559)));
        assert!(pace.is_too_slow(0, true, at(560)));
    }

    #[test]
    fn a_member_that_hangs_up_is_gone() {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(there);
        assert!(is_gone(here));
    }
}
