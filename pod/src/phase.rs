//! The two halves of a pod's state: the directory it is in, and whether its lock is held.

use std::fmt;

use serde::Serialize;

/// The directory below `pods/` that a pod is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Its directory has just been made.
    Embryo,
    /// Images are being looked up, files are being written.
    Prepare,
    /// Everything is in place; nothing has run.
    Prepared,
    /// It runs, or has run.
    Run,
    /// It has run and waits for its grace period.
    ExitedGarbage,
    /// It never ran and is to be deleted.
    Garbage,
}

/// What a pod is doing, as users see it. The words are rkt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "&'static str")]
pub enum State {
    /// Being created, or left over from a creation that was killed.
    Embryo,
    /// Being prepared.
    Preparing,
    /// Its preparation was killed or failed.
    AbortedPrepare,
    /// Ready to be run.
    Prepared,
    /// Running.
    Running,
    /// Has run.
    Exited,
    /// Has run, is marked for collection.
    ExitedGarbage,
    /// Being deleted.
    Deleting,
    /// Never ran, is marked for collection.
    Garbage,
}

impl Phase {
    /// Every phase, in the order in which a pod goes through them.
    pub const ALL: [Phase; 6] =
        [Phase::Embryo, Phase::Prepare, Phase::Prepared, Phase::Run, Phase::ExitedGarbage, Phase::Garbage];

    /// The directory's name.
    pub fn dir_name(self) -> &'static str {
        match self {
            Phase::Embryo => "embryo",
            Phase::Prepare => "prepare",
            Phase::Prepared => "prepared",
            Phase::Run => "run",
            Phase::ExitedGarbage => "exited-garbage",
            Phase::Garbage => "garbage",
        }
    }

    /// The state of a pod in this phase.
    pub fn state(self, locked: bool) -> State {
        match (self, locked) {
            (Phase::Embryo, _) => State::Embryo,
            (Phase::Prepare, true) => State::Preparing,
            (Phase::Prepare, false) => State::AbortedPrepare,
            (Phase::Prepared, _) => State::Prepared,
            (Phase::Run, true) => State::Running,
            (Phase::Run, false) => State::Exited,
            (Phase::ExitedGarbage, false) => State::ExitedGarbage,
            (Phase::Garbage, false) => State::Garbage,
            (Phase::ExitedGarbage | Phase::Garbage, true) => State::Deleting,
        }
    }

    /// Whether a pod may be moved from here to `to`.
    pub fn leads_to(self, to: Phase) -> bool {
        use Phase::*;
        matches!(
            (self, to),
            (Embryo, Prepare | Garbage)
                | (Prepare, Prepared | Run | Garbage)
                | (Prepared, Run | Garbage)
                | (Run, ExitedGarbage)
        )
    }
}

impl State {
    /// The word that `rkt list` and `rkt status` print.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Embryo => "embryo",
            State::Preparing => "preparing",
            State::AbortedPrepare => "aborted prepare",
            State::Prepared => "prepared",
            State::Running => "running",
            State::Exited => "exited",
            State::ExitedGarbage => "exited garbage",
            State::Deleting => "deleting",
            State::Garbage => "garbage",
        }
    }

    /// Whether the pod has run and does not run any more.
    pub fn is_over(self) -> bool {
        matches!(self, State::Exited | State::ExitedGarbage | State::Deleting | State::Garbage)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.dir_name())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<State> for &'static str {
    fn from(state: State) -> &'static str {
        state.as_str()
    }
}
