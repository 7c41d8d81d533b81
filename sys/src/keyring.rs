//! Session keyrings, session-keyring(7).

use rustix::io::Errno;

/// keyctl(2): `KEYCTL_JOIN_SESSION_KEYRING`.
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Gives the calling thread a new, empty session keyring in place of the one that it inherited.
///
/// # Errors
/// `ENOSYS` on a kernel without keys, `EPERM` where a filter of system calls forbids them, `EDQUOT` when there are too
/// many.
pub fn join_new_session() -> rustix::io::Result<()> {
    // SAFETY: keyctl(2) with this operation takes a name or a null pointer, which means an anonymous keyring.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match result {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(()),
    }
}
