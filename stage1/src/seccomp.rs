//! The app's system call filter: `linux.seccomp` of the runtime-spec, compiled with libseccomp.
//!
//! Compiling the usual profile takes longer than everything else a start does, so that compiled filters are cached as
//! files in `cache`. What is loaded is the same with and without the cache.

mod cache;
mod compile;
mod unknown;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use crate::failure::StepError;

/// A filter could not be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// libseccomp does not accept the profile.
    #[error("compile the seccomp profile: {what}")]
    Compile {
        /// What was being added.
        what: String,
        /// Why.
        source: libseccomp::error::SeccompError,
    },
    /// The profile uses something that is not supported.
    #[error("the seccomp profile uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// The program could not be taken out of libseccomp.
    #[error("take the compiled seccomp profile")]
    Export(#[source] std::io::Error),
    /// libseccomp produced something that is no program.
    #[error("compile the seccomp profile")]
    Program(#[from] sys::seccomp::InvalidProgram),
    /// The profile could not be written down to find it again.
    #[error("serialize the seccomp profile")]
    Serialize(#[from] serde_json::Error),
    /// The kernel does not take the filter.
    #[error("load the seccomp filter")]
    Load(#[source] std::io::Error),
}

impl StepError for SeccompError {}

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    program: sys::seccomp::Program,
    flags: u64,
}

impl Filter {
    /// Compiles the profile, or takes the result of an earlier compilation.
    pub fn of(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        let flags = flags(profile)?;
        let key = cache::Key::of(profile)?;
        if let Some(program) = cache::load(&key) {
            return Ok(Self { program, flags });
        }
        let bytes = compile::compile(profile)?;
        let program = sys::seccomp::Program::from_bytes(&bytes)?;
        cache::store(&key, &bytes);
        Ok(Self { program, flags })
    }

    /// Puts the calling thread under the filter.
    pub fn load(&self) -> Result<(), SeccompError> {
        self.program.load(self.flags).map_err(|e| SeccompError::Load(e.into()))
    }
}

/// `SECCOMP_FILTER_FLAG_*`, seccomp(2).
fn flags(profile: &LinuxSeccomp) -> Result<u64, SeccompError> {
    const LOG: u64 = 1 << 1;
    const SPEC_ALLOW: u64 = 1 << 2;
    let mut bits = 0;
    for flag in profile.flags().iter().flatten() {
        bits |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
            // The process has one thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(SeccompError::Unsupported("a listener"));
            }
        };
    }
    Ok(bits)
}
