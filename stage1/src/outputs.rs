//! Where the app's output goes.
//!
//! A pod of units writes to the journal: stdout with priority 6, stderr with 3, identifier the app's name. The app's own
//! process connects, so that journald finds unit and invocation of a process that lives as long as the stream. A direct
//! pod has its launcher's descriptors; those of them that are a journal stream are replaced by streams of the app's own.

use pod::AppName;
use pod::launch::Launcher;
use rustix::stdio;
use sys::journal_stream::{self, Priority};

use crate::failure::StepError;

/// The journal could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("connect the app's output to the journal")]
pub struct OutputError(#[source] std::io::Error);

impl StepError for OutputError {}

/// Connects the calling process's stdout and stderr.
pub fn connect(app: &AppName, launcher: Launcher) -> Result<(), OutputError> {
    connect_outputs(app.as_str(), launcher).map_err(|e| OutputError(e.into()))
}

fn connect_outputs(app: &str, launcher: Launcher) -> rustix::io::Result<()> {
    let is_wanted = |is_stream: bool| launcher == Launcher::Units || is_stream;
    if is_wanted(journal_stream::is_stream(stdio::stdout())) {
        stdio::dup2_stdout(journal_stream::connect(app, Priority::Info)?)?;
    }
    if is_wanted(journal_stream::is_stream(stdio::stderr())) {
        stdio::dup2_stderr(journal_stream::connect(app, Priority::Error)?)?;
    }
    Ok(())
}
