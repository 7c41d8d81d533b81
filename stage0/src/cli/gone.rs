//! Commands of rkt 1.30 that do not exist here.

/// Their names, and why they are not there or what to do instead.
const GONE: &[(&str, &str)] = &[
    ("api-service", "programs ask \"rkt list --format=json\" and \"rkt status --format=json\""),
    ("app", "the apps of a pod are decided when it is prepared"),
    ("attach", "see \"rkt run --interactive\" and \"rkt logs\""),
    ("completion", "it is not available yet"),
    ("config", "the configuration files are read as they are"),
    ("export", "pods are not made into images"),
    ("metadata-service", "there is none"),
];

/// Why there is no such command, if rkt 1.30 had it.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    GONE.iter().find(|(gone, _)| *gone == name).map(|(_, reason)| *reason)
}
