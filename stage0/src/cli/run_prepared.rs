//! `rkt run-prepared`: runs a prepared pod, in the foreground.

use anyhow::bail;
use pod::Phase;

use super::command::Invocation;
use super::run::input;
use super::{launch_flags, pods};
use crate::launch::direct::{self, Input};

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let settings = launch_flags::settings(&invocation.flags)?;
    let pod = pods::one(invocation)?;
    let id = pod.id();
    // Whoever holds the lock is about to run it.
    let locked = match pod.phase() {
        Phase::Prepared => pods::lock(pod)?,
        _ => None,
    };
    let Some(pod) = locked else { bail!("pod {:?} is not prepared", id.to_string()) };
    // It was prepared without a terminal in mind: what it gets is a stream.
    let input = match input(&invocation.flags, pod.dir().manifest()?.apps.len())? {
        Input::Nothing => Input::Nothing,
        Input::Stream | Input::Terminal => Input::Stream,
    };
    Ok(direct::run(pod, &settings, input, invocation.log())?)
}
