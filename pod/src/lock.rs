//! The pod's lock: an exclusive `flock(2)` on its directory.
//!
//! The lock belongs to the open file description, so that it can be inherited through exec and passed over a socket: that
//! is how PID 1 holds it for a pod that no process of ours watches. Readers only ever *try* a shared lock.

use std::os::fd::AsFd;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Whether somebody holds the lock. Takes nothing that outlives the call.
pub(crate) fn is_held(dir: impl AsFd) -> rustix::io::Result<bool> {
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared) {
        Ok(()) => rustix::fs::flock(&dir, FlockOperation::Unlock).map(|()| false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e),
    }
}

/// Tries to take the lock. `false`: somebody else has it.
pub(crate) fn try_exclusive(dir: impl AsFd) -> rustix::io::Result<bool> {
    // A reader holds its shared lock for the length of two system calls; look again rather than lose to one.
    for _ in 0..50 {
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(std::time::Duration::from_micros(200)),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}
