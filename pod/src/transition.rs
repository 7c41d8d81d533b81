//! Moving a pod from phase to phase.
//!
//! A transition is one rename(2) by the holder of the exclusive lock, and an fsync of both parents where it has to survive
//! a loss of power. Whoever loses a race
//! (somebody else holds the lock, or the pod has moved) gets `None` and looks again.

use rustix::io::Errno;

use crate::{Phase, PodDir, PodError, lock, remove, users};

/// A pod whose exclusive lock we hold. Dropping it closes our descriptor; the lock lives on in any copy of it that was
/// inherited or passed on.
#[derive(Debug)]
pub struct LockedPod {
    dir: PodDir,
}

/// A pod could not be moved or removed.
#[derive(Debug, thiserror::Error)]
pub enum TransitionError {
    /// This arrow is not in the state diagram.
    #[error("a pod does not go from {from} to {to}")]
    NotAllowed {
        /// Where it is.
        from: Phase,
        /// Where it was to go.
        to: Phase,
    },
    /// The system refused.
    #[error("{act} pod {id}")]
    Io {
        /// What was being done.
        act: &'static str,
        /// The pod.
        id: crate::PodId,
        /// Why.
        source: std::io::Error,
    },
}

/// What a transition is to survive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// The end of every process.
    Memory,
    /// The loss of power, too.
    Disk,
}

impl LockedPod {
    /// Tries to lock a pod. `None`: somebody else holds the lock, or the pod has moved since it was found.
    pub fn try_lock(dir: PodDir) -> Result<Option<Self>, PodError> {
        if !lock::try_exclusive(dir.fd()).map_err(|e| dir.error("lock", e))? || !dir.is_in_place()? {
            return Ok(None);
        }
        Ok(Some(Self { dir }))
    }

    /// The pod's directory.
    pub fn dir(&self) -> &PodDir {
        &self.dir
    }

    /// Moves the pod, and makes that survive a loss of power.
    pub fn transition(&mut self, to: Phase) -> Result<(), TransitionError> {
        self.rename(to, Durability::Disk)
    }

    /// Moves a pod of which nothing would be left to use after a loss of power: one that is being prepared, or that is run
    /// at once by its parent. Found in an earlier phase then, it is garbage like any other. Costs no wait for the disk.
    pub fn transition_volatile(&mut self, to: Phase) -> Result<(), TransitionError> {
        self.rename(to, Durability::Memory)
    }

    fn rename(&mut self, to: Phase, durability: Durability) -> Result<(), TransitionError> {
        let from = self.dir.phase();
        if !from.leads_to(to) {
            return Err(TransitionError::NotAllowed { from, to });
        }
        let id = self.dir.id();
        let io = |act| move |e: Errno| TransitionError::Io { act, id, source: e.into() };
        let data = self.dir.data_dir().clone();
        let old = data.open_phase(from).map_err(io("move"))?;
        let new = data.open_phase(to).map_err(io("move"))?;
        let name = id.to_string();
        rustix::fs::renameat(&old, &name, &new, &name).map_err(io("move"))?;
        self.dir.moved(to);
        if durability == Durability::Memory {
            return Ok(());
        }
        rustix::fs::fsync(&new).map_err(io("make durable the move of"))?;
        rustix::fs::fsync(&old).map_err(io("make durable the move of"))
    }

    /// Deletes a pod that is in `exited-garbage` or `garbage`: everything, the manifest and the ids last, then the
    /// directory.
    ///
    /// Killed anywhere, the pod is still there, still garbage, and can be deleted again.
    pub fn remove(self) -> Result<(), TransitionError> {
        let (id, phase) = (self.dir.id(), self.dir.phase());
        if !matches!(phase, Phase::ExitedGarbage | Phase::Garbage) {
            return Err(TransitionError::NotAllowed { from: phase, to: Phase::Garbage });
        }
        let io = |e: Errno| TransitionError::Io { act: "delete", id, source: e.into() };
        remove::empty_dir(self.dir.fd(), &["pod", users::FILE]).map_err(io)?;
        let parent = self.dir.data_dir().open_phase(phase).map_err(io)?;
        remove::remove_tree(&parent, &id.to_string()).map_err(io)
    }

    /// Gives up the pod but keeps the lock: the descriptor that holds it, to be inherited or passed on.
    pub fn into_lock(self) -> std::os::fd::OwnedFd {
        self.dir.into_fd()
    }

    /// A borrowed descriptor that holds the lock.
    pub fn lock_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.dir.fd()
    }
}
