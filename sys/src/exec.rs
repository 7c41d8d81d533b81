//! execve(2) and execveat(2): becoming another program.
//!
//! std's `Command` looks up names, changes signals and reports errors in ways that a stage1 must decide for itself.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Arguments or an environment, in the form the kernel takes.
#[derive(Debug)]
pub struct Strings {
    strings: Vec<CString>,
}

/// A string has a NUL in it, which no argument and no variable can have.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} contains a NUL character")]
pub struct NulError(String);

impl Strings {
    /// Takes the strings, which must not contain NUL.
    pub fn new<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Result<Self, NulError> {
        let one = |s: S| CString::new(s.as_ref()).map_err(|_| NulError(s.as_ref().to_owned()));
        Ok(Self { strings: strings.into_iter().map(one).collect::<Result<_, _>>()? })
    }

    /// The arguments that this process was started with.
    pub fn own_arguments() -> Self {
        use std::os::unix::ffi::OsStringExt;
        // What the kernel passed has no NUL in it.
        Self { strings: std::env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect() }
    }

    /// The environment of this process, with one variable more.
    pub fn own_environment_and(name: &str, value: &str) -> Self {
        use std::os::unix::ffi::OsStringExt;
        let pair = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair).ok()
        };
        let extra = (name.into(), value.into());
        Self { strings: std::env::vars_os().chain([extra]).filter_map(pair).collect() }
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    }
}

/// Executes the program at `path`. Returns only when that failed.
pub fn execve(path: &CStr, arguments: &Strings, environment: &Strings) -> io::Error {
    let (arguments, environment) = (arguments.pointers(), environment.pointers());
    // SAFETY: execve(2) wants a NUL-terminated path and two arrays of NUL-terminated strings that end with a null
    // pointer; `pointers` makes them from CStrings that outlive the call.
    let _ = unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes the program behind a descriptor. Returns only when that failed.
pub fn execve_descriptor(fd: BorrowedFd<'_>, arguments: &Strings, environment: &Strings) -> io::Error {
    let (arguments, environment) = (arguments.pointers(), environment.pointers());
    // SAFETY: as for `execve`; the empty path with AT_EMPTY_PATH means the descriptor itself, see execveat(2).
    let _ = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_executed_is_an_error_and_nothing_else() {
        let (arguments, environment) = (Strings::new(["x"]).unwrap(), Strings::new::<&str>([]).unwrap());
        let error = execve(c"/nonexistent/program", &arguments, &environment);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let error = execve_descriptor(std::os::fd::AsFd::as_fd(&file), &arguments, &environment);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn nul_is_refused_by_name() {
        assert!(Strings::new(["fine", "a\0b"]).unwrap_err().to_string().contains("a\\0b"));
    }
}
