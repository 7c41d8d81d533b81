//! `rkt cat-manifest`: a pod's manifest.

use std::io::Write as _;

use super::command::Invocation;
use super::list::pretty;
use super::pods;
use crate::exit::SUCCESS;

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let manifest = pods::one(invocation)?.manifest()?;
    print(invocation, &manifest)
}

/// Prints JSON, indented unless `--pretty-print=false`.
pub(crate) fn print(invocation: &Invocation, value: &impl serde::Serialize) -> anyhow::Result<u8> {
    let compact = invocation.flags.value("pretty-print") == Some("false");
    let text = if compact { serde_json::to_string(value)? } else { pretty(value)? };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(SUCCESS)
}
