//! Boots a throwaway systemd node, runs a command in it, and removes the node.
//!
//! ```text
//! node [--kind hybrid|unified|vm|host] [--network own|machine] [--bind SRC[:DST]]... -- COMMAND [ARG...]
//! ```
//!
//! The command has the caller's stdin, stdout and stderr, or a terminal if the caller has one. Exits with
//! the command's status (128 + N for signal N), 64 for a wrong usage, 70 if the node does not boot.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::{Bind, Kind, Network, Node, Options, Status, terminal};

/// What was asked for on the command line.
struct Plan {
    kind: Option<Kind>,
    options: Options,
    command: Vec<String>,
}

fn main() -> ExitCode {
    let plan = match parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(e) => return complain(&e, 64),
    };
    match run(&plan) {
        Ok(Status::Exited(code)) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        Ok(Status::Signaled(signal)) => ExitCode::from(u8::try_from(128 + (signal & 0x7f)).unwrap_or(1)),
        Ok(Status::Unknown) => complain(&anyhow::anyhow!("the command's end is not known"), 70),
        Err(e) => complain(&e, 70),
    }
}

fn run(plan: &Plan) -> Result<Status> {
    let kind = plan.kind.map_or_else(Kind::native, Ok)?;
    let node = Node::boot_with(kind, &plan.options)?;
    let argv: Vec<&str> = plan.command.iter().map(String::as_str).collect();
    let mut command = node.command(&argv);
    if let Ok(term) = std::env::var("TERM") {
        command = command.env("TERM", &term);
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    terminal::attach(command, terminal)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan> {
    let mut plan = Plan { kind: None, options: Options::default(), command: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--kind" => plan.kind = Some(kind(&value()?)?),
            "--bind" => plan.options.binds.push(bind(&value()?)),
            "--network" => plan.options.network = network(&value()?)?,
            "--" => plan.command = arguments.by_ref().collect(),
            _ => bail!("unknown argument {argument:?}"),
        }
    }
    if plan.command.is_empty() {
        bail!(
            "usage: node [--kind hybrid|unified|vm|host] [--network own|machine] [--bind SRC[:DST]]... -- COMMAND [ARG...]"
        );
    }
    Ok(plan)
}

fn kind(name: &str) -> Result<Kind> {
    Ok(match name {
        "hybrid" => Kind::Hybrid,
        "unified" => Kind::Unified,
        "vm" => Kind::Vm,
        "host" => Kind::Host,
        _ => bail!("unknown kind of node {name:?}"),
    })
}

fn network(name: &str) -> Result<Network> {
    match name {
        "own" => Ok(Network::Own),
        "machine" => Ok(Network::Machine),
        _ => bail!("unknown network {name:?}"),
    }
}

/// Writable, because whoever binds a directory by hand wants something back from it.
fn bind(text: &str) -> Bind {
    let (source, target) = text.split_once(':').unwrap_or((text, text));
    Bind { source: source.into(), target: target.into(), writable: true }
}

fn complain(error: &anyhow::Error, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "node: {error:#}");
    ExitCode::from(status)
}
