//! Calls that are newer than a profile.
//!
//! A profile that lists what is allowed answers everything else with EPERM. For a call that did not exist when the
//! profile was written that is the wrong answer: libc tries new calls first and falls back on ENOSYS only. So a few
//! instructions before the filter proper answer ENOSYS to every number above the largest one that the profile names.

use libseccomp::ScmpAction;

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `offsetof(struct seccomp_data, nr)` and `…, arch)`, seccomp(2).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

const RETURN_ENOSYS: u32 = 0x0005_0000 | 38;

/// `__X32_SYSCALL_BIT`: calls of the x32 interface have numbers of their own from here.
const X32: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const NATIVE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const NATIVE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const NATIVE: Option<u32> = None;

/// Puts the instructions before `program` when its default is an error. The filter proper starts by loading what it
/// needs, so that it does not notice.
pub(super) fn with_enosys(program: Vec<u8>, default: ScmpAction, largest: i32) -> Vec<u8> {
    let (Some(native), ScmpAction::Errno(_), Ok(largest @ 1..)) = (NATIVE, default, u32::try_from(largest))
    else {
        return program;
    };
    let prefix = [
        instruction(LOAD_WORD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 0, 4, native),
        instruction(LOAD_WORD, 0, 0, NUMBER),
        instruction(JUMP_GREATER_EQUAL, 2, 0, X32),
        instruction(JUMP_GREATER, 0, 1, largest),
        instruction(RETURN, 0, 0, RETURN_ENOSYS),
    ];
    prefix.into_iter().flatten().chain(program).collect()
}

/// `struct sock_filter`: if the comparison holds skip `yes` instructions, else `no`.
fn instruction(code: u16, yes: u8, no: u8, k: u32) -> [u8; 8] {
    let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
    [c0, c1, yes, no, k0, k1, k2, k3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_as_default_is_changed() {
        let program = vec![1; 8];
        assert_eq!(with_enosys(program.clone(), ScmpAction::Allow, 400), program);
        assert_eq!(with_enosys(program.clone(), ScmpAction::KillProcess, 400), program);
        assert_eq!(with_enosys(program.clone(), ScmpAction::Errno(1), 0), program);
        assert_eq!(with_enosys(program.clone(), ScmpAction::Errno(1), 400).len(), 7 * 8);
    }

    #[test]
    fn calls_beyond_the_profile_do_not_exist() {
        // An allow-list of a few calls whose largest number is that of statx(2); everything the thread needs to end is
        // in it.
        let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW",
            "names": ["read", "write", "close", "exit", "exit_group", "futex", "munmap", "madvise", "mmap", "mprotect",
                "brk", "sigaltstack", "rt_sigprocmask", "rseq", "set_robust_list", "statx", "prctl", "sched_yield"]}]});
        let bytes = super::super::compile::compile(&serde_json::from_value(profile).unwrap()).unwrap();
        let program = sys::seccomp::Program::from_bytes(&bytes).unwrap();
        let (old, new) = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            program.load(0).unwrap();
            let old = rustix::fs::mkdir("/nonexistent/dir", rustix::fs::Mode::empty()).unwrap_err();
            let how = rustix::fs::ResolveFlags::empty();
            let new = rustix::fs::openat2(
                rustix::fs::CWD,
                "/",
                rustix::fs::OFlags::PATH,
                rustix::fs::Mode::empty(),
                how,
            );
            (old, new.unwrap_err())
        })
        .join()
        .unwrap();
        assert_eq!((old, new), (rustix::io::Errno::PERM, rustix::io::Errno::NOSYS));
    }
}
