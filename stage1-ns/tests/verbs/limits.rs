//! Limits of a direct pod: control groups below the launcher's own.

use serde_json::json;

use crate::launcher::{Pod, config};

fn groups(pod: &Pod) -> Vec<String> {
    let list = std::fs::read_to_string(pod.path().join("apps/a/attempts/1/control-groups")).unwrap();
    list.lines().map(str::to_owned).collect()
}

/// Where the controllers are on the second version and nobody delegated anything, limits are refused, not ignored.
fn can_limit() -> bool {
    std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
}

#[test]
fn memory_and_processes_are_limited_and_the_groups_removed() {
    let mut with = config(
        "cat /proc/1/cgroup; (for i in 1 2 3 4 5 6; do sleep 1 & done) 2>/dev/null || echo few; exec head -c 100m /dev/zero | tail",
    );
    with["linux"]["resources"] =
        json!({"memory": {"limit": 20 << 20}, "pids": {"limit": 5}, "cpu": {"shares": 512}});
    let mut pod = Pod::new(with, &[]);
    let ended = pod.run();
    if !can_limit() {
        assert_eq!(ended.status.code(), Some(254), "{ended:?}");
        assert!(ended.stderr.contains("Delegate=yes"), "{ended:?}");
        return;
    }
    assert!(!ended.status.success(), "{ended:?}");
    let groups = groups(&pod);
    assert_eq!(groups.len(), 3, "{groups:?}");
    assert!(
        groups
            .iter()
            .all(|g| g.ends_with(&format!("rkt-{}/a", pod.path().file_name().unwrap().to_str().unwrap())))
    );
    let memory = groups.iter().find(|g| g.contains("/memory/")).unwrap();
    assert_eq!(
        std::fs::read_to_string(format!("{memory}/memory.limit_in_bytes")).unwrap().trim(),
        "20971520"
    );
    assert!(pod.call(&["down"]).status.success());
    assert!(groups.iter().all(|g| !std::path::Path::new(g).parent().unwrap().exists()));
    assert!(pod.call(&["down"]).status.success(), "down is idempotent");
}
