//! `rkt image gc`: room in the store.

use std::io;

use anyhow::Context as _;
use image::{Candidates, GcPlan};

use super::{existing_store, users};
use crate::cli::command::Invocation;
use crate::cli::flag::{Flag, value};
use crate::exit::{self, SUCCESS};
use crate::{time, uses};

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] =
    &[value("grace-period", "24h0m0s", "duration to wait since an image was last used before removing it")];

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let log = invocation.log();
    let grace =
        time::duration(invocation.flags.value("grace-period").unwrap_or("24h")).context("--grace-period")?;
    let Some(store) = existing_store(invocation)? else { return Ok(SUCCESS) };
    let plan = GcPlan { candidates: Candidates::Unused, grace, ..GcPlan::default() };
    let used = || users(invocation).map(uses::all).map_err(io::Error::other);
    let report = store.gc(&plan, used)?;
    for tree in &report.trees {
        log.say(format_args!("removed layer \"{}-{}\"", tree.algorithm(), tree.hex()));
    }
    for id in &report.images {
        exit::report(format_args!("successfully removed image: \"{id}\""));
    }
    if !report.images.is_empty() {
        log.say(format_args!("{} image(s) successfully removed", report.images.len()));
    }
    Ok(SUCCESS)
}
