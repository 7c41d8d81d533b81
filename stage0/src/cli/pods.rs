//! Which pod is meant: a UUID or the beginning of one, on the command line or in a file.

use anyhow::{Context as _, ensure};
use pod::{DataDir, LockedPod, PodDir};

use super::command::Invocation;
use crate::exit::Special;

/// The one pod that a command is about: its only word, or the content of `--uuid-file`.
pub(crate) fn one(invocation: &Invocation) -> anyhow::Result<PodDir> {
    let uuid = match uuid_file(invocation)? {
        Some(uuid) if invocation.words.is_empty() => uuid,
        Some(_) => anyhow::bail!("a UUID and --uuid-file exclude each other"),
        None => {
            let [uuid] = invocation.words.as_slice() else {
                anyhow::bail!("exactly one pod UUID is needed (see --help)");
            };
            uuid.clone()
        }
    };
    find(invocation, &uuid)
}

/// The UUIDs that a command is about: its words, or the content of `--uuid-file`.
fn uuids(invocation: &Invocation) -> anyhow::Result<Vec<String>> {
    let file = uuid_file(invocation)?;
    ensure!(file.is_none() || invocation.words.is_empty(), "UUIDs and --uuid-file exclude each other");
    let uuids = file.map_or_else(|| invocation.words.clone(), |uuid| vec![uuid]);
    ensure!(!uuids.is_empty(), "a pod UUID is needed (see --help)");
    Ok(uuids)
}

/// Does something to each of the pods that a command is about. The result is how many failed, each having said so.
pub(crate) fn each(
    invocation: &Invocation,
    act: impl Fn(PodDir) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut failed = 0;
    for uuid in uuids(invocation)? {
        if let Err(e) = find(invocation, &uuid).and_then(&act) {
            invocation.log().error(&e);
            failed += 1;
        }
    }
    Ok(failed)
}

/// Finds a pod by the beginning of its UUID.
pub(crate) fn find(invocation: &Invocation, uuid: &str) -> anyhow::Result<PodDir> {
    let data = invocation.existing_data_dir()?;
    let find = |data: DataDir| Ok(data.find(uuid)?);
    data.map_or_else(|| anyhow::bail!("no matches found for {uuid:?}"), find)
        .context("problem retrieving pod")
}

/// Locks a pod. `None`: somebody else holds it, or it has moved.
pub(crate) fn lock(pod: PodDir) -> anyhow::Result<Option<LockedPod>> {
    Ok(LockedPod::try_lock(pod)?)
}

fn uuid_file(invocation: &Invocation) -> anyhow::Result<Option<String>> {
    let Some(path) = invocation.flags.value("uuid-file").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let failed = |source| Special {
        status: 1,
        message: format!("unable to resolve UUID from file {path}"),
        source: Some(source),
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(Some(text.trim().to_owned()))
}
