//! unshare(2) for namespaces. Entering existing ones is rustix's `move_into_thread_name_spaces`.

use rustix::io;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

/// Moves the calling thread into new namespaces of these kinds; of [`ThreadNameSpaceType::PROCESS_ID`] only its
/// future children.
///
/// # Errors
/// See unshare(2): `EPERM` without CAP_SYS_ADMIN, `ENOSPC` when a limit of namespaces(7) is reached.
pub fn unshare(kinds: ThreadNameSpaceType) -> io::Result<()> {
    // Only namespaces: the bits of ThreadNameSpaceType are those of CLONE_NEW*, and CLONE_FILES is none of them.
    let flags = UnshareFlags::from_bits_truncate((kinds & ThreadNameSpaceType::all_kinds()).bits());
    // SAFETY: without CLONE_FILES the descriptor table stays shared, which is the one hazard that rustix documents for
    // this call; see unshare(2).
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

trait AllKinds {
    fn all_kinds() -> Self;
}

impl AllKinds for ThreadNameSpaceType {
    fn all_kinds() -> Self {
        Self::TIME
            | Self::MOUNT
            | Self::CONTROL_GROUP
            | Self::HOST_NAME_AND_NIS_DOMAIN_NAME
            | Self::INTER_PROCESS_COMMUNICATION
            | Self::USER
            | Self::PROCESS_ID
            | Self::NETWORK
    }
}
