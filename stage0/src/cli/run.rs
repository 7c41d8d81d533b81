//! `rkt run`: prepares a pod and runs it, in the foreground.

use std::io::IsTerminal as _;

use anyhow::{Context as _, ensure};
use image::PullPolicy;
use pod::LockedPod;

use super::command::Invocation;
use super::flag::{Flag, Given, switch, value};
use super::global::{PROGRESS_FLAGS, policy};
use super::launch_flags::{self, LAUNCH_FLAGS};
use super::pod_flags::{self, POD_FLAGS};
use crate::images::Images;
use crate::launch::direct::{self, Input};
use crate::prepare::Content;

/// Flags of the commands that run a pod in the foreground.
pub(crate) const FOREGROUND_FLAGS: &[Flag] = &[switch(
    "interactive",
    "run pod interactively: connect its stdin and its terminal; a pod of one image only",
)];
/// The command's own flags.
pub(crate) const FLAGS: &[Flag] = &[
    switch("quiet", "suppress progress output"),
    value("uuid-file-save", "", "write out pod UUID to specified file"),
];

pub(crate) fn run(invocation: &Invocation) -> anyhow::Result<u8> {
    let mut flags = invocation.flags.clone();
    let tables = [POD_FLAGS, LAUNCH_FLAGS, FOREGROUND_FLAGS, PROGRESS_FLAGS, FLAGS];
    let mut request = pod_flags::request(invocation, &mut flags, &tables)?;
    let settings = launch_flags::settings(&flags)?;
    let apps = match &request.content {
        Content::Apps(wishes) => wishes.apps.len(),
        Content::Manifest(manifest) => manifest.apps.len(),
    };
    let input = input(&flags, apps)?;
    request.terminal = input == Input::Terminal;
    if let (Input::Terminal, Content::Apps(wishes)) = (input, &mut request.content) {
        wishes.inherited.extend(std::env::var("TERM").map(|term| ("TERM".to_owned(), term)));
    }
    let policy = policy(&flags, PullPolicy::New)?;
    let data = invocation.data_dir()?;
    let images = Images::open(&data, &policy)?;
    let pod = crate::prepare::prepare(&data, &images, &request)?;
    if let Err(e) = save_uuid(&flags, &pod) {
        crate::prepare::discard(pod);
        return Err(e);
    }
    Ok(direct::run(pod, &settings, input, invocation.log())?)
}

/// What the app reads: nothing, unless `--interactive`.
pub(crate) fn input(flags: &Given, apps: usize) -> anyhow::Result<Input> {
    if !flags.switch("interactive") {
        return Ok(Input::Nothing);
    }
    ensure!(apps == 1, "interactive option only supports one image");
    Ok(if std::io::stdin().is_terminal() { Input::Terminal } else { Input::Stream })
}

fn save_uuid(flags: &Given, pod: &LockedPod) -> anyhow::Result<()> {
    let Some(path) = flags.value("uuid-file-save").filter(|path| !path.is_empty()) else { return Ok(()) };
    std::fs::write(path, pod.dir().id().to_string())
        .with_context(|| format!("cannot save the pod's UUID in {path}"))
}
