//! The help, from the tables of commands and flags, in rkt's layout.

use std::io::{self, Write};

use super::GLOBAL_FLAGS;
use super::command::{Command, Grammar};
use super::flag::{Flag, Takes};
use super::table::COMMANDS;
use crate::table;

/// Explains the program, or a group of commands.
pub(crate) fn overview(group: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let name = group.map_or_else(|| "rkt".to_owned(), |group| format!("rkt {group}"));
    let summary = if group.is_some() {
        "Operate on images in the local store"
    } else {
        "rkt, the application container runner"
    };
    write!(out, "NAME:\n\t{name} - {summary}\n\nUSAGE:\n\t{name} [command]\n\n")?;
    if group.is_none() {
        write!(out, "VERSION:\n\t{}\n\n", env!("CARGO_PKG_VERSION"))?;
    }
    writeln!(out, "COMMANDS:")?;
    let mut rows = Vec::new();
    for command in COMMANDS.iter().filter(|c| c.grammar != Grammar::Hidden) {
        let shown = match (command.name.split_once(' '), group) {
            (Some((of, name)), Some(group)) if of == group => name,
            (None, None) => command.name,
            (Some((of, _)), None)
                if rows.iter().all(|row: &Vec<String>| row.get(1).is_none_or(|n| n != of)) =>
            {
                rows.push(vec![
                    String::new(),
                    of.to_owned(),
                    "Operate on images in the local store".to_owned(),
                ]);
                continue;
            }
            _ => continue,
        };
        rows.push(vec![String::new(), shown.to_owned(), command.summary.to_owned()]);
    }
    out.write_all(table::aligned(&rows).as_bytes())?;
    let text = match group {
        None => {
            "A command-line tool to prepare and run containers. Flags may stand before or after the command, and a\n\
             command's name may be shortened as long as it is unambiguous. \"rkt help COMMAND\" explains a command."
        }
        Some(_) => "\"rkt help image COMMAND\" explains a command.",
    };
    write!(out, "\nDESCRIPTION:\n{}\n\nGLOBAL OPTIONS:\n", indented(text))?;
    flags(GLOBAL_FLAGS, out)
}

/// Explains a command.
pub(crate) fn command(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let name = command.name;
    write!(out, "NAME:\n\trkt {name} - {}\n\n", command.summary)?;
    let usage = format!("rkt {name} [flags] {}", command.arguments);
    write!(out, "USAGE:\n\t{}\n\n", usage.trim_end())?;
    if !command.description.is_empty() {
        write!(out, "DESCRIPTION:\n{}\n\n", indented(&table::wrapped(command.description, 96)))?;
    }
    let mut own: Vec<Flag> = command.flags.iter().flat_map(|flags| flags.iter().copied()).collect();
    own.sort_by_key(|flag| flag.name);
    if !own.is_empty() {
        writeln!(out, "OPTIONS:")?;
        flags(&own, out)?;
        writeln!(out)?;
    }
    writeln!(out, "GLOBAL OPTIONS:")?;
    flags(GLOBAL_FLAGS, out)
}

/// Three spaces, the flag with its default, a tab, what it does. Flags that are refused are not offered.
fn flags(flags: &[Flag], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> = flags
        .iter()
        .filter(|flag| !matches!(flag.takes, Takes::Refused(_)) && !flag.help.starts_with("deprecated"))
        .map(|flag| vec![format!("   {}", usage(flag)), flag.help.to_owned()])
        .collect();
    out.write_all(table::aligned(&rows).as_bytes())
}

fn usage(flag: &Flag) -> String {
    match flag.takes {
        Takes::Switch if flag.name == "pretty-print" => format!("--{}=true", flag.name),
        Takes::Switch | Takes::Refused(_) => format!("--{}=false", flag.name),
        Takes::Value(default) => format!("--{}=\"{default}\"", flag.name),
        Takes::Values => format!("--{}=", flag.name),
        Takes::Optional(_) => format!("--{}[=…]", flag.name),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("\t{line}")).collect::<Vec<_>>().join("\n")
}
