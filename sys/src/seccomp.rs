//! Loading a compiled seccomp filter, seccomp(2). Compiling one is libseccomp's work, see the crate `stage1`.

use rustix::io::Errno;

/// A filter in classic BPF: instructions as the kernel takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<[u8; INSTRUCTION]>,
}

/// `struct sock_filter` has this many bytes.
const INSTRUCTION: usize = 8;

/// The kernel's `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// The bytes are not a program: their number is no multiple of 8, or out of range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} bytes cannot be a seccomp filter")]
pub struct InvalidProgram(usize);

impl Program {
    /// Takes the bytes as libseccomp exports them. The kernel checks every instruction when the filter is loaded.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidProgram> {
        let (instructions, rest) = bytes.as_chunks::<INSTRUCTION>();
        if !rest.is_empty() || instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
            return Err(InvalidProgram(bytes.len()));
        }
        Ok(Self { instructions: instructions.to_vec() })
    }

    /// Puts the calling thread, and what it executes, under the filter for good.
    ///
    /// `flags` are `SECCOMP_FILTER_FLAG_*`; those that return a descriptor are not supported.
    ///
    /// # Errors
    /// `EACCES` without CAP_SYS_ADMIN and without no-new-privileges, `EINVAL` for a program the kernel rejects.
    pub fn load(&self, flags: u64) -> rustix::io::Result<()> {
        let instructions = self.instructions.iter().copied().map(decode).collect::<Vec<_>>();
        let program = libc::sock_fprog {
            len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
            filter: instructions.as_ptr().cast_mut(),
        };
        // SAFETY: seccomp(2) SECCOMP_SET_MODE_FILTER reads a sock_fprog whose `filter` points to `len` instructions,
        // and does not write to them; both outlive the call.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        match result {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    }
}

fn decode([c0, c1, jt, jf, k0, k1, k2, k3]: [u8; INSTRUCTION]) -> libc::sock_filter {
    libc::sock_filter { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert!(Program::from_bytes(&[0; 8]).is_ok());
        for bad in [0, 7, 9, 8 * 4097] {
            assert_eq!(Program::from_bytes(&vec![0; bad]), Err(InvalidProgram(bad)));
        }
    }

    #[test]
    fn the_kernel_checks_the_instructions() {
        std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            // An instruction that does not exist.
            let program = Program::from_bytes(&[0xff; 8]).unwrap();
            assert_eq!(program.load(0), Err(Errno::INVAL));
            // `return SECCOMP_RET_ALLOW`
            let allow = Program::from_bytes(&[0x06, 0, 0, 0, 0, 0, 0xff, 0x7f]).unwrap();
            assert_eq!(allow.load(0), Ok(()));
        })
        .join()
        .unwrap();
    }
}
