//! Dying with the launcher: the processes of a direct pod must not outlive `rkt run`, however that dies.
//!
//! `PR_SET_PDEATHSIG` (prctl(2)) is set for a parent that may be gone already. So the one who holds the word to go checks
//! that the parent is still there *after* the signal was armed.

use pod::launch::Launcher;
use rustix::process::{Pid, Signal};

use crate::failure::StepError;

/// The launcher is gone.
#[derive(Debug, thiserror::Error)]
pub enum TetherError {
    /// It died before we were ready.
    #[error("the launcher is gone")]
    Gone,
    /// prctl(2) failed.
    #[error("arm the signal for the launcher's end")]
    Arm(#[source] std::io::Error),
}

impl StepError for TetherError {}

/// A tie to the process that is this one's parent.
#[derive(Debug, Clone, Copy)]
pub struct Tether {
    parent: Option<Pid>,
}

impl Tether {
    /// Ties the calling process to a direct launcher. systemd kills the control group instead, and needs no tie.
    pub fn to(launcher: Launcher) -> Result<Self, TetherError> {
        match launcher {
            Launcher::Units => Ok(Self { parent: None }),
            Launcher::Direct => {
                let parent = rustix::process::getppid();
                arm()?;
                let tether = Self { parent };
                tether.check().map(|()| tether)
            }
        }
    }

    /// Arms the signal in the child as well, whose parent is the same process. Changes of user clear it: call this
    /// after them.
    pub fn arm_in_child(self) -> Result<(), TetherError> {
        if self.parent.is_some() { arm() } else { Ok(()) }
    }

    /// Whether the launcher is still there: this process would have got another parent.
    pub fn check(self) -> Result<(), TetherError> {
        match self.parent {
            Some(parent) if rustix::process::getppid() != Some(parent) => Err(TetherError::Gone),
            _ => Ok(()),
        }
    }
}

fn arm() -> Result<(), TetherError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| TetherError::Arm(e.into()))
}
