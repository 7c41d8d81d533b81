//! Removing pods: the rules of `docs/pod-lifecycle.md`, for `gc` and `rm`.

use std::io;

use pod::stage1::Verb;
use pod::{LockedPod, Phase, PodError, TransitionError};

use crate::exit::Log;
use crate::stage1::{self, Stage1Error};

/// A pod could not be removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Transition(#[from] TransitionError),
    #[error("pod {id}: cannot release what it holds")]
    Down { id: pod::PodId, source: Stage1Error },
}

/// Moves a pod that nobody holds to the phase from which it is deleted; one that is there already stays.
pub(crate) fn mark(pod: &mut LockedPod) -> Result<(), TransitionError> {
    match pod.dir().phase() {
        Phase::Embryo | Phase::Prepare | Phase::Prepared => pod.transition(Phase::Garbage),
        Phase::Run => pod.transition(Phase::ExitedGarbage),
        Phase::ExitedGarbage | Phase::Garbage => Ok(()),
    }
}

/// Deletes a marked pod: stage1 `down`, then everything, the manifest last.
pub(crate) fn delete(pod: LockedPod, log: Log) -> Result<(), CollectError> {
    down(&pod, log)?;
    Ok(pod.remove()?)
}

/// A pod that was never launched holds nothing.
fn down(pod: &LockedPod, log: Log) -> Result<(), CollectError> {
    let dir = pod.dir();
    if dir.launch()?.is_none() {
        return Ok(());
    }
    let stage1 = match dir.stage1() {
        Ok(stage1) => stage1,
        // An earlier deletion was interrupted; that came after `down`.
        Err(PodError::File { source, .. }) if source.is_not_found() => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    match stage1::run(&stage1, Verb::Down, &dir.path(), log.debug, &[]) {
        // Uninstalled. The processes are gone, the kernel has the rest; the pod must not stay for ever.
        Err(Stage1Error::Spawn { path, source }) if source.kind() == io::ErrorKind::NotFound => {
            log.say(format_args!(
                "stage1 {} is not installed any more; deleting the pod without it",
                path.display()
            ));
            Ok(())
        }
        other => other.map_err(|source| CollectError::Down { id: dir.id(), source }),
    }
}
