//! Flags: one table entry each, from which the parser, the help and the manual page are made.
//!
//! The grammar is pflag's, which rkt's users and scripts know: `--name=value` or `--name value`; a switch is
//! `--name`, `--name=true` or `--name=false`; a flag with an implied value takes another one only after `=`; `--` ends
//! the flags. There are no short flags but `-h`.

use super::Words;

/// A flag that a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Without the dashes.
    pub(crate) name: &'static str,
    /// What follows the name.
    pub(crate) takes: Takes,
    /// What it does, one line; with [`Takes::Refused`], why it is refused.
    pub(crate) help: &'static str,
}

/// What follows a flag's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true` or `=false`.
    Switch,
    /// A value; the default is shown in the help.
    Value(&'static str),
    /// A value; may be given several times.
    Values,
    /// `=value`, or nothing, which means this.
    Optional(&'static str),
    /// rkt 1.30 had it, this version does not: with a value or without.
    Refused(Refused),
}

/// How rkt 1.30 read a flag that we refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was a switch.
    Switch,
    /// It took a value.
    Value,
}

/// The words are not what a flag table allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    #[error("unknown flag: --{0} (see --help)")]
    Unknown(String),
    #[error("unknown shorthand flag: {0:?} (see --help)")]
    Short(String),
    #[error("flag needs an argument: --{0}")]
    NoValue(&'static str),
    #[error("invalid argument {value:?} for --{name}: it is true or false")]
    NotBool { name: &'static str, value: String },
    #[error("--{name} is not supported: {why}")]
    Refused { name: &'static str, why: &'static str },
}

/// The flags that were given, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given(Vec<(&'static str, String)>);

/// One step through the words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A flag and its value.
    Flag(&'static str, String),
    /// Not a flag.
    Word(String),
    /// `--`
    Dashes,
    /// `-h` or `--help`
    Help,
}

pub(crate) const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, takes: Takes::Switch, help }
}

pub(crate) const fn value(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, takes: Takes::Value(default), help }
}

pub(crate) const fn values(name: &'static str, help: &'static str) -> Flag {
    Flag { name, takes: Takes::Values, help }
}

pub(crate) const fn optional(name: &'static str, implied: &'static str, help: &'static str) -> Flag {
    Flag { name, takes: Takes::Optional(implied), help }
}

pub(crate) const fn refused(name: &'static str, how: Refused, why: &'static str) -> Flag {
    Flag { name, takes: Takes::Refused(how), help: why }
}

impl Flag {
    /// Whether the next word belongs to a flag that was written without `=`.
    pub(crate) fn takes_next_word(&self) -> bool {
        matches!(self.takes, Takes::Value(_) | Takes::Values | Takes::Refused(Refused::Value))
    }
}

impl Flag {
    /// What to say to whoever uses a flag that has a successor.
    fn deprecation(&self) -> Option<String> {
        let (_, instead) = self.help.split_once("deprecated: ")?;
        Some(format!("Flag --{} has been deprecated, {instead}", self.name))
    }
}

impl Given {
    /// What to say about the deprecated flags among these.
    pub(crate) fn deprecations(&self, tables: &[&[Flag]]) -> Vec<String> {
        self.names().filter_map(|name| find(name, tables)?.deprecation()).collect()
    }

    /// The last value of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a flag, in order.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// Whether a flag was given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Replaces every value of a flag by one.
    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.0.retain(|(n, _)| *n != name);
        self.push(name, value);
    }

    pub(crate) fn push(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

/// Takes the next step through the words; `None` at their end.
pub(crate) fn next(words: &mut Words, tables: &[&[Flag]]) -> Result<Option<Step>, FlagError> {
    let Some(word) = words.next() else { return Ok(None) };
    Ok(Some(match word.as_str() {
        "--" => Step::Dashes,
        "-h" | "--help" => Step::Help,
        text => match text.strip_prefix("--") {
            Some(flag) => long(flag, words, tables)?,
            None if text.len() > 1 && text.starts_with('-') && text != "---" => {
                return Err(FlagError::Short(word));
            }
            None => Step::Word(word),
        },
    }))
}

fn long(text: &str, words: &mut Words, tables: &[&[Flag]]) -> Result<Step, FlagError> {
    // `---` ends an image's arguments; it is no flag.
    if text == "-" {
        return Ok(Step::Word("---".to_owned()));
    }
    let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v.to_owned())));
    let flag = find(name, tables).ok_or_else(|| FlagError::Unknown(name.to_owned()))?;
    let value = match (flag.takes, value) {
        (Takes::Refused(_), _) => return Err(FlagError::Refused { name: flag.name, why: flag.help }),
        (Takes::Switch, value) => boolean(flag.name, value)?,
        (Takes::Optional(implied), None) => implied.to_owned(),
        (_, Some(value)) => value,
        (_, None) => words.next().ok_or(FlagError::NoValue(flag.name))?,
    };
    Ok(Step::Flag(flag.name, value))
}

pub(crate) fn find<'a>(name: &str, tables: &[&'a [Flag]]) -> Option<&'a Flag> {
    tables.iter().copied().flatten().find(|flag| flag.name == name)
}

fn boolean(name: &'static str, value: Option<String>) -> Result<String, FlagError> {
    match value.as_deref() {
        None | Some("true" | "t" | "T" | "1" | "TRUE" | "True") => Ok("true".to_owned()),
        Some("false" | "f" | "F" | "0" | "FALSE" | "False") => Ok("false".to_owned()),
        Some(other) => Err(FlagError::NotBool { name, value: other.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        switch("debug", ""),
        value("dir", "/var/lib/rkt", ""),
        optional("net", "default", ""),
        refused("port", Refused::Value, "pods have no network"),
        switch("old", "deprecated: use --new"),
    ];

    fn steps(words: &[&str]) -> Result<Vec<Step>, FlagError> {
        let mut words: Words = words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().into_iter();
        std::iter::from_fn(|| next(&mut words, &[TABLE]).transpose()).collect()
    }

    #[test]
    fn as_pflag() {
        let flag = |name, value: &str| Step::Flag(name, value.to_owned());
        let word = |w: &str| Step::Word(w.to_owned());
        assert_eq!(steps(&["--debug"]), Ok(vec![flag("debug", "true")]));
        assert_eq!(steps(&["--debug=0", "x"]), Ok(vec![flag("debug", "false"), word("x")]));
        assert_eq!(steps(&["--dir", "--debug"]), Ok(vec![flag("dir", "--debug")]));
        assert_eq!(steps(&["--dir="]), Ok(vec![flag("dir", "")]));
        assert_eq!(steps(&["--net", "host"]), Ok(vec![flag("net", "default"), word("host")]));
        assert_eq!(steps(&["--net=a:b=c"]), Ok(vec![flag("net", "a:b=c")]));
        assert_eq!(steps(&["--", "---", "-"]), Ok(vec![Step::Dashes, word("---"), word("-")]));
        assert_eq!(steps(&["-h"]), Ok(vec![Step::Help]));
    }

    #[test]
    fn old_flags_name_their_successor() {
        let mut given = Given::default();
        given.push("old", "true".to_owned());
        assert_eq!(given.deprecations(&[TABLE]), ["Flag --old has been deprecated, use --new"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(steps(&["--nope=1"]), Err(FlagError::Unknown("nope".to_owned())));
        assert_eq!(steps(&["--dir"]), Err(FlagError::NoValue("dir")));
        assert_eq!(steps(&["-v"]), Err(FlagError::Short("-v".to_owned())));
        assert!(matches!(steps(&["--debug=maybe"]), Err(FlagError::NotBool { .. })));
        let refused = steps(&["--port=a:1"]).unwrap_err();
        assert_eq!(refused.to_string(), "--port is not supported: pods have no network");
    }
}
