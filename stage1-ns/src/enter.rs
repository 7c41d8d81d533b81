//! `enter`: runs a command beside an app. PLACEHOLDER
use pod::{AppName, PodDir};
use stage1::failure::Failure;
use stage1::verbs::Entry;
pub(crate) fn enter(_pod: &PodDir, _app: &AppName, _entry: &Entry) -> Result<u8, Failure> {
    Err(Failure::other("not yet"))
}
