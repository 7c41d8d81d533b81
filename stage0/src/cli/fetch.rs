//! `rkt fetch`: images into the store.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::ensure;
use image::PullPolicy;

use super::apps::{self, Tables};
use super::command::Invocation;
use super::flag::{Flag, Given, switch, value};
use super::global::{GLOBAL_FLAGS, PROGRESS_FLAGS, policy};
use super::pod_flags::{SIGNATURE, signature};
use crate::exit::SUCCESS;
use crate::fetch_service::{Request, client};
use crate::images::Images;

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    switch("full", "print the full image hash after fetching"),
    switch("no-store", "deprecated: use --pull-policy=update"),
    value("pull-policy", "update", "when to pull an image: new, never or update"),
    switch("quiet", "suppress progress output"),
    switch("store-only", "deprecated: use --pull-policy=never"),
];

/// The flags of one image.
pub(crate) const IMAGE_FLAGS: &[Flag] = &[SIGNATURE];

/// How many hexadecimal digits of an id are printed without `--full`.
const SHORT: usize = 32;

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let mut flags = invocation.flags.clone();
    let tables = Tables { pod: &[FLAGS, PROGRESS_FLAGS, GLOBAL_FLAGS], app: IMAGE_FLAGS, both: &[] };
    let words = apps::parse(invocation.words.clone(), &mut flags, &tables)?;
    ensure!(!words.is_empty(), "must provide at least one image");
    ensure!(words.iter().all(|word| word.args.is_none()), "app arguments unsupported");
    let print = |id: String| {
        let shown =
            if flags.switch("full") { id } else { id.chars().take("sha256-".len() + SHORT).collect() };
        writeln!(std::io::stdout(), "{shown}")
    };
    if !rustix::process::geteuid().is_root() {
        let signed = words.iter().any(|word| word.flags.has("signature"));
        ensure!(
            !signed,
            "--signature is for root: the fetch service looks for signatures where images come from"
        );
        let names = words.into_iter().map(|word| word.image);
        return ask_root(invocation, &flags, names, print);
    }
    let policy = policy(&flags, PullPolicy::Update)?;
    let data = invocation.data_dir()?;
    let images = Images::open(&data, &policy)?;
    for word in words {
        let name = images.name(&word.image)?;
        print(images.fetch(&name, signature(&word.flags))?.id.to_string())?;
    }
    Ok(SUCCESS)
}

/// Only root can unpack: the fetch service does it for members of the group rkt.
fn ask_root(
    invocation: &Invocation,
    flags: &Given,
    names: impl Iterator<Item = String>,
    print: impl Fn(String) -> std::io::Result<()>,
) -> anyhow::Result<u8> {
    for name in ["local-config", "system-config", "trust-keys-from-https"] {
        ensure!(!flags.has(name), "--{name} is for root: the fetch service uses what root has configured");
    }
    let mut policy = policy(flags, PullPolicy::Update)?;
    // Root's directories are root's; the file of docker is found by $HOME.
    policy.config_dirs =
        flags.value("user-config").filter(|d| !d.is_empty()).map(PathBuf::from).into_iter().collect();
    let known = policy.credentials()?;
    let insecure: Vec<String> =
        flags.values("insecure-options").flat_map(|list| list.split(',')).map(str::to_owned).collect();
    for name in names {
        let request = Request::new(&name, policy.pull, &invocation.data_path(), insecure.clone());
        print(client::fetch(request, &known, &policy.progress)?)?;
    }
    Ok(SUCCESS)
}
