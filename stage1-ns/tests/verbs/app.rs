//! `app`: what an app sees, may do, and how it ends.

use crate::launcher::{Pod, config};

#[test]
fn an_app_runs_and_its_status_is_the_launchers() {
    let ended = Pod::new(config("echo out; echo err >&2; exit 42"), &[]).run();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(ended.status.code(), Some(42));
}
