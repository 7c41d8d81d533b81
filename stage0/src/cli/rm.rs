//! `rkt rm`: removes pods that do not run, without a grace period.

use anyhow::bail;
use pod::{PodDir, State};

use super::command::Invocation;
use super::pods;
use crate::collect;
use crate::exit::{self, SUCCESS};

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    if pods::each(invocation, |pod| remove(invocation, pod))? > 0 {
        bail!("failed to remove one or more pods");
    }
    Ok(SUCCESS)
}

fn remove(invocation: &Invocation, pod: PodDir) -> anyhow::Result<()> {
    let log = invocation.log();
    let id = pod.id().to_string();
    let state = pod.state()?;
    let Some(mut pod) = pods::lock(pod)? else { bail!("pod {id:?} is currently {}", held(state)) };
    if state == State::Prepared {
        log.debug(format_args!("moving expired prepared pod {id:?} to garbage"));
    }
    collect::mark(&mut pod)?;
    collect::delete(pod, log)?;
    exit::report(format_args!("{id:?}"));
    Ok(())
}

/// What somebody who holds a pod is doing with it.
fn held(state: State) -> State {
    match state {
        // It was free when we looked, and has been taken since.
        State::Prepared | State::Exited => State::Running,
        State::ExitedGarbage | State::Garbage => State::Deleting,
        State::AbortedPrepare => State::Preparing,
        other => other,
    }
}
