//! `config.json` against golden files; `UPDATE_GOLDEN=1 cargo test -p stage0` writes them anew, for review.

use std::path::Path;

use pod::manifest::{App, Isolator, PodManifest};
use pod::users::IdRange;
use serde_json::{Value, json};

use super::{Input, Lifted, SpecError, spec};

fn pod(app: Value, more: Value) -> PodManifest {
    let mut whole = json!({"name": "web", "image": {"id": "sha256-ab"}, "app": app});
    let own = more["app"].as_object().cloned().unwrap_or_default();
    whole.as_object_mut().unwrap().extend(own);
    let pod =
        json!({"acVersion": "0.8.11", "acKind": "PodManifest", "apps": [whole], "volumes": more["volumes"]});
    serde_json::from_value(pod).unwrap()
}

fn app(mut fields: Value) -> Value {
    let mut app = json!({"exec": ["/bin/web"], "user": "0", "group": "0"});
    app.as_object_mut().unwrap().append(fields.as_object_mut().unwrap());
    app
}

fn make(pod: &PodManifest, lifted: Lifted) -> Result<Value, SpecError> {
    Ok(sorted(serde_json::to_value(spec(&input(pod, lifted, None))?).unwrap()))
}

fn input(pod: &PodManifest, lifted: Lifted, users: Option<IdRange>) -> Input<'_> {
    let runtime = &pod.apps[0];
    Input {
        pod,
        runtime,
        app: runtime.app.as_ref().unwrap(),
        stop_signal: Some("SIGQUIT"),
        opens_outputs: false,
        run_dir: Path::new("/var/lib/rkt/pods/run/UUID"),
        lifted,
        terminal: false,
        users,
    }
}

/// Capabilities are a set, written in any order.
fn sorted(mut spec: Value) -> Value {
    let sets = spec.pointer_mut("/process/capabilities").and_then(Value::as_object_mut).unwrap();
    for set in sets.values_mut().filter_map(Value::as_array_mut) {
        set.sort_by_key(ToString::to_string);
    }
    spec
}

fn golden(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{name} is not what it was:\n{text}");
}

#[test]
fn a_pod_with_users_of_its_own() {
    let volumes = json!([{"name": "h", "kind": "host", "source": "/srv"},
        {"name": "one", "kind": "host", "source": "/srv", "recursive": false}, {"name": "e", "kind": "empty"}]);
    let mount = |volume: &str| json!({"volume": volume, "path": format!("/{volume}")});
    let mounts = json!({"mounts": [mount("h"), mount("one"), mount("e")]});
    let pod = pod(app(json!({})), json!({"volumes": volumes, "app": mounts}));
    let make = |users| serde_json::to_value(spec(&input(&pod, Lifted::default(), users)).unwrap()).unwrap();
    let (own, host) = (make(Some(IdRange { first: 1 << 20, count: 65536 })), make(None));
    let mapping = json!([{"containerID": 0, "hostID": 1_048_576, "size": 65536}]);
    assert_eq!((&own["linux"]["uidMappings"], &own["linux"]["gidMappings"]), (&mapping, &mapping));
    let kinds = |spec: &Value| spec["linux"]["namespaces"].as_array().unwrap().len();
    assert_eq!((kinds(&own), kinds(&host)), (7, 6));
    let option = |spec: &Value, path: &str| {
        let mounts = spec["mounts"].as_array().unwrap();
        let options = mounts.iter().find(|m| m["destination"] == path).unwrap()["options"].clone();
        let is_map = |o: &&Value| o.as_str().unwrap().ends_with("idmap");
        options.as_array().unwrap().iter().find(is_map).map(|o| o.as_str().unwrap().to_owned())
    };
    let of = |path| (option(&own, path), option(&host, path));
    assert_eq!(of("/h"), (Some("ridmap".to_owned()), None));
    assert_eq!(of("/one"), (Some("idmap".to_owned()), None));
    assert_eq!(of("/etc/hosts"), (Some("idmap".to_owned()), None));
    assert_eq!(of("/e"), (None, None), "made for the pod's users already");
}

#[test]
fn an_app_that_says_nothing_gets_the_defaults() {
    let pod = pod(app(json!({})), json!({"volumes": []}));
    golden("config-default.json", &make(&pod, Lifted::default()).unwrap());
}

#[test]
fn an_app_that_says_everything_gets_it() {
    let what = app(json!({
    "user": "www", "group": "", "supplementaryGIDs": [7], "workingDirectory": "/srv",
    "environment": [{"name": "PATH", "value": "/bin"}, {"name": "A", "value": "1=2 %n $x\n"}],
    "mountPoints": [{"name": "data", "path": "/data", "readOnly": true}],
    "isolators": [
        {"name": "resource/memory", "value": {"limit": "128Mi"}},
        {"name": "resource/cpu", "value": {"limit": "500m"}},
        {"name": "os/linux/cpu-shares", "value": 512},
        {"name": "os/linux/oom-score-adj", "value": 100},
        {"name": "os/linux/no-new-privileges", "value": false},
        {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_SYS_ADMIN", "net_raw"]}},
    ]}));
    let more = json!({
        "app": {"readOnlyRootFS": true, "mounts": [
            {"volume": "data", "path": "/data"}, {"volume": "scratch", "path": "/tmp"}, {"volume": "hosts", "path": "/etc/hosts"}]},
        "volumes": [
            {"name": "data", "kind": "host", "source": "/srv/data"},
            {"name": "scratch", "kind": "empty"},
            {"name": "hosts", "kind": "host", "source": "/srv/hosts", "readOnly": true, "recursive": false}]});
    golden("config-full.json", &make(&pod(what, more), Lifted::default()).unwrap());
}

#[test]
fn a_filter_of_ones_own() {
    let with = |name: &str, value: Value| {
        let pod = pod(app(json!({"isolators": [{"name": name, "value": value}]})), json!({"volumes": []}));
        make(&pod, Lifted::default()).map(|spec| spec["linux"]["seccomp"].clone())
    };
    let retain = with("os/linux/seccomp-retain-set", json!({"set": ["read", "write"]})).unwrap();
    assert_eq!(retain["defaultAction"], "SCMP_ACT_KILL_PROCESS");
    assert_eq!(retain["syscalls"], json!([{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]));
    let remove = with("os/linux/seccomp-remove-set", json!({"set": ["mount"], "errno": "ENOSYS"})).unwrap();
    assert_eq!(remove["defaultAction"], "SCMP_ACT_ALLOW");
    let rule = json!({"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38});
    assert_eq!(remove["syscalls"], json!([rule]));
    assert_eq!(with("os/linux/seccomp-retain-set", json!({"set": ["@appc.io/all"]})).unwrap(), Value::Null);
    for (set, errno) in [("@nobody/knows", ""), ("read", "EWHAT")] {
        assert!(with("os/linux/seccomp-remove-set", json!({"set": [set], "errno": errno})).is_err(), "{set}");
    }
}

#[test]
fn what_was_lifted_is_gone() {
    let pod = pod(app(json!({})), json!({"volumes": []}));
    let spec = make(&pod, Lifted { capabilities: true, paths: true, seccomp: true }).unwrap();
    assert_eq!(spec["process"]["capabilities"]["effective"].as_array().unwrap().len(), 41);
    assert!(spec["linux"].get("maskedPaths").is_none() && spec["linux"].get("readonlyPaths").is_none());
    assert!(spec["linux"].get("seccomp").is_none());
}

#[test]
fn clone_without_namespaces_only_unless_one_may_administer() {
    let rules = |isolators: Value| {
        let pod = pod(app(json!({"isolators": isolators})), json!({"volumes": []}));
        make(&pod, Lifted::default()).unwrap()["linux"]["seccomp"]["syscalls"].clone()
    };
    let of = |rules: &Value, call: &str| {
        let has = |rule: &&Value| rule["names"].as_array().unwrap().contains(&call.into());
        rules.as_array().unwrap().iter().filter(has).cloned().collect::<Vec<_>>()
    };
    let plain = rules(json!([]));
    let masked = json!([{"index": 0, "value": 0x7e02_0000_u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
    assert_eq!(of(&plain, "clone")[0]["args"], masked);
    assert_eq!(of(&plain, "clone3")[0]["errnoRet"], 38);
    assert!(of(&plain, "mount").is_empty() && of(&plain, "unshare").is_empty());
    let admin =
        rules(json!([{"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_SYS_ADMIN"]}}]));
    assert!(of(&admin, "clone").iter().all(|rule| rule.get("args").is_none()));
    assert_eq!(of(&admin, "clone3")[0]["action"], "SCMP_ACT_ALLOW");
}

#[test]
fn what_cannot_be_expressed_is_refused_and_named() {
    let refusal = |isolator: Value| {
        let pod = pod(app(json!({"isolators": [isolator]})), json!({"volumes": []}));
        make(&pod, Lifted::default()).unwrap_err().to_string()
    };
    let set = |name: &str| json!({"name": name, "value": {"set": ["CAP_NOPE"]}});
    assert!(refusal(set("os/linux/capabilities-retain-set")).contains("CAP_NOPE"));
    assert!(refusal(json!({"name": "os/linux/selinux-context", "value": {}})).contains("selinux-context"));
    assert!(refusal(json!({"name": "resource/memory", "value": {"limit": "4095"}})).contains("4096"));
    let mut pod = pod(app(json!({})), json!({"volumes": []}));
    pod.apps[0].app.as_mut().unwrap().exec.clear();
    assert!(matches!(make(&pod, Lifted::default()), Err(SpecError::NoCommand(_))));
    let sets = [
        Isolator::CapabilitiesRetain(vec!["KILL".into()]),
        Isolator::CapabilitiesRemove(vec!["KILL".into()]),
    ];
    let app: &mut App = pod.apps[0].app.as_mut().unwrap();
    (app.exec, app.isolators) = (vec!["/x".into()], sets.to_vec());
    assert!(matches!(make(&pod, Lifted::default()), Err(SpecError::TwoCapabilitySets { .. })));
}
