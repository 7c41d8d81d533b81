//! Where the app's output goes.
//!
//! A pod of units writes to the journal: stdout with priority 6, stderr with 3, identifier the app's name. The app's own
//! process connects, so that journald finds unit and invocation of a process that lives as long as the stream. A direct
//! pod has its launcher's descriptors; those of them that are a journal stream are replaced by streams of the app's own.
//!
//! Each stream names its unit: a child of the app that wrote a line and is gone (a command in a script) has no control
//! group any more when journald looks.

use pod::launch::Launcher;
use pod::{AppName, PodId, unit};
use rustix::stdio;
use sys::journal_stream::{self, Priority};

use crate::control_group;
use crate::failure::StepError;

/// The journal could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("connect the app's output to the journal")]
pub struct OutputError(#[source] std::io::Error);

impl StepError for OutputError {}

/// Connects the calling process's stdout and stderr. To be called in the control group and the control group namespace
/// of the launcher.
pub fn connect(pod: PodId, app: &AppName, launcher: Launcher) -> Result<(), OutputError> {
    let unit = match launcher {
        Launcher::Units => unit::app(pod, app),
        // Without a unit to name, journald still finds that of every process that lives long enough.
        Launcher::Direct => control_group::unit_of_self().unwrap_or_default(),
    };
    connect_outputs(app.as_str(), &unit, launcher).map_err(|e| OutputError(e.into()))
}

fn connect_outputs(app: &str, unit: &str, launcher: Launcher) -> rustix::io::Result<()> {
    let is_wanted = |is_stream: bool| launcher == Launcher::Units || is_stream;
    if is_wanted(journal_stream::is_stream(stdio::stdout())) {
        stdio::dup2_stdout(journal_stream::connect(app, unit, Priority::Info)?)?;
    }
    if is_wanted(journal_stream::is_stream(stdio::stderr())) {
        stdio::dup2_stderr(journal_stream::connect(app, unit, Priority::Error)?)?;
    }
    Ok(())
}
