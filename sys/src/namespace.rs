//! unshare(2) for namespaces. Entering existing ones is rustix's `move_into_thread_name_spaces`.

use rustix::io;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

/// Every kind there is; `CLONE_FILES` and the like are none of them.
const KINDS: ThreadNameSpaceType = ThreadNameSpaceType::TIME
    .union(ThreadNameSpaceType::MOUNT)
    .union(ThreadNameSpaceType::CONTROL_GROUP)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
    .union(ThreadNameSpaceType::USER)
    .union(ThreadNameSpaceType::PROCESS_ID)
    .union(ThreadNameSpaceType::NETWORK);

/// Moves the calling thread into new namespaces of these kinds; of [`ThreadNameSpaceType::PROCESS_ID`] only its
/// future children.
///
/// # Errors
/// See unshare(2): `EPERM` without CAP_SYS_ADMIN, `ENOSPC` when a limit of namespaces(7) is reached.
pub fn unshare(kinds: ThreadNameSpaceType) -> io::Result<()> {
    // The bits of the type are those of CLONE_NEW*.
    let flags = UnshareFlags::from_bits_truncate((kinds & KINDS).bits());
    // SAFETY: without CLONE_FILES the descriptor table stays shared, which is the one hazard that rustix documents for
    // this call; see unshare(2).
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
