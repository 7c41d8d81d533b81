//! The flags that every command takes, and what they mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use image::{Keystore, PullPolicy};
use pod::DataDir;

use super::command::Invocation;
use super::flag::{Flag, Given, switch, value};
use crate::exit::Log;
use crate::images::Policy;
use crate::progress::{Output, Sink};
use crate::spec::Lifted;
use crate::trust;

/// The flags that every command takes.
pub(crate) const GLOBAL_FLAGS: &[Flag] = &[
    switch("debug", "print out more debug information to stderr, and errors as a tree of causes"),
    value("dir", "/var/lib/rkt", "rkt data directory"),
    value(
        "insecure-options",
        "none",
        "comma-separated list of security features to disable: none, image, tls, ondisk, http, pubkey, capabilities, paths, seccomp, all-fetch, all-run, all",
    ),
    value("local-config", "/etc/rkt", "path to local configuration"),
    value("system-config", "/usr/lib/rkt", "path to system configuration"),
    switch("trust-keys-from-https", "automatically trust gpg keys fetched from https"),
    value("user-config", "", "path to user configuration"),
];

/// Flags of the commands that may fetch.
pub(crate) const PROGRESS_FLAGS: &[Flag] = &[
    value("progress", "bar", "how to show the progress of fetching: bar (on a terminal only), json or none"),
    value("progress-fd", "2", "descriptor that the lines of --progress=json go to"),
];

/// What `--insecure-options` gives up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Insecure {
    /// Images that the host's policy does not accept, or that nobody signed.
    pub(crate) image: bool,
    /// Registries without TLS.
    pub(crate) http: bool,
    /// Registries that cannot prove who they are.
    pub(crate) tls: bool,
    /// Protections of the apps.
    pub(crate) lifted: Lifted,
}

impl Invocation {
    /// Where this command's messages go.
    pub(crate) fn log(&self) -> Log {
        Log { prefix: self.command.leaf(), debug: self.flags.switch("debug") }
    }

    /// The data directory as it is written on the command line.
    pub(crate) fn data_path(&self) -> PathBuf {
        PathBuf::from(self.flags.value("dir").filter(|dir| !dir.is_empty()).unwrap_or("/var/lib/rkt"))
    }

    /// The data directory, made if it is not there.
    pub(crate) fn data_dir(&self) -> anyhow::Result<DataDir> {
        let path = self.data_path();
        DataDir::open(&path).with_context(|| format!("cannot use the data directory {}", path.display()))
    }

    /// The data directory for a command that only reads. `None`: there is none, and so there are no pods.
    pub(crate) fn existing_data_dir(&self) -> anyhow::Result<Option<DataDir>> {
        let path = self.data_path();
        match DataDir::open_existing(&path) {
            Ok(data) => Ok(Some(data)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read the data directory {}", path.display())),
        }
    }
}

/// Reads `--insecure-options`.
pub(crate) fn insecure(flags: &Given) -> anyhow::Result<Insecure> {
    let mut insecure = Insecure::default();
    for word in flags.values("insecure-options").flat_map(|list| list.split(',')) {
        let Insecure { image, http, tls, lifted } = &mut insecure;
        match word {
            // What is on the disk is verified anyway.
            "" | "none" | "ondisk" | "pubkey" => {}
            // Digests are compared all the same.
            "image" => *image = true,
            "http" => *http = true,
            "tls" => *tls = true,
            "capabilities" => lifted.capabilities = true,
            "paths" => lifted.paths = true,
            "seccomp" => lifted.seccomp = true,
            "all-fetch" => (*image, *http, *tls) = (true, true, true),
            "all-run" => *lifted = Lifted { capabilities: true, paths: true, seccomp: true },
            "all" => {
                (*image, *http, *tls) = (true, true, true);
                *lifted = Lifted { capabilities: true, paths: true, seccomp: true };
            }
            other => anyhow::bail!("invalid argument {other:?} for --insecure-options (see --help)"),
        }
    }
    Ok(insecure)
}

/// How to come by images, `default` being the command's `--pull-policy`.
pub(crate) fn policy(flags: &Given, default: PullPolicy) -> anyhow::Result<Policy> {
    let dirs = [("user-config", ""), ("local-config", "/etc/rkt"), ("system-config", "/usr/lib/rkt")];
    let dir = |(name, default)| flags.value(name).unwrap_or(default);
    let dirs = dirs.map(dir);
    let [_, local, system] = dirs.map(Path::new);
    let insecure = insecure(flags)?;
    let config_dirs: Vec<PathBuf> = dirs.into_iter().filter(|d| !d.is_empty()).map(PathBuf::from).collect();
    Ok(Policy {
        keystore: (!insecure.image).then(|| Keystore::new(system, local)),
        trust: if insecure.image { None } else { Some(trust::settings(&config_dirs)?) },
        pull: pull_policy(flags, default)?,
        allow_http: insecure.http,
        verify_tls: !insecure.tls,
        config_dirs,
        credentials: None,
        progress: progress(flags)?,
    })
}

/// `--progress`, `--progress-fd` and `--quiet`.
fn progress(flags: &Given) -> anyhow::Result<Output> {
    let kind = flags.value("progress").unwrap_or("bar");
    anyhow::ensure!(
        kind == "json" || !flags.has("progress-fd"),
        "--progress-fd is for --progress=json: say that, too"
    );
    match kind {
        "json" => {
            let text = flags.value("progress-fd").unwrap_or("2");
            let fd = text.parse().with_context(|| format!("--progress-fd={text} is not a number"))?;
            let sink = Sink::inherited(fd)
                .with_context(|| format!("--progress-fd={text}: no descriptor of that number is open"))?;
            Ok(Output::Json(Arc::new(sink)))
        }
        "none" => Ok(Output::None),
        "bar" if flags.switch("quiet") => Ok(Output::None),
        "bar" => Ok(Output::Bars),
        other => anyhow::bail!("invalid argument {other:?} for --progress: it is bar, json or none"),
    }
}

fn pull_policy(flags: &Given, default: PullPolicy) -> anyhow::Result<PullPolicy> {
    let (store_only, no_store) = (flags.switch("store-only"), flags.switch("no-store"));
    match flags.value("pull-policy") {
        _ if store_only && no_store => anyhow::bail!("both --store-only and --no-store specified"),
        _ if store_only => Ok(PullPolicy::Never),
        _ if no_store => Ok(PullPolicy::Update),
        None => Ok(default),
        Some("new") => Ok(PullPolicy::New),
        Some("never") => Ok(PullPolicy::Never),
        Some("update") => Ok(PullPolicy::Update),
        Some(other) => {
            anyhow::bail!("invalid argument {other:?} for --pull-policy: it is new, never or update")
        }
    }
}
