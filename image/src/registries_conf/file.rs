//! One `registries.conf`: TOML to entries, aliases and a search list, with sentences for what is wrong with it.
//!
//! Keys that are not known are listed, not refused: the same file is read by other programs, of other versions.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::RegistriesError;
use super::entry::Entry;
use crate::reference::{self, Reference, ReferenceError};

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) search: Option<Vec<String>>,
    /// `None` takes an alias of an earlier file away.
    pub(super) aliases: BTreeMap<String, Option<Reference>>,
    pub(super) entries: Vec<Entry>,
    pub(super) unknown: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    short_name_mode: Option<Mode>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    registry: Vec<Table>,
}

/// Known values only. What they ask for differs in how ambiguity is resolved by guessing, and here nothing is.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Enforcing,
    Permissive,
    Disabled,
    #[serde(rename = "")]
    Unset,
}

/// `[[registry]]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Table {
    pub(super) prefix: String,
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirror_by_digest_only: bool,
    pub(super) mirror: Vec<Mirror>,
}

/// `[[registry.mirror]]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) pull_from_mirror: For,
}

/// What a mirror is asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum For {
    #[default]
    #[serde(rename = "all", alias = "")]
    All,
    #[serde(rename = "digest-only")]
    Digests,
    #[serde(rename = "tag-only")]
    Tags,
}

const TOP: &[&str] = &["unqualified-search-registries", "short-name-mode", "aliases", "registry"];
const REGISTRY: &[&str] = &["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror"];
const MIRROR: &[&str] = &["location", "insecure", "pull-from-mirror"];

/// Reads the text of `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, RegistriesError> {
    let syntax = |error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        RegistriesError::Syntax { path: path.to_owned(), line, message: error.message().to_owned() }
    };
    let keys: toml::Table = toml::from_str(text).map_err(syntax)?;
    refuse_version_1(path, &keys)?;
    let document: Document = toml::from_str(text).map_err(syntax)?;
    // What it could be has been checked; it changes nothing.
    let _ = document.short_name_mode;
    Ok(File {
        search: document.unqualified_search_registries.map(|list| search(path, list)).transpose()?,
        aliases: aliases(path, document.aliases)?,
        entries: entries(path, document.registry)?,
        unknown: unknown(&keys),
    })
}

fn refuse_version_1(path: &Path, keys: &toml::Table) -> Result<(), RegistriesError> {
    let Some(toml::Value::Table(old)) = keys.get("registries") else { return Ok(()) };
    match old.keys().find(|key| matches!(key.as_str(), "search" | "insecure" | "block")) {
        Some(table) => Err(RegistriesError::Version { path: path.to_owned(), table: table.clone() }),
        None => Ok(()),
    }
}

fn search(path: &Path, list: Vec<String>) -> Result<Vec<String>, RegistriesError> {
    for text in &list {
        reference::check_registry(text).map_err(|source| RegistriesError::Name {
            path: path.to_owned(),
            what: "the registry of unqualified-search-registries",
            text: text.clone(),
            source,
        })?;
    }
    Ok(list)
}

fn aliases(
    path: &Path,
    aliases: BTreeMap<String, String>,
) -> Result<BTreeMap<String, Option<Reference>>, RegistriesError> {
    let read = |(name, target): (String, String)| {
        let parsed = if target.is_empty() { Ok(None) } else { alias(&target).map(Some) };
        let wrong = |source| RegistriesError::Name {
            path: path.to_owned(),
            what: "the alias",
            text: format!("{name} = {target}"),
            source,
        };
        let parsed = parsed.map_err(wrong)?;
        Ok((name, parsed))
    };
    aliases.into_iter().map(read).collect()
}

/// The target of an alias: a registry's repository, without tag and digest.
fn alias(target: &str) -> Result<Reference, ReferenceError> {
    let reference = Reference::located(target)?.nameable()?;
    // Without either, a reference means the tag `latest`.
    if target.contains('@') || target.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        return Err(ReferenceError::Repository { name: target.to_owned(), repository: target.to_owned() });
    }
    Ok(reference)
}

fn entries(path: &Path, tables: Vec<Table>) -> Result<Vec<Entry>, RegistriesError> {
    let mut entries: Vec<Entry> = Vec::new();
    for table in tables {
        let entry = Entry::new(path, table)?;
        match entries.iter().find(|known| known.prefix == entry.prefix) {
            Some(known) if *known == entry => {}
            Some(_) => {
                let why = "there are two entries for this, and they differ".to_owned();
                return Err(RegistriesError::Entry { path: path.to_owned(), entry: entry.prefix, why });
            }
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

fn unknown(keys: &toml::Table) -> Vec<String> {
    let mut unknown = strangers("", keys, TOP);
    for (table, registry) in tables(keys, "registry") {
        unknown.extend(strangers(&format!("{table}."), registry, REGISTRY));
        for (_, mirror) in tables(registry, "mirror") {
            unknown.extend(strangers("registry.mirror.", mirror, MIRROR));
        }
    }
    unknown.sort();
    unknown.dedup();
    unknown
}

fn strangers(place: &str, table: &toml::Table, known: &[&str]) -> Vec<String> {
    table.keys().filter(|key| !known.contains(&key.as_str())).map(|key| format!("{place}{key}")).collect()
}

fn tables<'a>(table: &'a toml::Table, key: &'a str) -> impl Iterator<Item = (&'a str, &'a toml::Table)> {
    let list = table.get(key).and_then(toml::Value::as_array).into_iter().flatten();
    list.filter_map(move |value| Some((key, value.as_table()?)))
}
