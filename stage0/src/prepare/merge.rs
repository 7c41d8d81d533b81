//! From images and wishes to a pod manifest. Pure.
//!
//! Precedence of environment variables, as rkt: an app's own `--environment`, then `--set-env`, then the image, then
//! `--inherit-env`.

use std::mem::discriminant;

use pod::AppName;
use pod::manifest::{
    Annotation, App, Isolator, Mount, PodManifest, RuntimeApp, RuntimeImage, Volume, VolumeKind,
};

use super::request::{AppRequest, Apps};
use crate::images::Found;

/// The wishes cannot be met.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("no name for an app can be made from image {0:?}; give it one with --name")]
    NoName(String),
    #[error("two apps have the name {0:?}; give one of them another with --name")]
    DuplicateName(AppName),
    #[error("app {app:?} has more than {limit} mount points without a volume")]
    TooManyVolumes { app: AppName, limit: usize },
}

/// Makes the manifest of a pod from images and what was asked for about them, in the same order.
pub(super) fn manifest(wishes: &Apps, images: &[Found]) -> Result<PodManifest, MergeError> {
    let mut pod = PodManifest::new();
    pod.volumes.clone_from(&wishes.volumes);
    pod.annotations.clone_from(&wishes.annotations);
    pod.user_annotations.clone_from(&wishes.user_annotations);
    pod.user_labels.clone_from(&wishes.user_labels);
    for (wish, image) in wishes.apps.iter().zip(images) {
        let app = runtime_app(wishes, wish, image)?;
        if pod.app(&app.name).is_some() {
            return Err(MergeError::DuplicateName(app.name));
        }
        pod.apps.push(app);
    }
    Ok(pod)
}

/// Gives each mount point that has no mount one: the volume of its name, or else a new empty volume.
pub(super) fn resolve_mount_points(pod: &mut PodManifest) -> Result<(), MergeError> {
    let mut volumes = std::mem::take(&mut pod.volumes);
    for runtime in &mut pod.apps {
        let Some(app) = &runtime.app else { continue };
        for point in &app.mount_points {
            if runtime.mounts.iter().any(|m| same_path(&m.path, &point.path)) {
                continue;
            }
            let volume = match volumes.iter().find(|v| v.name == point.name) {
                Some(volume) => volume.name.clone(),
                None => add_empty(&mut volumes, &runtime.name, &point.name)?,
            };
            runtime.mounts.push(Mount {
                volume,
                path: point.path.clone(),
                app_volume: None,
                read_only: false,
            });
        }
    }
    pod.volumes = volumes;
    Ok(())
}

/// The longest list of implicit volumes that anybody needs.
const MOST: usize = 1000;

fn add_empty(volumes: &mut Vec<Volume>, app: &AppName, point: &AppName) -> Result<AppName, MergeError> {
    // Numbers in front: names are cut at the end.
    let names =
        (0..MOST).map(|n| if n == 0 { format!("{app}-{point}") } else { format!("{n}-{app}-{point}") });
    let free = |name: &AppName| volumes.iter().all(|v| v.name != *name);
    let name = names
        .filter_map(|name| AppName::sanitize(&name))
        .find(free)
        .ok_or_else(|| MergeError::TooManyVolumes { app: app.clone(), limit: MOST })?;
    let kind = VolumeKind::Empty { mode: None, uid: None, gid: None };
    volumes.push(Volume { name: name.clone(), kind, read_only: None, recursive: None });
    Ok(name)
}

fn runtime_app(wishes: &Apps, wish: &AppRequest, image: &Found) -> Result<RuntimeApp, MergeError> {
    let name = match &wish.name {
        Some(name) => name.clone(),
        None => app_name(&image.name).ok_or_else(|| MergeError::NoName(wish.image.clone()))?,
    };
    Ok(RuntimeApp {
        name,
        image: runtime_image(image),
        app: Some(app(wishes, wish, image)),
        read_only_root_fs: wish.read_only_root,
        mounts: wish
            .mounts
            .iter()
            .chain(
                wishes.mounts.iter().filter(|m| !wish.mounts.iter().any(|own| same_path(&own.path, &m.path))),
            )
            .cloned()
            .collect(),
        annotations: wish.annotations.clone(),
    })
}

/// The last component of the image's name.
pub(super) fn app_name(image: &str) -> Option<AppName> {
    AppName::sanitize(image.trim_end_matches('/').rsplit('/').next().unwrap_or(image))
}

pub(super) fn runtime_image(image: &Found) -> RuntimeImage {
    let label = |value: &String| Annotation { name: "version".to_owned(), value: value.clone() };
    RuntimeImage {
        name: Some(image.name.clone()),
        id: image.id.clone(),
        labels: image.version.iter().map(label).collect(),
    }
}

fn app(wishes: &Apps, wish: &AppRequest, image: &Found) -> App {
    let mut app = image.app();
    if let Some(exec) = &wish.exec {
        app.exec = vec![exec.clone()];
    }
    app.exec.extend(wish.args.iter().cloned());
    for (name, value) in wishes.environment.iter().chain(&wish.environment) {
        app.set_env(name, value);
    }
    for (name, value) in &wishes.inherited {
        if app.env(name).is_none() {
            app.set_env(name, value);
        }
    }
    if let Some(user) = &wish.user {
        app.user.clone_from(user);
        // The group of another user means nothing; the new one has its own.
        app.group.clear();
    }
    if let Some(group) = &wish.group {
        app.group.clone_from(group);
    }
    if let Some(gids) = &wish.supplementary_gids {
        app.supplementary_gids.clone_from(gids);
    }
    if let Some(dir) = &wish.working_dir {
        app.working_directory = Some(dir.clone());
    }
    app.isolators.retain(|old| !wish.isolators.iter().any(|new| same_kind(old, new)));
    app.isolators.extend(wish.isolators.iter().cloned());
    app.user_annotations.extend(wish.user_annotations.clone());
    app.user_labels.extend(wish.user_labels.clone());
    app
}

/// Whether one isolator takes the place of another: retain and remove sets do, too.
fn same_kind(a: &Isolator, b: &Isolator) -> bool {
    use Isolator::{CapabilitiesRemove, CapabilitiesRetain, SeccompRemove, SeccompRetain};
    match (a, b) {
        (CapabilitiesRetain(_) | CapabilitiesRemove(_), CapabilitiesRetain(_) | CapabilitiesRemove(_))
        | (SeccompRetain(_) | SeccompRemove(_), SeccompRetain(_) | SeccompRemove(_)) => true,
        _ => discriminant(a) == discriminant(b),
    }
}

fn same_path(a: &str, b: &str) -> bool {
    std::path::Path::new(a).components().eq(std::path::Path::new(b).components())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, config: serde_json::Value) -> Found {
        let whole = serde_json::json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": []}});
        Found {
            id: "sha256-ab".to_owned(),
            name: name.to_owned(),
            version: Some("1".to_owned()),
            content: crate::appc::tests::oci(whole),
            layers: Vec::new(),
            opens_outputs: false,
            _pin: None,
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn environment_has_an_order_of_precedence() {
        let image = image("a", serde_json::json!({"Env": ["A=image", "B=image", "C=image"]}));
        let wish = AppRequest { environment: vec![pair("A", "app")], ..AppRequest::default() };
        let inherited = vec![pair("A", "caller"), pair("C", "caller"), pair("D", "caller")];
        let environment = vec![pair("A", "pod"), pair("B", "pod")];
        let wishes = Apps { apps: vec![wish], environment, inherited, ..Apps::default() };
        let pod = manifest(&wishes, &[image]).unwrap();
        let app = pod.apps[0].app.as_ref().unwrap();
        let values = ["A", "B", "C", "D"].map(|name| app.env(name).unwrap());
        assert_eq!(values, ["app", "pod", "image", "caller"]);
    }

    #[test]
    fn command_user_and_isolators_are_replaced_and_arguments_added() {
        let image = image("a", serde_json::json!({"Cmd": ["a", "b"], "User": "web:web"}));
        let changed = AppRequest {
            exec: Some("/c".to_owned()),
            args: vec!["d".to_owned()],
            user: Some("7".to_owned()),
            isolators: vec![Isolator::CapabilitiesRemove(Vec::new())],
            ..AppRequest::default()
        };
        let app = |wish: AppRequest| super::app(&Apps::default(), &wish, &image);
        let changed = app(changed);
        assert_eq!(changed.exec, ["/c", "d"]);
        // Another user does not keep the group of the image's.
        assert_eq!((changed.user.as_str(), changed.group.as_str()), ("7", ""));
        let plain = app(AppRequest { args: vec!["d".to_owned()], ..AppRequest::default() });
        assert_eq!(
            (plain.exec.join(" "), plain.user, plain.group),
            ("a b d".into(), "web".into(), "web".into())
        );
        use Isolator::{CapabilitiesRetain, Memory};
        assert!(same_kind(&CapabilitiesRetain(Vec::new()), &Isolator::CapabilitiesRemove(Vec::new())));
        assert!(!same_kind(&Memory(Default::default()), &Isolator::Cpu(Default::default())));
    }

    #[test]
    fn names_come_from_images_and_are_unique() {
        let images =
            [image("host:5/x/Web_Server", serde_json::json!({})), image("web-server", serde_json::json!({}))];
        let wishes = |second: Option<&str>| {
            let named = AppRequest { name: second.map(|n| n.parse().unwrap()), ..AppRequest::default() };
            Apps { apps: vec![AppRequest::default(), named], ..Apps::default() }
        };
        let pod = manifest(&wishes(Some("other")), &images).unwrap();
        assert_eq!(pod.apps[0].name.as_str(), "web-server");
        assert!(matches!(manifest(&wishes(None), &images), Err(MergeError::DuplicateName(_))));
        let nameless = [image("___", serde_json::json!({}))];
        assert!(matches!(manifest(&wishes(None), &nameless), Err(MergeError::NoName(_))));
    }

    #[test]
    fn a_mount_point_gets_the_volume_of_its_name_or_an_empty_one_of_its_own() {
        let image = image("a", serde_json::json!({"Volumes": {"/data": {}, "/cache/": {}, "/log": {}}}));
        let volume = |name: &str| Volume {
            name: name.parse().unwrap(),
            kind: VolumeKind::Host { source: "/srv".to_owned() },
            read_only: None,
            recursive: None,
        };
        let mount = |volume: &str, path: &str| Mount {
            volume: volume.parse().unwrap(),
            path: path.to_owned(),
            app_volume: None,
            read_only: false,
        };
        let wish = AppRequest { mounts: vec![mount("mine", "/cache")], ..AppRequest::default() };
        // The name that the empty volume would get is taken.
        let volumes = vec![volume("mine"), volume("volume-data"), volume("a-volume-log")];
        let wishes = Apps { apps: vec![wish], volumes, ..Apps::default() };
        let mut pod = manifest(&wishes, &[image]).unwrap();
        resolve_mount_points(&mut pod).unwrap();
        let mounts: Vec<_> =
            pod.apps[0].mounts.iter().map(|m| (m.volume.as_str(), m.path.as_str())).collect();
        assert_eq!(mounts, [("mine", "/cache"), ("volume-data", "/data"), ("1-a-volume-log", "/log")]);
        assert!(matches!(pod.volumes[3].kind, VolumeKind::Empty { .. }));
        pod.validate().unwrap();
    }
}
