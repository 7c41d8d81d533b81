//! Whole pods, translated.

use super::*;
use pod::manifest::{DOCKER_CMD, DOCKER_ENTRYPOINT, Isolator, VolumeKind};
use serde_json::{Value, json};

fn facts() -> NodeFacts {
    NodeFacts { name: "n1".to_owned(), ip: "192.0.2.7".to_owned(), memory: 1 << 30 }
}

/// The pod with one container, which has these fields besides its name and image.
fn desired(container: Value, spec: Value) -> Desired {
    let mut c = json!({"name": "c", "image": "busybox"});
    c.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let mut document = json!({
        "metadata": {"name": "web", "labels": {"tier": "a\nb"}, "annotations": {"note": "100%"}},
        "spec": {"containers": [c]}});
    document["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    crate::source::static_pod::pod(document, "/m/web".as_ref(), "n1", jiff::Timestamp::UNIX_EPOCH).unwrap()
}

fn image(entrypoint: &str, cmd: &str, user: &str) -> Image {
    let manifest = json!({
        "acKind": "ImageManifest", "acVersion": "0.8.11", "name": "busybox",
        "annotations": [{"name": DOCKER_ENTRYPOINT, "value": entrypoint}, {"name": DOCKER_CMD, "value": cmd}],
        "app": {"exec": ["/e", "c"], "user": user, "group": user, "workingDirectory": "/w",
                "environment": [{"name": "PATH", "value": "/bin"}, {"name": "KEPT", "value": "yes"}]}});
    Image { id: "sha256-00".to_owned(), manifest: serde_json::from_value(manifest).unwrap() }
}

fn translated(container: Value, spec: Value) -> Result<PodManifest, Refusal> {
    manifest(&desired(container, spec), &[image(r#"["/e"]"#, r#"["c"]"#, "0")], &facts())
}

fn app(container: Value) -> pod::manifest::App {
    translated(container, json!({})).unwrap().apps.remove(0).app.unwrap()
}

#[test]
fn command_and_args_as_kubernetes_combines_them() {
    let table = [
        (json!({}), vec!["/e", "c"]),
        (json!({"args": ["x"]}), vec!["/e", "x"]),
        (json!({"command": ["/k"]}), vec!["/k"]),
        (json!({"command": ["/k"], "args": ["x", "y"]}), vec!["/k", "x", "y"]),
        (json!({"command": [], "args": []}), vec!["/e", "c"]),
        (
            json!({"args": ["$(A)", "$$(A)", "$(NOPE)", "$(KEPT)"], "env": [{"name": "A", "value": "1"}]}),
            vec!["/e", "1", "$(A)", "$(NOPE)", "$(KEPT)"],
        ),
        (json!({"command": ["sh", "-c", "echo \"%n\"\n--rm"]}), vec!["sh", "-c", "echo \"%n\"\n--rm"]),
    ];
    for (container, exec) in table {
        assert_eq!(app(container.clone()).exec, exec, "{container}");
    }
}

#[test]
fn nothing_to_run_is_a_refusal() {
    let nothing = image("[]", "[]", "0");
    let refusal = manifest(&desired(json!({}), json!({})), &[nothing], &facts()).unwrap_err();
    assert_eq!((refusal.container.as_deref(), refusal.reason), (Some("c"), "CreateContainerError"));
}

#[test]
fn environment() {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let app = app(json!({"env": [
        {"name": "A", "value": "one"},
        {"name": "B", "value": "$(A) $(LATER) $(KEPT)"},
        {"name": "LATER", "value": "x"},
        {"name": "PATH", "value": "/usr/bin:$(PATH)"},
        {"name": "ODD", "value": "a\nb%n\"'$x -- "},
        {"name": "EMPTY"},
        field("NAME", "metadata.name"), field("NS", "metadata.namespace"), field("NODE", "spec.nodeName"),
        field("HOST", "status.hostIP"), field("TIER", "metadata.labels['tier']"),
        field("NOTE", "metadata.annotations['note']"), field("NONE", "metadata.labels['none']"),
    ]}));
    let table = [
        ("KEPT", Some("yes")),
        ("A", Some("one")),
        ("B", Some("one $(LATER) $(KEPT)")),
        ("PATH", Some("/usr/bin:$(PATH)")),
        ("ODD", Some("a\nb%n\"'$x -- ")),
        ("EMPTY", Some("")),
        ("NAME", Some("web-n1")),
        ("NS", Some("default")),
        ("NODE", Some("n1")),
        ("HOST", Some("192.0.2.7")),
        ("TIER", Some("a\nb")),
        ("NOTE", Some("100%")),
        ("NONE", Some("")),
        ("HOSTNAME", Some("web-n1")),
    ];
    for (name, value) in table {
        assert_eq!(app.env(name), value, "{name}");
    }
}

#[test]
fn variables_that_cannot_be_known_are_refused() {
    let from = |from: Value| translated(json!({"env": [{"name": "V", "valueFrom": from}]}), json!({}));
    for source in [
        json!({"secretKeyRef": {"name": "s", "key": "k"}}),
        json!({"configMapKeyRef": {"name": "s", "key": "k"}}),
        json!({"resourceFieldRef": {"resource": "limits.cpu"}}),
        json!({"fieldRef": {"fieldPath": "status.podIP"}}),
        json!({"fieldRef": {"fieldPath": "metadata.nonsense"}}),
    ] {
        let refusal = from(source.clone()).unwrap_err();
        assert_eq!(refusal.reason, "CreateContainerConfigError", "{source}");
        assert!(refusal.message.contains("environment variable V"), "{refusal}");
    }
    let host = json!({"env": [{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]});
    assert!(translated(host, json!({"hostNetwork": true})).is_ok());
}

#[test]
fn volumes_and_mounts() {
    let made = translated(
        json!({"volumeMounts": [{"name": "a--b", "mountPath": "/a"}, {"name": "host", "mountPath": "/h", "readOnly": true}]}),
        json!({"volumes": [{"name": "a--b", "emptyDir": {}}, {"name": "host", "hostPath": {"path": "/srv"}}],
               "securityContext": {"fsGroup": 7}}),
    )
    .unwrap();
    let kind = |mode: &str, gid| VolumeKind::Empty { mode: Some(mode.to_owned()), uid: None, gid };
    assert_eq!(made.volumes[0].kind, kind("2777", Some(7)));
    assert_eq!(made.volumes[1].kind, VolumeKind::Host { source: "/srv".to_owned() });
    let mounts: Vec<_> =
        made.apps[0].mounts.iter().map(|m| (m.volume.as_str(), m.path.as_str(), m.read_only)).collect();
    assert_eq!(mounts, [("a-b", "/a", false), ("host", "/h", true)]);
    assert_eq!(made.apps[0].app.as_ref().unwrap().supplementary_gids, [7]);
    let plain = translated(json!({}), json!({"volumes": [{"name": "e", "emptyDir": {}}]})).unwrap();
    assert_eq!(plain.volumes[0].kind, kind("0777", None));
}

#[test]
fn users() {
    let user = |security: Value| {
        let app = app(json!({ "securityContext": security }));
        (app.user, app.group)
    };
    let pair = |u: &str, g: &str| (u.to_owned(), g.to_owned());
    assert_eq!(user(json!({})), pair("0", "0"));
    assert_eq!(user(json!({"runAsUser": 1000})), pair("1000", "0"));
    assert_eq!(user(json!({"runAsUser": 1000, "runAsGroup": 2000})), pair("1000", "2000"));
    let of_pod = translated(
        json!({"securityContext": {"runAsGroup": 5}}),
        json!({"securityContext": {"runAsUser": 4, "runAsGroup": 4, "supplementalGroups": [8]}}),
    );
    let app = of_pod.unwrap().apps.remove(0).app.unwrap();
    assert_eq!((app.user.as_str(), app.group.as_str(), app.supplementary_gids), ("4", "5", vec![8]));
}

#[test]
fn running_as_root_can_be_forbidden() {
    let non_root = json!({"securityContext": {"runAsNonRoot": true}});
    for (user, fine) in [("0", false), ("root", false), ("www", false), ("33", true)] {
        let made =
            manifest(&desired(non_root.clone(), json!({})), &[image("[]", r#"["a"]"#, user)], &facts());
        assert_eq!(made.is_ok(), fine, "{user}");
    }
    let with_user = json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 5}});
    assert!(translated(with_user, json!({})).is_ok());
}

fn isolators(security: Value) -> (Vec<String>, bool, bool) {
    let app = app(json!({ "securityContext": security }));
    let caps = app.isolators.iter().find_map(|i| match i {
        Isolator::CapabilitiesRetain(caps) => Some(caps.clone()),
        _ => None,
    });
    let no_new = app.isolators.contains(&Isolator::NoNewPrivileges(true));
    let unconfined = app.isolators.iter().any(|i| matches!(i, Isolator::SeccompRemove(_)));
    (caps.unwrap(), no_new, unconfined)
}

#[test]
fn privileges() {
    let (caps, no_new, unconfined) = isolators(json!({}));
    assert_eq!((caps.len(), no_new, unconfined), (14, false, false));
    let (caps, ..) = isolators(json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["all"]}}));
    assert_eq!(caps, ["CAP_NET_ADMIN"]);
    let (caps, ..) = isolators(json!({"capabilities": {"add": ["ALL"], "drop": ["CAP_CHOWN"]}}));
    assert_eq!(caps.len(), 41, "as with Docker, what is added wins");
    let (caps, ..) = isolators(json!({"capabilities": {"drop": ["chown"]}}));
    assert!(caps.len() == 13 && !caps.contains(&"CAP_CHOWN".to_owned()));
    let (caps, no_new, unconfined) = isolators(json!({"privileged": true}));
    assert_eq!((caps.len(), no_new, unconfined), (41, false, true));
    assert!(isolators(json!({"allowPrivilegeEscalation": false})).1);
    assert!(isolators(json!({"seccompProfile": {"type": "Unconfined"}})).2);
    let bad = translated(json!({"securityContext": {"capabilities": {"add": ["FLY"]}}}), json!({}));
    assert!(bad.unwrap_err().message.contains("no capability \"FLY\""));
}

#[test]
fn a_pod_says_whose_it_is() {
    let web = desired(json!({}), json!({"initContainers": [{"name": "i", "image": "busybox"}]}));
    let made =
        manifest(&web, &[image("[]", r#"["i"]"#, "0"), image("[]", r#"["c"]"#, "0")], &facts()).unwrap();
    assert_eq!(made.annotation(MANAGED), Some("true"));
    assert_eq!(made.annotation(HASH), Some(web.hash.as_str()));
    assert_eq!(made.annotation("io.kubernetes.pod.name"), Some("web-n1"));
    assert_eq!(Desired::from_stored(made.annotation(STORED).unwrap()), Some(web));
    let names: Vec<_> =
        made.apps.iter().map(|a| (a.name.as_str(), a.annotation(CONTAINER_NAME).unwrap())).collect();
    assert_eq!(names, [("i", "i"), ("c", "c")]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let check = |container: Value, spec: Value| unsupported::check(desired(container, spec).spec());
    assert_eq!(check(json!({}), json!({"hostNetwork": true, "hostIPC": true})), Ok(()));
    assert_eq!(check(json!({}), json!({"hostUsers": false})), Ok(()));
    let of_spec = [
        (json!({"hostPID": true}), "hostPID"),
        (json!({"shareProcessNamespace": true}), "shareProcessNamespace"),
        (json!({"hostUsers": false, "hostNetwork": true}), "hostUsers"),
        (json!({"hostUsers": false, "hostIPC": true}), "hostUsers"),
        (json!({"runtimeClassName": "kvm"}), "runtimeClassName"),
        (json!({"securityContext": {"sysctls": [{"name": "a", "value": "b"}]}}), "sysctls"),
        (json!({"volumes": [{"name": "s", "secret": {"secretName": "x"}}]}), "only hostPath and emptyDir"),
        (json!({"volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}]}), "\"Memory\""),
    ];
    for (spec, what) in of_spec {
        let refusal = check(json!({}), spec.clone()).unwrap_err();
        assert!(refusal.message.contains(what), "{spec}: {refusal}");
    }
    let mount =
        |extra: &str, value: Value| json!({"volumeMounts": [{"name": "v", "mountPath": "/v", extra: value}]});
    let of_container = [
        (json!({"envFrom": [{"secretRef": {"name": "x"}}]}), "envFrom"),
        (json!({"tty": true}), "tty"),
        (mount("subPath", json!("a")), "subPath"),
        (mount("mountPropagation", json!("Bidirectional")), "mountPropagation"),
        (json!({"resources": {"limits": {"nvidia.com/gpu": "1"}}}), "nvidia.com/gpu"),
        (json!({"securityContext": {"procMount": "Unmasked"}}), "procMount"),
        (json!({"securityContext": {"seLinuxOptions": {"level": "x"}}}), "seLinuxOptions"),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": ""}}}),
            "Localhost",
        ),
    ];
    for (container, what) in of_container {
        let refusal =
            check(container.clone(), json!({"volumes": [{"name": "v", "emptyDir": {}}]})).unwrap_err();
        assert!(refusal.message.contains(what), "{container}: {refusal}");
        assert_eq!(refusal.container.as_deref(), Some("c"));
    }
}

#[test]
fn what_is_left_out_is_named() {
    let web = desired(
        json!({"livenessProbe": {"exec": {"command": ["true"]}}, "ports": [{"containerPort": 80, "hostPort": 80}]}),
        json!({"hostNetwork": true, "activeDeadlineSeconds": 5}),
    );
    let found = unsupported::ignored(web.spec());
    assert_eq!(found, ["activeDeadlineSeconds", "livenessProbe of container c", "hostPort of container c"]);
}
