//! `rkt fetch`: images into the store.

use std::io::Write as _;

use anyhow::ensure;
use image::PullPolicy;

use super::apps::{self, Tables};
use super::command::Invocation;
use super::flag::{Flag, Refused, refused, switch, value};
use super::global::{GLOBAL_FLAGS, PROGRESS_FLAGS, policy};
use crate::exit::SUCCESS;
use crate::images::Images;

/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    switch("full", "print the full image hash after fetching"),
    switch("no-store", "deprecated: use --pull-policy=update"),
    value("pull-policy", "update", "when to pull an image: new, never or update"),
    switch("quiet", "suppress progress output"),
    refused("signature", Refused::Value, "images of registries are verified by digest, not by signature"),
    switch("store-only", "deprecated: use --pull-policy=never"),
];

/// How many hexadecimal digits of an id are printed without `--full`.
const SHORT: usize = 32;

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let mut flags = invocation.flags.clone();
    let tables = Tables { pod: &[FLAGS, PROGRESS_FLAGS, GLOBAL_FLAGS], app: &[], both: &[] };
    let words = apps::parse(invocation.words.clone(), &mut flags, &tables)?;
    ensure!(!words.is_empty(), "must provide at least one image");
    ensure!(words.iter().all(|word| word.args.is_none()), "app arguments unsupported");
    let policy = policy(&flags, PullPolicy::Update)?;
    let data = invocation.data_dir()?;
    let images = Images::open(&data, &policy)?;
    for word in words {
        let name = images.name(&word.image)?;
        let id = images.fetch(&name)?.id.to_string();
        let shown =
            if flags.switch("full") { id } else { id.chars().take("sha256-".len() + SHORT).collect() };
        writeln!(std::io::stdout(), "{shown}")?;
    }
    Ok(SUCCESS)
}
