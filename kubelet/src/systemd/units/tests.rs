//! The properties, as they are: golden text.

use super::*;
use serde_json::json;

fn desired(spec: serde_json::Value) -> Desired {
    let document =
        json!({"metadata": {"name": "web", "uid": "0b1c-2d", "labels": {"a": "x%n\n$HOME"}}, "spec": spec});
    crate::source::static_pod::pod(document, "/m/web".as_ref(), "n1", jiff::Timestamp::UNIX_EPOCH).unwrap()
}

fn with<T>(desired: &Desired, hierarchy: Hierarchy, f: impl FnOnce(&Launch<'_>) -> T) -> T {
    f(&Launch {
        desired,
        id: "6f2a1b3c-0000-4000-8000-00000000000a".parse().unwrap(),
        rkt: Path::new("/usr/bin/rkt"),
        data: Path::new("/var/lib/rkt"),
        stage1: Path::new("/usr/lib/rkt/stage1/stage1-ns"),
        backoff: Backoff::KUBERNETES,
        hierarchy,
        node_memory: 4 << 30,
    })
}

fn main_app(desired: &Desired) -> AppLaunch<'_> {
    let container = &desired.spec().containers[0];
    AppLaunch { container, role: Role::Main, app: container.name.parse().unwrap(), stop_signal: 3 }
}

fn written(unit: &UnitSpec) -> String {
    let property = |(name, value): &Property| match value {
        // Bytes are hard to read.
        value if *name == "LogExtraFields" => {
            let lines: Vec<Vec<u8>> = value.try_clone().unwrap().downcast().unwrap();
            let lines: Vec<String> = lines.into_iter().map(|l| String::from_utf8(l).unwrap()).collect();
            format!("{name}={}\n", lines.join(" "))
        }
        value => format!("{name}={value}\n"),
    };
    format!("[{}]\n", unit.name) + &unit.properties.iter().map(property).collect::<String>()
}

fn property(unit: &UnitSpec, name: &str) -> Option<String> {
    unit.properties.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
}

#[test]
fn a_pod_as_units() {
    let web = desired(json!({
        "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 7,
        "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["db", "db.example"]}],
        "containers": [{"name": "c", "image": "i", "env": [{"name": "SECRET", "value": "%n\n$(X)"}], "args": ["--x=$HOME"],
                        "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "1500m", "memory": "2Gi"}}}]}));
    let app = main_app(&web);
    let text = with(&web, Hierarchy::Unified, |l| {
        [written(&l.slice()), written(&l.sandbox(std::slice::from_ref(&app))), written(&l.app(&app))]
            .join("\n")
    });
    assert_eq!(text, include_str!("golden.txt"));
    for leak in ["SECRET", "%n", "$HOME", "--x"] {
        assert!(!text.contains(leak), "{leak} is nobody's business but the app's");
    }
}

#[test]
fn restart_policies() {
    let restart = |policy: &str, role| {
        let web = desired(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}));
        with(&web, Hierarchy::Unified, |l| {
            property(&l.app(&AppLaunch { role, ..main_app(&web) }), "Restart").unwrap()
        })
    };
    let table = [
        ("Always", Role::Main, "\"always\""),
        ("Always", Role::Init, "\"on-failure\""),
        ("Always", Role::Sidecar, "\"always\""),
        ("OnFailure", Role::Main, "\"on-failure\""),
        ("OnFailure", Role::Init, "\"on-failure\""),
        ("Never", Role::Main, "\"no\""),
        ("Never", Role::Init, "\"no\""),
        ("Never", Role::Sidecar, "\"always\""),
    ];
    for (policy, role, expected) in table {
        assert_eq!(restart(policy, role), expected, "{policy} {role:?}");
    }
}

#[test]
fn a_grace_period_of_nothing_is_a_kill() {
    let web =
        desired(json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i"}]}));
    let unit = with(&web, Hierarchy::Unified, |l| l.app(&main_app(&web)));
    assert_eq!(property(&unit, "KillSignal").as_deref(), Some("9"));
    assert_eq!(property(&unit, "TimeoutStopUSec").as_deref(), Some("uint64 1000000"));
}

#[test]
fn shares_are_of_the_hierarchy_that_there_is() {
    let cpu = |cpu: &str, hierarchy| {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
        let web = desired(json!({ "containers": [container] }));
        let unit = with(&web, hierarchy, |l| l.app(&main_app(&web)));
        (property(&unit, "CPUWeight"), property(&unit, "CPUShares"))
    };
    let number = |n: u64| Some(format!("uint64 {n}"));
    let table =
        [("1", 39, 1024), ("0", 1, 2), ("1m", 1, 2), ("256", 10_000, 262_144), ("1000", 10_000, 262_144)];
    for (amount, weight, shares) in table {
        assert_eq!(cpu(amount, Hierarchy::Unified), (number(weight), None), "{amount}");
        assert_eq!(cpu(amount, Hierarchy::Legacy), (None, number(shares)), "{amount}");
    }
}

#[test]
fn the_hosts_namespaces() {
    let web = desired(
        json!({"hostNetwork": true, "hostIPC": true, "hostname": "h", "containers": [{"name": "c", "image": "i"}]}),
    );
    let start = with(&web, Hierarchy::Unified, |l| property(&l.sandbox(&[]), "ExecStart").unwrap());
    assert!(start.contains(r#""--net=host", "--hostname=h", "--ipc=parent""#), "{start}");
}

#[test]
fn nothing_is_replaced_in_arguments() {
    let command = exec(Path::new("/opt/$x/rkt"), &["--dir=/a b/$HOME/%n".to_owned()]);
    assert_eq!(command.to_string(), r#"[("/opt/$x/rkt", ["/opt/$$x/rkt", "--dir=/a b/$$HOME/%n"], false)]"#);
}
