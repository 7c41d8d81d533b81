//! `rkt gc`: marks what is over, deletes what was marked long enough ago. `docs/pod-lifecycle.md`.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use pod::{Phase, PodDir};

use super::command::Invocation;
use super::flag::{Flag, Given, switch, value};
use super::pods;
use crate::exit::{self, Log, SUCCESS};
use crate::{collect, time};

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    value("expire-prepared", "24h0m0s", "duration to wait before expiring prepared pods"),
    value("grace-period", "30m0s", "duration to wait before discarding inactive pods from garbage"),
    switch("mark-only", "if set to true pods will be marked for garbage collection but not removed"),
];

/// What is collected, and when.
#[derive(Debug, Clone, Copy)]
struct Plan {
    grace: Duration,
    expire: Duration,
    now: SystemTime,
    log: Log,
}

/// Whether a pass deletes or only marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Mark,
    Everything,
}

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let flags = &invocation.flags;
    let plan = Plan {
        grace: duration(flags, "grace-period", "30m")?,
        expire: duration(flags, "expire-prepared", "24h")?,
        now: SystemTime::now(),
        log: invocation.log(),
    };
    let extent = if flags.switch("mark-only") { Extent::Mark } else { Extent::Everything };
    let data = invocation.data_dir()?;
    let mut failed = 0_usize;
    // Twice through the pods: what the first pass marks, the second may delete.
    for pass in [Extent::Mark, Extent::Everything] {
        if pass == Extent::Everything && extent == Extent::Mark {
            break;
        }
        for pod in data.pods().context("cannot list the pods")? {
            let id = pod.id().to_string();
            let result = match pass {
                Extent::Mark => mark(pod, &plan, extent),
                Extent::Everything => delete(pod, &plan),
            };
            if let Err(e) = result {
                plan.log.error(&e.context(format!("pod {id:?} not removed")));
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("failed to remove {failed} pod(s)");
    }
    Ok(SUCCESS)
}

fn duration(flags: &Given, name: &'static str, default: &str) -> anyhow::Result<Duration> {
    time::duration(flags.value(name).unwrap_or(default)).with_context(|| format!("--{name}"))
}

fn mark(pod: PodDir, plan: &Plan, extent: Extent) -> anyhow::Result<()> {
    let id = pod.id().to_string();
    let sentence = match pod.phase() {
        Phase::Run => format!("moving pod {id:?} to garbage"),
        Phase::Embryo | Phase::Prepare => format!("moving failed prepare {id:?} to garbage"),
        Phase::Prepared if extent == Extent::Everything && is_expired(&pod, plan)? => {
            format!("moving expired prepared pod {id:?} to garbage")
        }
        Phase::Prepared | Phase::ExitedGarbage | Phase::Garbage => return Ok(()),
    };
    // Held: it is alive. Moved: somebody else is at work on it.
    let Some(mut pod) = pods::lock(pod)? else { return Ok(()) };
    plan.log.say(sentence);
    Ok(collect::mark(&mut pod)?)
}

fn is_expired(pod: &PodDir, plan: &Plan) -> anyhow::Result<bool> {
    let since = match pod.created()? {
        Some(created) => created,
        None => pod.moved_at()?,
    };
    Ok(plan.now.duration_since(since).is_ok_and(|age| age >= plan.expire))
}

fn delete(pod: PodDir, plan: &Plan) -> anyhow::Result<()> {
    let id = pod.id().to_string();
    match pod.phase() {
        Phase::ExitedGarbage => {
            // Marked in this very run, it may be younger than the time at which we began.
            let age = plan.now.duration_since(pod.moved_at()?).unwrap_or_default();
            if age < plan.grace {
                plan.log.say(format_args!(
                    "pod {id:?} not removed: still within grace period ({})",
                    time::show(plan.grace)
                ));
                return Ok(());
            }
        }
        Phase::Garbage => {}
        Phase::Embryo | Phase::Prepare | Phase::Prepared | Phase::Run => return Ok(()),
    }
    let Some(pod) = pods::lock(pod)? else { return Ok(()) };
    exit::report(format_args!("Garbage collecting pod {id:?}"));
    Ok(collect::delete(pod, plan.log)?)
}
