//! The manual page, from the tables of commands and flags: `dist/man/rkt.1`.
//!
//! Only built for tests: the page is part of the source tree, and a test keeps it true.
//! `UPDATE_GOLDEN=1 cargo test -p stage0 manual` writes it anew.

use std::path::Path;

use super::GLOBAL_FLAGS;
use super::command::{Command, Grammar};
use super::flag::{Flag, Takes};
use super::table::COMMANDS;

const HEAD: &str = r#".\" Made from the tables in stage0/src/cli by a test; see stage0/src/cli/manual.rs.
.TH RKT 1 "" "rktnetes" "User Commands"
.SH NAME
rkt \- prepare and run containers without a daemon
.SH SYNOPSIS
.B rkt
[\fIflags\fR] \fIcommand\fR [\fIarguments\fR]
.SH DESCRIPTION
.B rkt
fetches images, prepares pods and runs them. It is run and gone: nothing of it stays in memory for a pod that systemd
runs, and \fBrkt run\fR ends with its pod. Everything that is known about a pod is in its directory.
.PP
Flags are written \fB\-\-name=value\fR or \fB\-\-name value\fR and may stand before or after the command. A command's name
may be shortened as long as it is unambiguous. Images' ids are \fBsha256\-\fR and the digest of the image's manifest.
"#;

const TAIL: &str = r#".SH EXIT STATUS
.TP
0
Success; of \fBrun\fR and \fBrun\-prepared\fR: every app has succeeded.
.TP
2
No command was given.
.TP
254
Failure. A sentence on standard error says what failed; \fB\-\-debug\fR shows all causes.
.PP
\fBrun\fR and \fBrun\-prepared\fR end with the status of the first app that failed, 128+n for signal n; 200, 203, 217
and 226 say that an app could not be started, as in \fBsystemd.exec\fR(5). \fBenter\fR ends with the command's status.
.SH FILES
.TP
.I /var/lib/rkt
The data directory: images in \fIcas\fR, pods in \fIpods\fR.
.TP
.I /usr/lib/rkt/stage1
Isolators: executables named \fIstage1\-NAME\fR. Those beside \fBrkt\fR itself come first.
.TP
.I /etc/rkt/auth.d
Credentials for registries (\fBdockerAuth\fR).
.SH SEE ALSO
.BR systemd.exec (5),
.BR journalctl (1)
"#;

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(".SH COMMANDS\n");
    for command in COMMANDS.iter().filter(|c| c.grammar != Grammar::Hidden) {
        page.push_str(&section(command));
    }
    page.push_str(".SH GLOBAL FLAGS\n");
    page.extend(GLOBAL_FLAGS.iter().map(entry));
    page.push_str(TAIL);
    page
}

fn section(command: &Command) -> String {
    let usage = format!("{} {}", command.name, command.arguments);
    let mut text = format!(".SS rkt {}\n{}.\n", escaped(usage.trim_end()), escaped(command.summary));
    if !command.description.is_empty() {
        text.push_str(&format!("{}\n", escaped(command.description)));
    }
    let mut flags: Vec<&Flag> = command.flags.iter().copied().flatten().collect();
    flags.retain(|flag| !matches!(flag.takes, Takes::Refused(_)) && !flag.help.starts_with("deprecated"));
    flags.sort_by_key(|flag| flag.name);
    text.extend(flags.into_iter().map(entry));
    text
}

fn entry(flag: &Flag) -> String {
    let value = match flag.takes {
        Takes::Switch | Takes::Refused(_) => String::new(),
        Takes::Value("") | Takes::Values => "=\\fIVALUE\\fR".to_owned(),
        Takes::Value(default) => format!("=\\fI{}\\fR", escaped(default)),
        Takes::Optional(_) => "[=\\fIVALUE\\fR]".to_owned(),
    };
    format!(".TP\n\\fB\\-\\-{}\\fR{value}\n{}\n", escaped(flag.name), escaped(flag.help))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace('\'', "\\(aq")
}

#[test]
fn the_manual_page_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/man/rkt.1");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(page == expected, "dist/man/rkt.1 is out of date: UPDATE_GOLDEN=1 cargo test -p stage0 manual");
    assert!(page.lines().all(|line| !line.starts_with('\'')), "a line that roff takes for a command");
}
