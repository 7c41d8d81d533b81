//! Where the app's output goes.
//!
//! A pod of units writes to the journal: stdout with priority 6, stderr with 3, identifier the app's name. The app's own
//! process connects, so that journald finds unit and invocation of a process that lives as long as the stream. A direct
//! pod has its launcher's descriptors; those of them that are a journal stream are replaced by streams of the app's own.
//!
//! Each stream names its unit: a child of the app that wrote a line and is gone (a command in a script) has no control
//! group any more when journald looks. Apps that open their output by name get pipes, see [`relay`].

use oci_spec::runtime::Spec;
use pod::launch::Launcher;
use pod::users::IdRange;
use pod::{AppName, PodId, unit};
use rustix::fs::{Gid, Uid};
use rustix::stdio;
use sys::journal_stream::{self, Priority};

use crate::control_group;
use crate::failure::StepError;
use crate::relay::{self, Pipes, RelayError};

/// The output could not be connected, or not given to the app.
#[derive(Debug, thiserror::Error)]
#[error("connect the app's output")]
pub struct OutputError(#[source] std::io::Error);

impl StepError for OutputError {}

/// The pipes of an app that opens its output by name, if that output is the journal; the relay is then at work.
pub fn pipes(
    config: &Spec,
    pod: PodId,
    app: &AppName,
    launcher: Launcher,
) -> Result<Option<Pipes>, RelayError> {
    let is_stream =
        || journal_stream::is_stream(stdio::stdout()) && journal_stream::is_stream(stdio::stderr());
    let wanted = relay::wanted(config) && (launcher == Launcher::Units || is_stream());
    wanted.then(|| relay::start(app.as_str(), &unit_of(pod, app, launcher))).transpose()
}

/// Connects the calling process's stdout and stderr. To be called in the control group and the control group namespace
/// of the launcher.
pub fn connect(
    pod: PodId,
    app: &AppName,
    launcher: Launcher,
    pipes: Option<&Pipes>,
) -> Result<(), OutputError> {
    let connected = match pipes {
        Some(pipes) => pipes.install(),
        None => connect_outputs(app.as_str(), &unit_of(pod, app, launcher), launcher),
    };
    connected.map_err(|e| OutputError(e.into()))
}

/// Gives pipes that are the calling process's stdout and stderr, and those that will be the app's, to the root of the pod's
/// user namespace, from where [`give_to`] passes them on: what belongs to somebody outside cannot be given away inside.
pub fn give_to_root(range: IdRange, pipes: Option<&Pipes>) -> Result<(), OutputError> {
    give_to(range.first, range.first)?;
    pipes.map_or(Ok(()), |pipes| pipes.give_to(range.first, range.first)).map_err(|e| OutputError(e.into()))
}

/// Gives pipes that are the calling process's stdout and stderr to the app's user: as `/dev/stdout` they are opened anew,
/// and that is a matter of their owner and mode. Terminals and files stay whose they are.
pub fn give_to(uid: u32, gid: u32) -> Result<(), OutputError> {
    const PIPEFS_MAGIC: u64 = 0x5049_5045;
    for output in [stdio::stdout(), stdio::stderr()] {
        let is_pipe = rustix::fs::fstatfs(output).is_ok_and(|s| u64::try_from(s.f_type) == Ok(PIPEFS_MAGIC));
        if is_pipe {
            rustix::fs::fchown(output, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|e| OutputError(e.into()))?;
        }
    }
    Ok(())
}

fn unit_of(pod: PodId, app: &AppName, launcher: Launcher) -> String {
    match launcher {
        Launcher::Units => unit::app(pod, app),
        // Without a unit to name, journald still finds that of every process that lives long enough.
        Launcher::Direct => control_group::unit_of_self().unwrap_or_default(),
    }
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
