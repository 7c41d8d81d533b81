//! The command line: the table of commands, and what happens before and after one of them.

mod apps;
mod cat_manifest;
mod command;
mod enter;
mod fetch;
mod flag;
mod gc;
mod global;
mod gone;
mod help;
mod image;
mod launch_flags;
mod list;
mod logs;
#[cfg(test)]
mod manual;
mod pod_flags;
mod pods;
mod prepare;
mod rm;
mod run;
mod run_prepared;
mod status;
mod stop;
mod table;
mod trust;
mod unit;
mod values;
mod version;

use std::ffi::OsString;

use command::{Access, Command, Invocation, Parsed, Request};
use global::GLOBAL_FLAGS;

use crate::exit::{self, Log};

/// The words of a command line that have not been read yet.
type Words = std::vec::IntoIter<String>;

/// Runs the command that the arguments ask for. The result is the exit status.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> u8 {
    let log = Log { prefix: "rkt", debug: false };
    let args: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let args = match args {
        Ok(args) => args,
        Err(odd) => {
            log.say(format_args!("the argument {odd:?} is not valid UTF-8"));
            return exit::FAILURE;
        }
    };
    match command::parse(args, table::COMMANDS) {
        Err(e) => fail(log, e),
        Ok(Parsed { command, request: Err(e) }) => match command {
            // As rkt: whoever may not use a command is told so first.
            Some(command) if is_barred(command) => refuse(command),
            Some(command) => fail(Log { prefix: command.leaf(), ..log }, e),
            None => fail(log, e),
        },
        Ok(Parsed { request: Ok(request), .. }) => answer(request, log),
    }
}

fn answer(request: Request, log: Log) -> u8 {
    let printed = match request {
        Request::Run(invocation) if is_barred(invocation.command) => return refuse(invocation.command),
        Request::Run(invocation) => return run(&invocation),
        Request::Nothing => {
            log.say("missing command");
            return help::overview(None, &mut std::io::stderr()).map_or(exit::FAILURE, |()| exit::NO_COMMAND);
        }
        Request::Help(command) => help::command(command, &mut std::io::stdout()),
        Request::Overview(group) => help::overview(group, &mut std::io::stdout()),
    };
    match printed {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => fail(log, e),
        _ => exit::SUCCESS,
    }
}

fn run(invocation: &Invocation) -> u8 {
    for sentence in invocation.flags.deprecations(invocation.command.flags) {
        invocation.log().say(sentence);
    }
    match invocation.check().and_then(|()| (invocation.command.run)(invocation)) {
        Ok(status) => status,
        Err(e) if is_closed_pipe(&e) => exit::SUCCESS,
        Err(e) => {
            invocation.log().error(&e);
            exit::status(&e)
        }
    }
}

/// Nobody reads what we print any more (`rkt list | head -1`): that is how pipes end, not a failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn is_barred(command: &Command) -> bool {
    command.access == Access::Root && !rustix::process::geteuid().is_root()
}

fn refuse(command: &Command) -> u8 {
    Log { prefix: command.leaf(), debug: false }.say("cannot run as unprivileged user");
    exit::FAILURE
}

fn fail(log: Log, error: impl std::error::Error + Send + Sync + 'static) -> u8 {
    log.error(&anyhow::Error::new(error));
    exit::FAILURE
}
