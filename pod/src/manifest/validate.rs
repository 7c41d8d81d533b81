//! What the types of a manifest cannot say: uniqueness, references, bounds.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::{Isolator, PodManifest, VolumeKind};
use crate::AppName;

/// A manifest that parses but cannot be a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// There is nothing to run.
    #[error("pod must contain at least one application")]
    NoApps,
    /// Two apps have one name.
    #[error("two apps have the name {0:?}")]
    DuplicateApp(AppName),
    /// Two volumes have one name.
    #[error("duplicate volume name: {0:?}")]
    DuplicateVolume(AppName),
    /// A mount names a volume that is not there.
    #[error("app {app:?} mounts volume {volume:?}, which the pod does not have")]
    NoSuchVolume {
        /// The app.
        app: AppName,
        /// The volume.
        volume: AppName,
    },
    /// A path is not absolute, has `..`, or has a character that no path has.
    #[error("{0:?} is not an absolute path without \"..\"")]
    Path(String),
    /// A number is outside its bounds.
    #[error("{what} must be between {min} and {max}, and is {value}")]
    Bounds {
        /// What it is.
        what: &'static str,
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// What it was.
        value: i64,
    },
    /// Text that is to become an argument or an environment variable has a NUL.
    #[error(
        "app {0:?} has an argument or environment variable with a NUL character, or a variable without a name"
    )]
    Text(AppName),
}

impl PodManifest {
    /// Checks what the types cannot.
    pub fn validate(&self) -> Result<(), ManifestError> {
        if self.apps.is_empty() {
            return Err(ManifestError::NoApps);
        }
        let mut volumes = BTreeSet::new();
        for volume in &self.volumes {
            if !volumes.insert(&volume.name) {
                return Err(ManifestError::DuplicateVolume(volume.name.clone()));
            }
            if let VolumeKind::Host { source } = &volume.kind {
                absolute(source)?;
            }
        }
        let mut names = BTreeSet::new();
        for app in &self.apps {
            if !names.insert(&app.name) {
                return Err(ManifestError::DuplicateApp(app.name.clone()));
            }
            for mount in &app.mounts {
                absolute(&mount.path)?;
                if mount.app_volume.is_none() && !volumes.contains(&mount.volume) {
                    let (app, volume) = (app.name.clone(), mount.volume.clone());
                    return Err(ManifestError::NoSuchVolume { app, volume });
                }
            }
            if let Some(what) = &app.app {
                what.isolators.iter().try_for_each(isolator)?;
                what.mount_points.iter().try_for_each(|m| absolute(&m.path))?;
                what.working_directory.iter().try_for_each(|d| absolute(d))?;
                let odd_variable = |name: &str| name.is_empty() || name.contains(['=', '\0']);
                let odd = what.exec.iter().any(|a| a.contains('\0'))
                    || what.environment.iter().any(|e| odd_variable(&e.name) || e.value.contains('\0'));
                if odd {
                    return Err(ManifestError::Text(app.name.clone()));
                }
            }
        }
        Ok(())
    }
}

fn absolute(path: &str) -> Result<(), ManifestError> {
    let fine = path.starts_with('/')
        && path.len() < 4096
        && !path.contains('\0')
        && Path::new(path).components().all(|c| c != Component::ParentDir);
    if fine { Ok(()) } else { Err(ManifestError::Path(path.chars().take(200).collect())) }
}

fn isolator(isolator: &Isolator) -> Result<(), ManifestError> {
    let bounds = |what, min, max, value: i64| {
        if (min..=max).contains(&value) {
            Ok(())
        } else {
            Err(ManifestError::Bounds { what, min, max, value })
        }
    };
    match isolator {
        Isolator::OomScoreAdj(n) => bounds("oom-score-adj", -1000, 1000, i64::from(*n)),
        Isolator::CpuShares(n) => bounds("cpu-shares", 2, 262_144, i64::try_from(*n).unwrap_or(i64::MAX)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(json: serde_json::Value) -> Result<(), ManifestError> {
        let mut value = serde_json::json!({"acVersion": "0.8.11", "acKind": "PodManifest"});
        value.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value::<PodManifest>(value).unwrap().validate()
    }

    #[test]
    fn what_is_refused() {
        use serde_json::json;
        let app = |name: &str| json!({"name": name, "image": {"id": "sha256-aa"}});
        assert_eq!(manifest(json!({"apps": [app("a")], "volumes": null})), Ok(()));
        assert_eq!(manifest(json!({"apps": []})), Err(ManifestError::NoApps));
        assert!(matches!(
            manifest(json!({"apps": [app("a"), app("a")]})),
            Err(ManifestError::DuplicateApp(_))
        ));
        let volume = json!({"name": "v", "kind": "empty"});
        let twice = json!({"apps": [app("a")], "volumes": [volume, volume]});
        assert!(matches!(manifest(twice), Err(ManifestError::DuplicateVolume(_))));
        for source in ["", "relative", "/a/../b", "/a\0b"] {
            let host =
                json!({"apps": [app("a")], "volumes": [{"name": "v", "kind": "host", "source": source}]});
            assert!(matches!(manifest(host), Err(ManifestError::Path(_))), "{source:?}");
        }
        let mut mounts = app("a");
        mounts["mounts"] = json!([{"volume": "gone", "path": "/x"}]);
        assert!(matches!(manifest(json!({"apps": [mounts]})), Err(ManifestError::NoSuchVolume { .. })));
    }

    #[test]
    fn bounds_of_isolators() {
        assert!(isolator(&Isolator::OomScoreAdj(-1001)).is_err());
        assert!(isolator(&Isolator::CpuShares(1)).is_err());
        assert!(isolator(&Isolator::CpuShares(u64::MAX)).is_err());
        assert!(isolator(&Isolator::CpuShares(1024)).is_ok());
    }
}
