//! `rkt image gc`: room in the store.

use std::io;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use image::{Candidates, GcPlan, GcReport, Pressure};

use super::{existing_store, users};
use crate::cli::command::Invocation;
use crate::cli::flag::{Flag, Given, switch, value};
use crate::exit::{self, Log, SUCCESS};
use crate::{table, time, uses};

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    switch("dry-run", "only tell what would be removed"),
    value("grace-period", "24h0m0s", "duration to wait since an image was last used before removing it"),
    value("high-threshold", "85", "percent of the file system in use from which on images are removed"),
    switch("keep-tagged", "keep images that have a name, however long they have not been used"),
    value("low-threshold", "80", "percent of the file system in use at which enough is removed"),
    value(
        "minimum-age",
        "2m0s",
        "with thresholds: duration since an image was last used before it may be removed",
    ),
];

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let plan = plan(&invocation.flags)?;
    let Some(store) = existing_store(invocation)? else { return Ok(SUCCESS) };
    let used = || users(invocation).map(uses::all).map_err(io::Error::other);
    let report = store.gc(&plan, used)?;
    tell(&plan, &report, invocation.log());
    Ok(SUCCESS)
}

/// Either everything that was not used for the grace period, or as much as a full disk asks for.
fn plan(flags: &Given) -> anyhow::Result<GcPlan> {
    let pressure = match (flags.value("high-threshold"), flags.value("low-threshold")) {
        (None, None) => None,
        (high, low) => {
            let high = percent("high-threshold", high.unwrap_or("85"))?;
            let low = percent("low-threshold", low.unwrap_or("80"))?;
            ensure!(low <= high, "--low-threshold must not be higher than --high-threshold");
            Some(Pressure { high, low })
        }
    };
    let (grace, other) = match pressure {
        None => (("grace-period", "24h"), "minimum-age"),
        Some(_) => (("minimum-age", "2m"), "grace-period"),
    };
    ensure!(
        flags.value(other).is_none(),
        "--grace-period goes without thresholds, --minimum-age with --high-threshold or --low-threshold"
    );
    let (name, default) = grace;
    Ok(GcPlan {
        candidates: if flags.switch("keep-tagged") { Candidates::Unnamed } else { Candidates::Unused },
        grace: time::duration(flags.value(name).unwrap_or(default)).with_context(|| format!("--{name}"))?,
        pressure,
        dry_run: flags.switch("dry-run"),
        now: SystemTime::now(),
        ..GcPlan::default()
    })
}

fn percent(flag: &str, text: &str) -> anyhow::Result<u8> {
    let number = text.parse().ok().filter(|number| *number <= 100);
    number.with_context(|| format!("invalid argument {text:?} for --{flag}: it is a percentage, 0 to 100"))
}

fn tell(plan: &GcPlan, report: &GcReport, log: Log) {
    let (removed, successfully) =
        if plan.dry_run { ("would remove", "would remove") } else { ("removed", "successfully removed") };
    for blob in &report.blobs {
        log.say(format_args!("{removed} the copy of layer \"{}-{}\"", blob.algorithm(), blob.hex()));
    }
    for tree in &report.trees {
        log.say(format_args!("{removed} layer \"{}-{}\"", tree.algorithm(), tree.hex()));
    }
    for id in &report.images {
        exit::report(format_args!("{successfully} image: \"{id}\""));
    }
    if !report.images.is_empty() && !plan.dry_run {
        log.say(format_args!("{} image(s) successfully removed", report.images.len()));
    }
    let Some((pressure, (before, now))) = plan.pressure.zip(report.usage) else { return };
    if before.percent() < u64::from(pressure.high) {
        log.debug(format_args!("{}% of the file system is in use; nothing to do", before.percent()));
        return;
    }
    let verb = if plan.dry_run { "would free" } else { "freed" };
    log.say(format_args!(
        "{verb} about {}; {}% of the file system was in use, now {}%",
        table::bytes(report.bytes),
        before.percent(),
        now.percent()
    ));
    if !plan.dry_run && now.above(pressure.low) > 0 {
        log.say(format_args!(
            "could not reach {}%: what is left is in use, too new or not ours",
            pressure.low
        ));
    }
}
