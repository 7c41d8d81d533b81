//! Which files say whose images may be used: containers' own, unless an administrator of rkt names others.
//!
//! `trust.d/*.json` of `--user-config`, `--local-config` and `--system-config`, the first directory that has one counts:
//!
//! ```json
//! {"rktKind": "trust", "rktVersion": "v1",
//!  "policy": "/etc/rkt/policy.json", "registriesDirectory": "/etc/rkt/registries.d"}
//! ```
//!
//! A file that cannot be understood, and two files in one directory, are errors: what is to be trusted must not depend
//! on what is overlooked.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use image::ImageTrust;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    rkt_kind: String,
    rkt_version: String,
    policy: Option<PathBuf>,
    registries_directory: Option<PathBuf>,
}

/// The files that count, `config_dirs` being ordered by their weight.
pub(crate) fn settings(config_dirs: &[PathBuf]) -> anyhow::Result<ImageTrust> {
    let mut settings = ImageTrust::default();
    for dir in config_dirs {
        if let Some(path) = only(&dir.join("trust.d"))? {
            let file = read(&path).with_context(|| format!("cannot understand {}", path.display()))?;
            settings.policy_file = file.policy.unwrap_or(settings.policy_file);
            settings.registries_dir = file.registries_directory.unwrap_or(settings.registries_dir);
            break;
        }
    }
    Ok(settings)
}

fn only(dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    match paths.as_slice() {
        [] => Ok(None),
        [path] => Ok(Some(path.clone())),
        _ => bail!("there is more than one file in {}", dir.display()),
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let file: File = serde_json::from_slice(&std::fs::read(path)?)?;
    ensure!(
        file.rkt_kind == "trust" && file.rkt_version == "v1",
        "it is not of rktKind trust and rktVersion v1"
    );
    let paths = [&file.policy, &file.registries_directory];
    ensure!(paths.into_iter().flatten().all(|path| path.is_absolute()), "its paths must be absolute");
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_with_a_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (local, system) = (dir.path().join("local"), dir.path().join("system"));
        let dirs = [local.clone(), system.clone()];
        assert_eq!(settings(&dirs).unwrap(), ImageTrust::default());
        let write = |dir: &Path, name: &str, text: &str| {
            std::fs::create_dir_all(dir.join("trust.d")).unwrap();
            std::fs::write(dir.join("trust.d").join(name), text).unwrap();
        };
        write(&system, "a.json", r#"{"rktKind": "trust", "rktVersion": "v1", "policy": "/s"}"#);
        assert_eq!(settings(&dirs).unwrap().policy_file, Path::new("/s"));
        assert_eq!(settings(&dirs).unwrap().registries_dir, ImageTrust::default().registries_dir);
        write(
            &local,
            "a.json",
            r#"{"rktKind": "trust", "rktVersion": "v1", "policy": "/l", "registriesDirectory": "/r"}"#,
        );
        assert_eq!(
            settings(&dirs).unwrap(),
            ImageTrust { policy_file: "/l".into(), registries_dir: "/r".into() }
        );
        for text in [
            r#"{"rktKind": "trust", "rktVersion": "v1", "policy": "l"}"#,
            r#"{"rktKind": "auth", "rktVersion": "v1"}"#,
            "{",
            r#"{"rktKind": "trust", "rktVersion": "v1", "polcy": "/l"}"#,
        ] {
            write(&local, "a.json", text);
            assert!(settings(&dirs).is_err(), "{text}");
        }
        write(&system, "b.json", "{}");
        std::fs::remove_file(local.join("trust.d/a.json")).unwrap();
        assert!(settings(&dirs).unwrap_err().to_string().contains("more than one file"));
    }
}
