//! Commands: one table entry each, and how a command line is taken apart.
//!
//! As rkt 1.30: a command's flags may stand before its word (`rkt --net=host run …`), an unambiguous beginning of a
//! command's name will do (`rkt li`), and some commands stop looking for flags at their first other word.

use super::flag::{self, Flag, FlagError, Given, Step};
use super::{GLOBAL_FLAGS, Words, gone};

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    /// One or two words: `list`, `image list`.
    pub(crate) name: &'static str,
    /// What follows the name on a usage line.
    pub(crate) arguments: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// Paragraphs.
    pub(crate) description: &'static str,
    /// Its flags, in groups that commands share.
    pub(crate) flags: &'static [&'static [Flag]],
    /// How its words are read.
    pub(crate) grammar: Grammar,
    /// Whether it refuses to do anything for users other than root.
    pub(crate) access: Access,
    /// What it does; the result is the exit status.
    pub(crate) run: fn(&Invocation) -> anyhow::Result<u8>,
}

/// How a command's words are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// Flags may stand anywhere before `--`.
    Mixed,
    /// The first word that is no flag ends the flags; the rest is for the command.
    FlagsFirst,
    /// Not in the help: for other programs. Flags may stand anywhere.
    Hidden,
}

/// Who may call a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever may read or write the files it touches.
    Anybody,
    /// Root; checked before anything else.
    Root,
}

/// A command line, taken apart.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Which command.
    pub(crate) command: &'static Command,
    /// Its flags.
    pub(crate) flags: Given,
    /// Everything else.
    pub(crate) words: Vec<String>,
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Run a command.
    Run(Invocation),
    /// Explain a command.
    Help(&'static Command),
    /// Explain the program, or a group of commands such as `image`.
    Overview(Option<&'static str>),
    /// Nothing: no command was given.
    Nothing,
}

/// The command line cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("unknown command {0:?} (see \"rkt help\")")]
    Unknown(String),
    #[error("\"rkt {name}\" is not supported: {reason}")]
    Gone { name: String, reason: &'static str },
    #[error(transparent)]
    Flag(#[from] FlagError),
}

impl RequestError {
    fn unknown(name: String) -> Self {
        match gone::reason(&name) {
            Some(reason) => Self::Gone { name, reason },
            None => Self::Unknown(name),
        }
    }
}

impl Invocation {
    /// Refuses words after a command that takes none: `rkt gc UUID` does not mean that pod.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.words.first() {
            Some(word) if self.command.arguments.is_empty() => {
                anyhow::bail!("unexpected argument {word:?} (see --help)")
            }
            _ => Ok(()),
        }
    }
}

impl Command {
    /// The last word of the name: the prefix of its messages.
    pub(crate) fn leaf(&self) -> &'static str {
        self.name.rsplit(' ').next().unwrap_or(self.name)
    }

    fn group(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or(self.name)
    }

    fn tables(&self) -> Vec<&'static [Flag]> {
        self.flags.iter().copied().chain([GLOBAL_FLAGS]).collect()
    }
}

/// A command line's command, once that is known, and what is asked of it.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The command that the words name. `None`: they name none, or ask for help.
    pub(crate) command: Option<&'static Command>,
    /// What is asked for, or what is wrong with the command's flags.
    pub(crate) request: Result<Request, FlagError>,
}

/// Takes a command line apart.
pub(crate) fn parse(mut args: Vec<String>, commands: &'static [Command]) -> Result<Parsed, RequestError> {
    let other = |request| Parsed { command: None, request };
    let Some(word) = take_word(&mut args, commands) else { return Ok(other(without_command(args))) };
    if word == "help" {
        return help(&args, commands).map(|request| other(Ok(request)));
    }
    let visible = commands.iter().filter(|c| c.grammar != Grammar::Hidden).map(Command::group);
    let hidden = || commands.iter().map(Command::group).find(|group| *group == word);
    let group =
        complete(&word, visible).or_else(hidden).ok_or_else(|| RequestError::unknown(word.clone()))?;
    let mut members = commands.iter().filter(|c| c.group() == group);
    if let Some(command) = members.clone().find(|c| c.name == group) {
        return Ok(Parsed { command: Some(command), request: invocation(command, args) });
    }
    let Some(word) = take_word(&mut args, commands) else {
        return Ok(other(Ok(Request::Overview(Some(group)))));
    };
    let leaf = complete(&word, members.clone().map(Command::leaf));
    let command = leaf.and_then(|leaf| members.find(|c| c.leaf() == leaf));
    let command = command.ok_or_else(|| RequestError::unknown(format!("{group} {word}")))?;
    Ok(Parsed { command: Some(command), request: invocation(command, args) })
}

/// Only flags: the global ones, there being no command.
fn without_command(args: Vec<String>) -> Result<Request, FlagError> {
    let mut words: Words = args.into_iter();
    while let Some(step) = flag::next(&mut words, &[GLOBAL_FLAGS])? {
        if step == Step::Help {
            return Ok(Request::Overview(None));
        }
    }
    Ok(Request::Nothing)
}

fn help(args: &[String], commands: &'static [Command]) -> Result<Request, RequestError> {
    let words: Vec<&str> = args.iter().map(String::as_str).filter(|a| !a.starts_with('-')).collect();
    if words.is_empty() {
        return Ok(Request::Overview(None));
    }
    let name = words.join(" ");
    let visible = || commands.iter().filter(|c| c.grammar != Grammar::Hidden);
    let group = visible().map(Command::group).find(|g| *g == name);
    match (complete(&name, visible().map(|c| c.name)), group) {
        (Some(name), _) => visible()
            .find(|c| c.name == name)
            .map(Request::Help)
            .ok_or(RequestError::Unknown(name.to_owned())),
        (None, Some(group)) => Ok(Request::Overview(Some(group))),
        (None, None) => Err(RequestError::unknown(name)),
    }
}

/// Reads a command's flags and words.
fn invocation(command: &'static Command, args: Vec<String>) -> Result<Request, FlagError> {
    let tables = command.tables();
    let (mut flags, mut words) = (Given::default(), Vec::new());
    let mut rest: Words = args.into_iter();
    while let Some(step) = flag::next(&mut rest, &tables)? {
        match step {
            Step::Help => return Ok(Request::Help(command)),
            Step::Flag(name, value) => flags.push(name, value),
            Step::Dashes => break,
            Step::Word(word) => {
                words.push(word);
                if command.grammar == Grammar::FlagsFirst {
                    break;
                }
            }
        }
    }
    words.extend(rest);
    Ok(Request::Run(Invocation { command, flags, words }))
}

/// Takes out the first word that is neither a flag nor a flag's value.
fn take_word(args: &mut Vec<String>, commands: &'static [Command]) -> Option<String> {
    find_word(args, commands).map(|at| args.remove(at))
}

/// Where that word is. Which flags take a value is asked of all commands: which command it is, is not known yet.
fn find_word(args: &[String], commands: &'static [Command]) -> Option<usize> {
    let all = || commands.iter().flat_map(|c| c.flags.iter().copied()).chain([GLOBAL_FLAGS]).flatten();
    let mut words = args.iter().enumerate();
    while let Some((at, word)) = words.next() {
        match word.strip_prefix("--") {
            Some("") => return None,
            Some(flag) if all().any(|f| f.name == flag && f.takes_next_word()) => {
                let _value = words.next();
            }
            None if !word.starts_with('-') => return Some(at),
            _ => {}
        }
    }
    None
}

/// The name that `word` is, or is the only beginning of.
fn complete(word: &str, names: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    if let Some(exact) = names.clone().find(|name| *name == word) {
        return Some(exact);
    }
    let mut matches: Vec<&str> = names.filter(|name| name.starts_with(word)).collect();
    matches.dedup();
    match matches.as_slice() {
        [one] => Some(one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::COMMANDS;

    fn parsed(words: &[&str]) -> Result<(String, Invocation), String> {
        let args = words.iter().map(|w| (*w).to_owned()).collect();
        let Parsed { command, request } = parse(args, COMMANDS).map_err(|e| e.to_string())?;
        match request.map_err(|e| e.to_string())? {
            Request::Run(invocation) => Ok((command.unwrap().name.to_owned(), invocation)),
            other => Err(format!("{other:?}").split('(').next().unwrap().to_owned()),
        }
    }

    #[test]
    fn flags_may_stand_before_the_command() {
        for words in [
            &["--net=host", "--debug", "run", "a", "--exec=/x"][..],
            &["--dir", "/d", "--debug", "--net=host", "run", "a", "--exec=/x"],
            &["run", "--net=host", "--debug", "a", "--exec=/x"],
        ] {
            let (name, invocation) = parsed(words).unwrap();
            assert_eq!((name.as_str(), invocation.flags.value("net")), ("run", Some("host")), "{words:?}");
            // The rest is for the parser of images.
            assert_eq!(invocation.words, ["a", "--exec=/x"]);
        }
        assert_eq!(parsed(&["--quiet", "prepare", "x"]).unwrap().0, "prepare");
        assert_eq!(parsed(&["--pull-policy", "new", "fetch", "x"]).unwrap().0, "fetch");
    }

    #[test]
    fn beginnings_of_names() {
        let table = [
            ("li", "list"),
            ("prep", "prepare"),
            ("run", "run"),
            ("run-", "run-prepared"),
            ("sta", "status"),
            ("v", "version"),
        ];
        for (word, name) in table {
            assert_eq!(parsed(&[word]).unwrap().0, name);
        }
        assert_eq!(parsed(&["im", "li"]).unwrap().0, "image list");
        assert_eq!(parsed(&["unit", "ended", "a", "b"]).unwrap().0, "unit ended");
        for unknown in [&["r"][..], &["st"], &["uni"], &["nope"], &["image", "nope"], &["--debug", "x"]] {
            assert!(parsed(unknown).unwrap_err().contains("unknown command"), "{unknown:?}");
        }
    }

    #[test]
    fn commands_that_rkt_had_are_not_just_unknown() {
        for words in [&["attach", "x"][..], &["app", "list"], &["completion", "bash"], &["help", "config"]] {
            assert!(parsed(words).unwrap_err().contains("is not supported: "), "{words:?}");
        }
        assert!(COMMANDS.iter().all(|c| gone::reason(c.name).is_none()));
    }

    #[test]
    fn an_empty_data_directory_is_the_default_not_the_current_one() {
        for words in [&["list"][..], &["list", "--dir="]] {
            assert_eq!(parsed(words).unwrap().1.data_path(), std::path::Path::new("/var/lib/rkt"));
        }
    }

    #[test]
    fn a_word_too_many_is_not_ignored() {
        assert!(parsed(&["gc", "12345678"]).unwrap().1.check().unwrap_err().to_string().contains("12345678"));
        assert!(parsed(&["gc"]).unwrap().1.check().is_ok());
        assert!(parsed(&["rm", "12345678"]).unwrap().1.check().is_ok());
    }

    #[test]
    fn help_and_nothing() {
        assert_eq!(parsed(&[]).unwrap_err(), "Nothing");
        for words in [&["help"][..], &["--help"], &["image"], &["help", "image"]] {
            assert_eq!(parsed(words).unwrap_err(), "Overview", "{words:?}");
        }
        for words in [&["help", "run"][..], &["run", "--help"], &["list", "-h"], &["help", "image", "rm"]] {
            assert!(parsed(words).unwrap_err().starts_with("Help"), "{words:?}");
        }
    }

    #[test]
    fn a_flag_has_one_grammar_whatever_the_command() {
        let all = || COMMANDS.iter().flat_map(|c| c.flags.iter().copied()).chain([GLOBAL_FLAGS]).flatten();
        for flag in all() {
            let same =
                all().filter(|f| f.name == flag.name).all(|f| f.takes_next_word() == flag.takes_next_word());
            assert!(same, "--{}", flag.name);
        }
        for command in COMMANDS {
            let mut names: Vec<_> = command.tables().concat().iter().map(|f| f.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", command.name);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_a_request_or_an_error(
            words in proptest::collection::vec("(--)?[a-z=-]{0,6}|run|image|list|--net|--dir|--|---", 0..6),
        ) {
            let _ = parse(words, COMMANDS);
        }
    }
}
