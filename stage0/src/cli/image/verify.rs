//! `rkt image verify`: whether images are what was fetched, and making them so.

use std::collections::BTreeSet;
use std::io;

use anyhow::{Context as _, bail, ensure};
use image::{Digest, PullPolicy, Verdict, VerifyOptions};

use super::{existing_store, find};
use crate::cli::command::Invocation;
use crate::cli::global;
use crate::exit::{self, Log, SUCCESS};
use crate::{images, uses};

/// More of what is wrong than anybody reads.
const SHOWN: usize = 20;

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    ensure!(!invocation.words.is_empty(), "no image IDs found");
    let log = invocation.log();
    let mut failed = 0_usize;
    for text in &invocation.words {
        match verify(invocation, text, log) {
            Ok(true) => {}
            Ok(false) => failed += 1,
            Err(e) => {
                log.error(&e);
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} image(s) are damaged or cannot be verified");
    }
    Ok(SUCCESS)
}

/// Whether the image is sound in the end.
fn verify(invocation: &Invocation, text: &str, log: Log) -> anyhow::Result<bool> {
    let store = existing_store(invocation)?;
    let name = images::parse_name(store.as_ref(), text)?;
    let (store, id) = find(store, text, &name)?;
    let policy = global::policy(&invocation.flags, PullPolicy::Update)?;
    let mounted = || mounted(invocation).map_err(io::Error::other);
    let verified = images::with_fetch_options(&policy, None, |fetch| {
        image::verify(&store, id, &VerifyOptions { fetch, mounted: &mounted }, &())
    })?;
    let verified = verified.with_context(|| format!("cannot verify image {text:?}"))?;
    if let Some(damage) = &verified.documents {
        log.say(format_args!(
            "the documents of image {text:?} were damaged, and are fetched again: {damage}"
        ));
    }
    let mut sound = true;
    for (layer, verdict) in &verified.layers {
        sound &= report(text, layer, verdict, log);
    }
    if sound {
        exit::report(format_args!("successfully verified checksum for image: {text:?} (\"{id}\")"));
    }
    Ok(sound)
}

/// Says what became of a layer; returns whether it is sound now.
fn report(text: &str, layer: &Digest, verdict: &Verdict, log: Log) -> bool {
    let layer = format!("{}-{}", layer.algorithm(), layer.hex());
    let (Verdict::Repaired { damage, .. } | Verdict::Mounted { damage } | Verdict::Broken { damage, .. }) =
        verdict;
    for damage in damage.iter().take(SHOWN) {
        log.say(format_args!("layer \"{layer}\": {}", chain(damage)));
    }
    if damage.len() > SHOWN {
        log.say(format_args!("layer \"{layer}\": and {} more", damage.len() - SHOWN));
    }
    let failed = format!("tree cache verification failed for image {text}: layer \"{layer}\" is damaged");
    match verdict {
        Verdict::Repaired { from, .. } => {
            log.say(format_args!("{failed};  rebuilding..."));
            log.say(format_args!("layer \"{layer}\" was made again from {from}"));
            return true;
        }
        Verdict::Mounted { .. } => {
            log.say(format_args!(
                "{failed}, and a running pod uses it: stop the pods that use the image (\"rkt list\"), and verify it again"
            ));
        }
        Verdict::Broken { reasons, .. } => {
            log.say(format_args!("{failed}, and cannot be repaired"));
            for reason in reasons {
                log.error(&anyhow::Error::msg(chain(reason)));
            }
        }
    }
    false
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn mounted(invocation: &Invocation) -> anyhow::Result<BTreeSet<Digest>> {
    invocation.existing_data_dir()?.as_ref().map_or_else(|| Ok(BTreeSet::new()), uses::mounted)
}
