//! clone(2) used as fork(2), with a choice of the child's parent.
//!
//! Unlike posix_spawn, the child goes on in Rust: it sets up namespaces and mounts before it executes anything. That is
//! sound only when nobody else could have held a lock at the moment of the fork, so that the calls below refuse to fork
//! a process that has more than one thread.

use std::io;

use rustix::process::Pid;

/// Who waits for the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The calling process, as with fork(2).
    Caller,
    /// The parent of the calling process: the child is a sibling (`CLONE_PARENT`).
    CallersParent,
}

/// Makes a child that runs `child` and, if that returns, exits at once with the status it returns. The caller gets the
/// child's number, as seen from its own PID namespace.
///
/// The child is in the namespace that unshare(2) or setns(2) chose for children. Its memory is a copy; descriptors are
/// shared as after fork(2).
///
/// # Errors
/// `EBUSY` when the caller has more than one thread, and what clone(2) says.
pub fn clone_child(parent: Parent, child: impl FnOnce() -> u8) -> io::Result<Pid> {
    if !is_single_threaded()? {
        return Err(rustix::io::Errno::BUSY.into());
    }
    let parent = match parent {
        Parent::Caller => 0,
        Parent::CallersParent => libc::CLONE_PARENT,
    };
    let flags = libc::c_long::from(parent | libc::SIGCHLD);
    // SAFETY: clone(2) without CLONE_VM and with no stack is fork(2): the child gets a copy of the address space and
    // goes on with the same stack pointer. The process has one thread (checked above), so that no lock of the
    // allocator or of libc can be held by a thread that does not exist in the child. The null pointers are unused
    // without CLONE_SETTLS, CLONE_PARENT_SETTID and CLONE_CHILD_SETTID, whatever their order on this architecture.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => exit_now(child()),
        pid => i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| rustix::io::Errno::RANGE.into()),
    }
}

/// Ends the calling process at once: no destructors, no exit handlers. For a child that cannot become what it should.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit(2) takes any number and has no preconditions.
    unsafe { libc::_exit(status.into()) }
}

/// Whether the process has one thread. unshare(2) checks it: sharing of threads can only be given up, without effect,
/// when there is nothing to share. (`/proc/self` may belong to another PID namespace, or to an app.)
fn is_single_threaded() -> io::Result<bool> {
    // SAFETY: unshare(2) with CLONE_THREAD alone changes nothing: it succeeds in a process of one thread and fails in
    // others.
    match unsafe { libc::unshare(libc::CLONE_THREAD) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            e => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness runs tests in threads of their own.
        let result = clone_child(Parent::Caller, || 0);
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
