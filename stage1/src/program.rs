//! The app's program: its working directory, environment and file, and becoming it.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use pod::stage1::status;
use rustix::fs::OFlags;
use sys::exec::Strings;

use crate::failure::{Failure, StepError};
use crate::target;

/// Where commands are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The config has no arguments.
    #[error("the app has no command")]
    Empty,
    /// An argument or variable cannot be passed.
    #[error("the app's arguments or environment")]
    Nul(#[from] sys::exec::NulError),
    /// It is not in any directory of PATH.
    #[error("{name:?} is not in the app's PATH ({path})")]
    NotFound {
        /// The command.
        name: String,
        /// The directories.
        path: String,
    },
    /// execve(2) refused.
    #[error("execute {0:?}")]
    Exec(String, #[source] std::io::Error),
}

impl StepError for ExecError {
    const STATUS: u8 = status::EXEC;
}

/// The working directory cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum WorkdirError {
    /// It is missing, no directory, or reached through a magic link.
    #[error("change to the working directory {path}", path = .0.display())]
    Change(PathBuf, #[source] std::io::Error),
    /// It is not in the app's root.
    #[error("the working directory {path} is outside of the app's root", path = .0.display())]
    Outside(PathBuf),
}

impl StepError for WorkdirError {
    const STATUS: u8 = status::CHDIR;
}

/// Changes to the working directory, inside `root`: no magic link is followed, and the kernel must be able to name the
/// place as seen from the root (runc's CVE-2024-21626: a directory of the host behind a leaked descriptor).
pub fn enter_workdir(root: impl AsFd, cwd: &Path) -> Result<(), WorkdirError> {
    let cwd = if cwd.as_os_str().is_empty() { Path::new("/") } else { cwd };
    let change = |e: rustix::io::Errno| WorkdirError::Change(cwd.to_owned(), e.into());
    let dir = target::open(root, cwd, OFlags::PATH | OFlags::DIRECTORY).map_err(change)?;
    rustix::process::fchdir(dir).map_err(change)?;
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(rustix::io::Errno::NOENT) => Err(WorkdirError::Outside(cwd.to_owned())),
        Err(e) => Err(change(e)),
    }
}

/// What is to be executed.
#[derive(Debug)]
pub struct Program {
    name: String,
    path: String,
    arguments: Strings,
    environment: Strings,
}

impl Program {
    /// Takes arguments and environment of the config. `HOME`, where it is not set, is the user's, or `/`.
    pub fn of(process: &Process, home: Option<&str>) -> Result<Self, ExecError> {
        let arguments = process.args().as_deref().unwrap_or_default();
        Self::new(arguments, process.env().as_deref().unwrap_or_default(), home)
    }

    /// Another command in the same environment.
    pub fn new(arguments: &[String], environment: &[String], home: Option<&str>) -> Result<Self, ExecError> {
        let name = arguments.first().filter(|name| !name.is_empty()).ok_or(ExecError::Empty)?.clone();
        let path = value(environment, "PATH").unwrap_or(DEFAULT_PATH).to_owned();
        let home = match value(environment, "HOME") {
            Some(_) => None,
            None => Some(format!("HOME={}", home.unwrap_or("/"))),
        };
        let environment = environment.iter().chain(&home).filter(|e| e.contains('='));
        Ok(Self { name, path, arguments: Strings::new(arguments)?, environment: Strings::new(environment)? })
    }

    /// Becomes the program. Returns only when that failed.
    pub fn exec(&self) -> ExecError {
        let failed = |e| ExecError::Exec(self.name.clone(), e);
        if self.name.contains('/') {
            return failed(self.try_exec(Path::new(&self.name)));
        }
        let mut refused = None;
        for dir in self.path.split(':') {
            let error = self.try_exec(&Path::new(if dir.is_empty() { "." } else { dir }).join(&self.name));
            match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {}
                // As execvp(3): look on, and tell of the first that was there.
                std::io::ErrorKind::PermissionDenied => refused = refused.or(Some(error)),
                _ => return failed(error),
            }
        }
        match refused {
            Some(error) => failed(error),
            None => ExecError::NotFound { name: self.name.clone(), path: self.path.clone() },
        }
    }

    fn try_exec(&self, path: &Path) -> std::io::Error {
        match c_string(path.as_os_str()) {
            Ok(path) => sys::exec::execve(&path, &self.arguments, &self.environment),
            Err(e) => e,
        }
    }
}

fn c_string(text: &OsStr) -> std::io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| rustix::io::Errno::INVAL.into())
}

/// The last value wins, as with a shell.
fn value<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().rev().find_map(|e| e.split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v))
}

/// Leaves the next program three descriptors, default signal actions, and a session keyring of its own: the one that was
/// inherited holds the keys of whoever started us.
pub fn clean_slate() -> Result<(), Failure> {
    let failure = |act: &str, e: std::io::Error| Failure::other(format!("{act}: {e}"));
    sys::descriptor::close_on_exec_from_3().map_err(|e| failure("close descriptors", e.into()))?;
    match sys::keyring::join_new_session() {
        // A kernel without keys, or one that does not let us near them: the app cannot get at any either.
        Ok(()) | Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {}
        Err(e) => return Err(failure("make a session keyring", e.into())),
    }
    sys::signal::reset().map_err(|e| failure("reset signals", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_command_that_is_nowhere_names_itself_and_the_path() {
        let program =
            Program::new(&strings(&["no-such-command"]), &strings(&["PATH=/nowhere:/bin"]), None).unwrap();
        assert_eq!(
            program.exec().to_string(),
            "\"no-such-command\" is not in the app's PATH (/nowhere:/bin)"
        );
        let program = Program::new(&strings(&["/etc/passwd"]), &[], None).unwrap();
        assert!(matches!(program.exec(), ExecError::Exec(name, e)
            if name == "/etc/passwd" && e.kind() == std::io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn no_command_is_an_error() {
        assert!(matches!(Program::new(&[], &[], None), Err(ExecError::Empty)));
        assert!(matches!(Program::new(&strings(&[""]), &[], None), Err(ExecError::Empty)));
    }

    #[test]
    fn the_last_value_of_a_variable_wins() {
        let env = strings(&["A=1", "PATH=/x", "A=2=3", "B"]);
        assert_eq!(value(&env, "A"), Some("2=3"));
        assert_eq!(value(&env, "B"), None);
    }
}
