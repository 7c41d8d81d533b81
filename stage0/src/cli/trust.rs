//! `rkt trust`: keys that are trusted with signing ACIs.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use image::{Certificate, FetchOptions, Keystore, RegistryOptions, Scope};

use super::command::Invocation;
use super::flag::{Flag, switch, value};
use super::global::insecure;
use crate::exit::{self, SUCCESS};
use crate::{images, registries};

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    switch("insecure-allow-http", "allow HTTP use for key discovery and/or retrieval"),
    value("prefix", "", "prefix to limit trust to"),
    switch("root", "add root key from filesystem without a prefix"),
    switch("skip-fingerprint-review", "accept key without fingerprint confirmation"),
];

/// The largest key.
const MAX_KEY: u64 = 1 << 20;

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let flags = &invocation.flags;
    let prefix = flags.value("prefix").unwrap_or_default();
    let scope = match (prefix, flags.switch("root")) {
        ("", false) => bail!("--root required for non-prefixed (root) keys"),
        ("", true) => Scope::Root,
        (_, true) => bail!("--root and --prefix usage mutually exclusive"),
        (prefix, false) => {
            if let Some((scheme, _)) = prefix.split_once("://") {
                bail!("--prefix must not contain a URL scheme, omit {scheme}://");
            }
            Scope::Prefix(prefix.parse()?)
        }
    };
    let keystore = keystore(invocation);
    let locations = match &invocation.words {
        words if !words.is_empty() => words.clone(),
        _ if prefix.is_empty() => bail!("--root needs the file or the address of a key"),
        _ => discover(invocation, prefix).context("error determining key location")?,
    };
    for location in &locations {
        add(invocation, &keystore, &scope, prefix, location).context("error adding keys")?;
    }
    Ok(SUCCESS)
}

fn keystore(invocation: &Invocation) -> Keystore {
    let dir = |name, default| PathBuf::from(invocation.flags.value(name).unwrap_or(default));
    Keystore::new(&dir("system-config", "/usr/lib/rkt"), &dir("local-config", "/etc/rkt"))
}

fn add(
    invocation: &Invocation,
    keystore: &Keystore,
    scope: &Scope,
    prefix: &str,
    location: &str,
) -> anyhow::Result<()> {
    let bytes = read(invocation, location).with_context(|| format!("error accessing the key {location}"))?;
    let key =
        Certificate::parse_armored(&bytes).with_context(|| format!("error displaying the key {location}"))?;
    show(invocation, &key, prefix, location);
    let flags = &invocation.flags;
    let from_https = flags.switch("trust-keys-from-https") && location.starts_with("https://");
    let reviewed = !(flags.switch("skip-fingerprint-review") || from_https);
    if reviewed && !review(invocation, prefix)? {
        invocation.log().say(format_args!("not trusting {location:?}"));
        return Ok(());
    }
    let how = if reviewed { "after" } else { "without" };
    exit::report(format_args!("Trusting {location:?} for prefix {prefix:?} {how} fingerprint review."));
    let path = keystore.trust(scope, &bytes)?;
    match scope {
        Scope::Root => exit::report(format_args!("Added root key at {path:?}")),
        Scope::Prefix(_) => exit::report(format_args!("Added key for prefix {prefix:?} at {path:?}")),
    }
    Ok(())
}

fn read(invocation: &Invocation, location: &str) -> anyhow::Result<Vec<u8>> {
    if !(location.starts_with("https://") || location.starts_with("http://")) {
        let path = location.strip_prefix("file://").unwrap_or(location);
        let mut bytes = Vec::new();
        let length = std::fs::File::open(Path::new(path))?.take(MAX_KEY + 1).read_to_end(&mut bytes)?;
        ensure!(length as u64 <= MAX_KEY, "it has more than {MAX_KEY} bytes");
        return Ok(bytes);
    }
    image::download_small(location, MAX_KEY, &options(invocation)?)?.context("there is no such key")
}

/// Where the keys for a prefix are, as its server says.
fn discover(invocation: &Invocation, prefix: &str) -> anyhow::Result<Vec<String>> {
    let store = images::open_store(invocation.data_dir()?.path())?;
    let options = FetchOptions { registry: options(invocation)?, ..FetchOptions::default() };
    let found = image::discover_keys(&store, prefix, &options)?;
    ensure!(!found.is_empty(), "no server says where the keys for {prefix:?} are; name a file or an address");
    Ok(found)
}

/// How to speak to web servers.
fn options(invocation: &Invocation) -> anyhow::Result<RegistryOptions<'static>> {
    let insecure = insecure(&invocation.flags)?;
    Ok(RegistryOptions {
        allow_http: insecure.http || invocation.flags.switch("insecure-allow-http"),
        verify_tls: !insecure.tls,
        config: registries::config()?,
        ..RegistryOptions::default()
    })
}

/// What a person compares with what the owner of the key says elsewhere.
fn show(invocation: &Invocation, key: &Certificate, prefix: &str, location: &str) {
    let log = invocation.log();
    log.say(format_args!("prefix: {prefix:?}"));
    log.say(format_args!("key: {location:?}"));
    log.say(format_args!("gpg key fingerprint is: {}", spaced(&key.fingerprint())));
    for subkey in key.subkeys() {
        log.say(format_args!("    Subkey fingerprint: {}", spaced(&subkey)));
    }
    for user in key.user_ids() {
        log.say(format_args!("\t{}", exit::harmless(&user)));
    }
}

/// Groups of four digits, with a wider gap in the middle: as everybody prints fingerprints.
fn spaced(fingerprint: &str) -> String {
    let digits: Vec<char> = fingerprint.to_uppercase().chars().collect();
    let groups: Vec<String> = digits.chunks(4).map(|group| group.iter().collect()).collect();
    let (first, second) = groups.split_at(groups.len() / 2);
    format!("{}  {}", first.join(" "), second.join(" "))
}

fn review(invocation: &Invocation, prefix: &str) -> anyhow::Result<bool> {
    let log = invocation.log();
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        log.say(format_args!("To trust the key for {prefix:?}, do one of the following:"));
        log.say(" - call rkt with --trust-keys-from-https");
        log.say(format_args!(" - run: rkt trust --prefix {prefix:?}"));
        bail!("error reviewing key: unable to ask user to review fingerprint due to lack of tty");
    }
    let mut answers = io::stdin().lock();
    loop {
        log.say("Are you sure you want to trust this key (yes/no)?");
        let mut answer = String::new();
        let length = answers.read_line(&mut answer).context("error reviewing key")?;
        match answer.trim_end() {
            "yes" => return Ok(true),
            "no" => return Ok(false),
            _ if length == 0 => bail!("error reviewing key: there is no answer"),
            _ => log.say("Please enter 'yes' or 'no'"),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fingerprints_are_for_people() {
        let text = "18ad5014c99ef7e3ba5f6ce950bdd3e0fc8a365e";
        assert_eq!(super::spaced(text), "18AD 5014 C99E F7E3 BA5F  6CE9 50BD D3E0 FC8A 365E");
    }
}
