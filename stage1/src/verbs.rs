//! The five verbs: what every stage1's `main` does with its arguments, `docs/stage1.md`.
//!
//! [`run`] checks the interface version, parses, opens the pod, calls the verb, and turns what comes back into a status
//! and a sentence on stderr.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use pod::stage1::{ENV_INTERFACE_VERSION, INTERFACE_VERSION, Verb};
use pod::{AppName, PodDir};

use crate::failure::Failure;

/// A stage1: how it isolates.
pub trait Stage1 {
    /// Makes the sandbox.
    fn up(&self, pod: &PodDir) -> Result<(), Failure>;
    /// Makes an attempt and becomes the app; returns when the app runs, as a process of the launcher's.
    fn app(&self, pod: &PodDir, app: &AppName) -> Result<(), Failure>;
    /// Runs a command beside an app; returns the status to exit with.
    fn enter(&self, pod: &PodDir, app: &AppName, entry: &Entry) -> Result<u8, Failure>;
    /// Sends a signal to the apps.
    fn stop(&self, pod: &PodDir, stop: &Stop) -> Result<(), Failure>;
    /// Releases everything.
    fn down(&self, pod: &PodDir) -> Result<(), Failure>;
}

/// What `enter` shall run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Whether the command gets a terminal of its own.
    pub terminal: Terminal,
    /// Another user than the app's, as in the annotation `rkt/user`.
    pub user: Option<String>,
    /// Another group, likewise.
    pub group: Option<String>,
    /// The command and its arguments; not empty.
    pub command: Vec<String>,
}

/// What the command's standard descriptors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Terminal {
    /// Those of the caller.
    #[default]
    Inherited,
    /// A terminal of the app's own.
    Own,
}

/// What `stop` shall do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stop {
    /// Only this app.
    pub app: Option<AppName>,
    /// Another signal than the app's stop signal.
    pub signal: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Up,
    App(AppName),
    Enter(AppName, Entry),
    Stop(Stop),
    Down,
}

const USAGE: &str = "usage: up POD | app POD APP | enter POD APP [--tty] [--user U] [--group G] -- CMD… \
                     | stop POD [APP] [--signal S] [--force] | down POD";

/// Runs the verb that the arguments name.
pub fn run(stage1: &impl Stage1) -> ExitCode {
    match call(stage1) {
        Ok(status) => status.into(),
        Err(failure) => {
            // Nobody to tell: the status still says it.
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.status().into()
        }
    }
}

fn call(stage1: &impl Stage1) -> Result<u8, Failure> {
    check_version(std::env::var_os(ENV_INTERFACE_VERSION).as_deref())?;
    let arguments = std::env::args_os().skip(1).map(OsString::into_string).collect::<Result<Vec<_>, _>>();
    let arguments = arguments.map_err(|a| Failure::other(format!("the argument {a:?} is not UTF-8")))?;
    let (pod, call) = parse(&arguments).map_err(Failure::other)?;
    let pod = PodDir::open(std::path::Path::new(&pod))?;
    match call {
        Call::Up => stage1.up(&pod).map(|()| 0),
        Call::App(app) => stage1.app(&pod, &app).map(|()| 0),
        Call::Enter(app, entry) => stage1.enter(&pod, &app, &entry),
        Call::Stop(stop) => stage1.stop(&pod, &stop).map(|()| 0),
        Call::Down => stage1.down(&pod).map(|()| 0),
    }
}

fn check_version(version: Option<&std::ffi::OsStr>) -> Result<(), Failure> {
    let spoken = INTERFACE_VERSION.to_string();
    match version {
        Some(version) if version == spoken.as_str() => Ok(()),
        Some(version) => Err(Failure::other(format!(
            "the caller speaks version {version:?} of the stage1 interface, this stage1 speaks {spoken}"
        ))),
        None => Err(Failure::other(format!("{ENV_INTERFACE_VERSION} is not set: a stage1 is called by rkt"))),
    }
}

fn parse(arguments: &[String]) -> Result<(String, Call), String> {
    let mut arguments = arguments.iter().map(String::as_str);
    let verb = arguments.next().ok_or(USAGE)?;
    let all = [Verb::Up, Verb::App, Verb::Enter, Verb::Stop, Verb::Down];
    let verb =
        all.into_iter().find(|v| v.as_str() == verb).ok_or_else(|| format!("no verb {verb:?}; {USAGE}"))?;
    let pod = arguments.next().ok_or(USAGE)?.to_owned();
    let call = match verb {
        Verb::Up => Call::Up,
        Verb::Down => Call::Down,
        Verb::App => Call::App(app_name(arguments.next())?),
        Verb::Enter => Call::Enter(app_name(arguments.next())?, parse_entry(&mut arguments)?),
        Verb::Stop => Call::Stop(parse_stop(&mut arguments)?),
    };
    match arguments.next() {
        None => Ok((pod, call)),
        Some(extra) => Err(format!("unexpected argument {extra:?}; {USAGE}")),
    }
}

fn app_name(text: Option<&str>) -> Result<AppName, String> {
    text.ok_or(USAGE)?.parse().map_err(|e: pod::InvalidName| e.to_string())
}

fn parse_entry<'a>(arguments: &mut impl Iterator<Item = &'a str>) -> Result<Entry, String> {
    let mut entry = Entry::default();
    while let Some(argument) = arguments.next() {
        match argument {
            "--tty" => entry.terminal = Terminal::Own,
            "--user" => entry.user = Some(arguments.next().ok_or(USAGE)?.to_owned()),
            "--group" => entry.group = Some(arguments.next().ok_or(USAGE)?.to_owned()),
            "--" => {
                entry.command = arguments.map(str::to_owned).collect();
                break;
            }
            other => return Err(format!("unexpected argument {other:?}; {USAGE}")),
        }
    }
    if entry.command.is_empty() { Err(format!("no command; {USAGE}")) } else { Ok(entry) }
}

fn parse_stop<'a>(arguments: &mut impl Iterator<Item = &'a str>) -> Result<Stop, String> {
    let mut stop = Stop::default();
    while let Some(argument) = arguments.next() {
        match argument {
            "--force" => stop.signal = pod::signal::number("KILL"),
            "--signal" => {
                let text = arguments.next().ok_or(USAGE)?;
                stop.signal = Some(pod::signal::number(text).ok_or_else(|| format!("no signal {text:?}"))?);
            }
            name if stop.app.is_none() && !name.starts_with('-') => stop.app = Some(app_name(Some(name))?),
            other => return Err(format!("unexpected argument {other:?}; {USAGE}")),
        }
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(String, Call), String> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn verbs() {
        let web: AppName = "web".parse().unwrap();
        assert_eq!(parsed("up /p").unwrap(), ("/p".to_owned(), Call::Up));
        assert_eq!(parsed("app /p web").unwrap().1, Call::App(web.clone()));
        let entry = Entry {
            terminal: Terminal::Own,
            user: Some("1".to_owned()),
            group: None,
            command: vec!["sh".to_owned(), "--tty".to_owned()],
        };
        assert_eq!(
            parsed("enter /p web --user 1 --tty -- sh --tty").unwrap().1,
            Call::Enter(web.clone(), entry)
        );
        let stop = Stop { app: Some(web), signal: Some(9) };
        assert_eq!(parsed("stop /p web --force").unwrap().1, Call::Stop(stop.clone()));
        assert_eq!(parsed("stop /p --signal KILL web").unwrap().1, Call::Stop(stop));
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for bad in [
            "",
            "up",
            "down",
            "app /p",
            "app /p ../x",
            "enter /p web",
            "enter /p web --",
            "up /p x",
            "enter /p web sh",
            "stop /p --signal NOPE",
            "stop /p a b",
            "fly /p",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_version_that_is_spoken() {
        assert!(check_version(Some("1".as_ref())).is_ok());
        for bad in [Some("2"), Some(""), Some("1.0"), None] {
            assert_eq!(check_version(bad.map(AsRef::as_ref)).unwrap_err().status(), 254);
        }
    }
}
