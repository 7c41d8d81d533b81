//! Images as appc describes them: what `rkt image cat-manifest` prints, and what a pod's app starts from.
//!
//! The mapping is that of rkt's docker2aci where it had one. Group: docker takes the user's own group when the image
//! names none, which appc cannot say; an empty group means that here.

use image::Content;
use oci_spec::image::ImageConfiguration;
use pod::AppName;
use pod::manifest::{
    AC_VERSION, Annotation, App, DOCKER_CMD, DOCKER_ENTRYPOINT, ImageManifest, MountPoint, Port, Protocol,
};

/// An image's manifest: an ACI's own, or what docker2aci would have written.
///
/// `name` is the image's name without its tag, `version` the tag.
pub(crate) fn image_manifest(name: &str, version: Option<&str>, content: &Content) -> ImageManifest {
    let config = match content {
        Content::Oci { config, .. } => config,
        Content::Aci(manifest) => return manifest.as_ref().clone(),
    };
    let label = |name: &str, value: &str| Annotation { name: name.to_owned(), value: value.to_owned() };
    let mut labels: Vec<_> = version.into_iter().map(|v| label("version", v)).collect();
    labels.push(label("os", &config.os().to_string()));
    labels.push(label("arch", &architecture(&config.architecture().to_string())));
    ImageManifest {
        ac_kind: "ImageManifest".to_owned(),
        ac_version: AC_VERSION.to_owned(),
        name: name.to_owned(),
        labels,
        app: Some(converted(config)),
        annotations: annotations(config),
        dependencies: Vec::new(),
        path_whitelist: Vec::new(),
    }
}

/// The signal that the image wants to be stopped with.
pub(crate) fn stop_signal(content: &Content) -> Option<&str> {
    let Content::Oci { config, .. } = content else { return None };
    config.config().as_ref()?.stop_signal().as_deref().filter(|s| !s.is_empty())
}

/// The app that an image runs. An ACI need not have one: then it is for `--exec` to say what to run, as root.
pub(crate) fn app(content: &Content) -> App {
    match content {
        Content::Oci { config, .. } => converted(config),
        Content::Aci(manifest) => manifest.app.clone().unwrap_or_else(|| converted(&Default::default())),
    }
}

fn converted(config: &ImageConfiguration) -> App {
    let config = config.config().clone().unwrap_or_default();
    let (user, group) = user(config.user().as_deref().unwrap_or_default());
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let environment = list(config.env()).iter().filter_map(|e| variable(e)).collect();
    App {
        exec: list(config.entrypoint()).into_iter().chain(list(config.cmd())).collect(),
        event_handlers: Vec::new(),
        user,
        group,
        supplementary_gids: Vec::new(),
        working_directory: config.working_dir().clone().filter(|d| d.starts_with('/')),
        environment,
        mount_points: mount_points(list(config.volumes())),
        ports: ports(list(config.exposed_ports())),
        isolators: Vec::new(),
        user_annotations: Default::default(),
        user_labels: Default::default(),
    }
}

fn variable(text: &str) -> Option<Annotation> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty())?;
    Some(Annotation { name: name.to_owned(), value: value.to_owned() })
}

/// `user[:group]`; root when there is neither.
fn user(text: &str) -> (String, String) {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    match (user, group) {
        ("", "") => ("0".to_owned(), "0".to_owned()),
        ("", group) => ("0".to_owned(), group.to_owned()),
        (user, group) => (user.to_owned(), group.to_owned()),
    }
}

/// The image's VOLUMEs. Their names are derived from the paths, as docker2aci's.
fn mount_points(mut paths: Vec<String>) -> Vec<MountPoint> {
    paths.sort();
    let mut points: Vec<MountPoint> = Vec::new();
    for path in paths {
        let base = format!("volume-{path}");
        let numbered = (2..100).map(|n| format!("volume-{n}-{path}"));
        let mut names = std::iter::once(base).chain(numbered).filter_map(|n| AppName::sanitize(&n));
        if let Some(name) = names.find(|name| points.iter().all(|p| p.name != *name)) {
            points.push(MountPoint { name, path, read_only: false });
        }
    }
    points
}

/// `80/tcp`, `53/udp`, `80`; what cannot be understood only documents something, and is left out.
fn ports(mut exposed: Vec<String>) -> Vec<Port> {
    exposed.sort();
    exposed.iter().filter_map(|text| port(text)).collect()
}

fn port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    let (port, count) = match number.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
            (first, last.checked_sub(first)?.checked_add(1)?)
        }
        None => (number.parse().ok()?, 1),
    };
    let name = AppName::sanitize(text)?;
    Some(Port { name, protocol, port, count, socket_activated: false })
}

fn annotations(config: &ImageConfiguration) -> Vec<Annotation> {
    let image = config.config().as_ref();
    let json =
        |list: &Option<Vec<String>>| serde_json::json!(list.as_deref().unwrap_or_default()).to_string();
    let mut annotations: Vec<Annotation> = Vec::new();
    let mut add = |name: &str, value: String| annotations.push(Annotation { name: name.to_owned(), value });
    if let Some(created) = config.created() {
        add("created", created.clone());
    }
    if let Some(author) = config.author() {
        add("authors", author.clone());
    }
    if let Some(image) = image {
        add(DOCKER_ENTRYPOINT, json(image.entrypoint()));
        add(DOCKER_CMD, json(image.cmd()));
    }
    annotations
}

/// appc's names of architectures are Go's, but for these.
fn architecture(go: &str) -> String {
    match go {
        "arm64" => "aarch64",
        "386" => "i386",
        "arm" => "armv7l",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An image with this configuration.
    pub(crate) fn oci(config: serde_json::Value) -> Content {
        let descriptor = |media_type: &str| serde_json::json!({"mediaType": media_type, "size": 2, "digest": image::Digest::of(b"{}").to_string()});
        let manifest = serde_json::json!({"schemaVersion": 2, "layers": [],
            "config": descriptor("application/vnd.oci.image.config.v1+json")});
        Content::Oci {
            manifest: Box::new(serde_json::from_value(manifest).unwrap()),
            config: Box::new(serde_json::from_value(config).unwrap()),
        }
    }

    fn manifest(config: serde_json::Value) -> ImageManifest {
        let whole = serde_json::json!({"architecture": "arm64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": []}});
        image_manifest("example.com/web", Some("1.2"), &oci(whole))
    }

    #[test]
    fn an_image_of_docker_reads_as_docker2aci_wrote_it() {
        let image = manifest(serde_json::json!({
            "User": "web", "Env": ["A=1=2", "PATH=/bin", "odd"], "Entrypoint": ["/e"], "Cmd": ["c d"],
            "WorkingDir": "/srv", "Volumes": {"/data": {}, "/DATA": {}}, "ExposedPorts": {"80/tcp": {}, "x": {}}}));
        let app = image.app.unwrap();
        assert_eq!(app.exec, ["/e", "c d"]);
        assert_eq!((app.user.as_str(), app.group.as_str()), ("web", ""));
        assert_eq!((app.env("A"), app.env("PATH"), app.environment.len()), (Some("1=2"), Some("/bin"), 2));
        let names: Vec<_> = app.mount_points.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["volume-data", "volume-2-data"]);
        assert_eq!((app.ports[0].name.as_str(), app.ports[0].port, app.ports.len()), ("80-tcp", 80, 1));
        let annotation =
            |name: &str| image.annotations.iter().find(|a| a.name == name).unwrap().value.clone();
        assert_eq!(
            (annotation(DOCKER_ENTRYPOINT), annotation(DOCKER_CMD)),
            ("[\"/e\"]".into(), "[\"c d\"]".into())
        );
        assert!(image.labels.contains(&Annotation { name: "arch".into(), value: "aarch64".into() }));
    }

    #[test]
    fn users() {
        let pair = |u: &str, g: &str| (u.to_owned(), g.to_owned());
        for (text, expected) in
            [("", pair("0", "0")), ("1:2", pair("1", "2")), ("a", pair("a", "")), (":g", pair("0", "g"))]
        {
            assert_eq!(user(text), expected, "{text}");
        }
    }
}
