//! `rkt prepare`: makes a pod that `rkt run-prepared` or a unit can run.

use std::io::Write as _;

use image::PullPolicy;
use pod::Phase;

use super::command::Invocation;
use super::flag::{Flag, switch};
use super::global::{PROGRESS_FLAGS, policy};
use super::pod_flags::{self, POD_FLAGS};
use crate::exit::SUCCESS;
use crate::images::Images;

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] =
    &[switch("quiet", "suppress superfluous output on stdout, print only the UUID on success")];

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let mut flags = invocation.flags.clone();
    let request = pod_flags::request(invocation, &mut flags, &[POD_FLAGS, PROGRESS_FLAGS, FLAGS])?;
    let policy = policy(&flags, PullPolicy::New)?;
    let data = invocation.data_dir()?;
    let images = Images::open(&data, &policy)?;
    let mut pod = crate::prepare::prepare(&data, &images, &request)?;
    // What is announced as prepared must still be there after a loss of power.
    if let Err(e) = pod.dir().sync() {
        crate::prepare::discard(pod);
        return Err(e.into());
    }
    pod.transition(Phase::Prepared)?;
    writeln!(std::io::stdout(), "{}", pod.dir().id())?;
    Ok(SUCCESS)
}
