//! Values of flags: text to types. Pure.

use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use pod::AppName;
use pod::manifest::{Annotation, Isolator, Mount, Seccomp, Volume, VolumeKind};

/// `name=value`
pub(crate) fn pair(flag: &str, text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .with_context(|| format!("--{flag}: {text:?} is not of the form name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn annotation(flag: &str, text: &str) -> anyhow::Result<Annotation> {
    let (name, value) = pair(flag, text)?;
    Ok(Annotation { name, value })
}

/// A volume: `NAME,kind=host|empty,source=PATH[,readOnly=BOOL][,recursive=BOOL][,mode=,uid=,gid=]`.
pub(crate) fn volume(text: &str) -> anyhow::Result<Volume> {
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    let name: AppName = name.parse().with_context(|| format!("--volume {text:?}"))?;
    let (mut kind, mut source, mut read_only, mut recursive) = (None, None, None, None);
    let (mut mode, mut uid, mut gid) = (None, None, None);
    for (key, value) in pairs("volume", rest)? {
        match key {
            "kind" => kind = Some(value),
            "source" => source = Some(value.to_owned()),
            "readOnly" => read_only = Some(boolean("volume", key, value)?),
            "recursive" => recursive = Some(boolean("volume", key, value)?),
            "mode" => mode = Some(value.to_owned()),
            "uid" => uid = Some(number("volume", key, value)?),
            "gid" => gid = Some(number("volume", key, value)?),
            other => bail!("--volume {name}: unknown parameter {other:?}"),
        }
    }
    let kind = match (kind, source) {
        (Some("host"), Some(source)) => {
            ensure!(source.starts_with('/'), "--volume {name}: source {source:?} is not an absolute path");
            ensure!(
                mode.is_none() && uid.is_none() && gid.is_none(),
                "--volume {name}: mode, uid and gid are for kind=empty"
            );
            VolumeKind::Host { source }
        }
        (Some("host"), None) => bail!("--volume {name}: kind=host needs source=PATH"),
        (Some("empty"), None) => VolumeKind::Empty { mode, uid, gid },
        (Some("empty"), Some(_)) => bail!("--volume {name}: kind=empty has no source"),
        (Some(other), _) => bail!("--volume {name}: unknown kind {other:?}: it is host or empty"),
        (None, _) => bail!("--volume {name}: kind=host or kind=empty is missing"),
    };
    Ok(Volume { name, kind, read_only, recursive })
}

/// A mount: `volume=NAME,target=PATH`.
pub(crate) fn mount(text: &str) -> anyhow::Result<Mount> {
    let (mut volume, mut target) = (None, None);
    for (key, value) in pairs("mount", text)? {
        match key {
            "volume" => volume = Some(value.parse().with_context(|| format!("--mount {text:?}"))?),
            "target" => target = Some(value.to_owned()),
            other => bail!("--mount {text:?}: unknown parameter {other:?}"),
        }
    }
    let volume = volume.with_context(|| format!("--mount {text:?}: volume=NAME is missing"))?;
    let path = target.with_context(|| format!("--mount {text:?}: target=PATH is missing"))?;
    ensure!(path.starts_with('/'), "--mount {text:?}: target {path:?} is not an absolute path");
    Ok(Mount { volume, path, app_volume: None, read_only: false })
}

/// A system call filter: `mode=retain|remove[,errno=E],CALL…`.
pub(crate) fn seccomp(text: &str) -> anyhow::Result<Isolator> {
    let (mut mode, mut set) = (None, Seccomp::default());
    for part in text.split(',').filter(|p| !p.is_empty()) {
        match part.split_once('=') {
            Some(("mode", value)) => mode = Some(value),
            Some(("errno", value)) => set.errno = Some(value.to_owned()),
            Some((other, _)) => bail!("--seccomp: unknown parameter {other:?}"),
            None => set.set.push(part.to_owned()),
        }
    }
    match mode {
        Some("retain") => Ok(Isolator::SeccompRetain(set)),
        Some("remove") => Ok(Isolator::SeccompRemove(set)),
        _ => bail!("--seccomp {text:?}: mode=retain or mode=remove is missing"),
    }
}

/// `IP=NAME[,IP=NAME…]`
pub(crate) fn hosts_entries(text: &str) -> anyhow::Result<Vec<(IpAddr, String)>> {
    let entry = |part: &str| {
        let (ip, name) = pair("hosts-entry", part)?;
        let ip = ip.parse().with_context(|| format!("--hosts-entry: {ip:?} is not an IP address"))?;
        ensure!(is_host_name(&name), "--hosts-entry: {name:?} is not a host name");
        Ok((ip, name))
    };
    text.split(',').map(entry).collect()
}

/// Whether text can be a host name: no character of it means anything to a file or a shell.
pub(crate) fn is_host_name(text: &str) -> bool {
    let fine = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(fine)
}

/// One word of /etc/resolv.conf.
pub(crate) fn resolver_word(flag: &str, text: &str) -> anyhow::Result<String> {
    let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    ensure!(fine, "--{flag}: {text:?} is not one word");
    Ok(text.to_owned())
}

/// A list of numbers: `1,2,3`.
pub(crate) fn gids(text: &str) -> anyhow::Result<Vec<u32>> {
    text.split(',').map(|gid| number("supplementary-gids", "group", gid)).collect()
}

/// The content of a `--set-env-file`: `NAME=value` lines; `#` and `;` begin comments.
pub(crate) fn environment_file(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', ';']));
    lines.map(|line| pair("set-env-file", line)).collect()
}

fn pairs<'a>(flag: &str, text: &'a str) -> anyhow::Result<Vec<(&'a str, &'a str)>> {
    let pair = |part: &'a str| {
        part.split_once('=').with_context(|| format!("--{flag}: {part:?} is not of the form name=value"))
    };
    text.split(',').filter(|part| !part.is_empty()).map(pair).collect()
}

fn boolean(flag: &str, key: &str, value: &str) -> anyhow::Result<bool> {
    value.parse().with_context(|| format!("--{flag}: {key}={value:?} is neither true nor false"))
}

fn number(flag: &str, key: &str, value: &str) -> anyhow::Result<u32> {
    // The largest number means "no change" to chown(2).
    value
        .parse()
        .ok()
        .filter(|n| *n != u32::MAX)
        .with_context(|| format!("--{flag}: {key} {value:?} is not a number below {}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn volumes() {
        let volume = |text: &str| super::volume(text).map_err(|e| e.to_string());
        let host = volume("data,kind=host,source=/srv,readOnly=true,recursive=false").unwrap();
        assert_eq!(host.kind, VolumeKind::Host { source: "/srv".to_owned() });
        assert_eq!((host.read_only, host.recursive), (Some(true), Some(false)));
        let empty = volume("tmp,kind=empty,mode=1777,uid=1,gid=2").unwrap();
        assert!(matches!(empty.kind, VolumeKind::Empty { uid: Some(1), gid: Some(2), .. }));
        for (bad, names) in [
            ("data", "kind"),
            ("data,kind=host", "source"),
            ("data,kind=host,source=srv", "absolute"),
            ("data,kind=nfs", "nfs"),
            ("data,kind=empty,uid=4294967295", "uid"),
            ("data,kind=empty,readOnly=maybe", "readOnly"),
            ("data,kind=empty,color=red", "color"),
            ("Data,kind=empty", "Data"),
        ] {
            let error = volume(bad).unwrap_err();
            assert!(error.contains(names), "{bad}: {error}");
        }
    }

    #[test]
    fn mounts_and_filters() {
        assert_eq!(mount("volume=v,target=/x").unwrap().path, "/x");
        for bad in ["volume=v", "target=/x", "volume=v,target=x", "volume=v,target=/x,odd=1"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
        let filter = seccomp("mode=retain,errno=EPERM,read,write").unwrap();
        let set = Seccomp { set: vec!["read".into(), "write".into()], errno: Some("EPERM".into()) };
        assert_eq!(filter, Isolator::SeccompRetain(set));
        assert!(seccomp("read").is_err());
    }

    #[test]
    fn names_that_would_write_more_than_themselves() {
        for bad in ["1.2.3.4=a\nb", "1.2.3.4=", "x=a", "1.2.3.4=a b", "1.2.3.4=-a"] {
            assert!(hosts_entries(bad).is_err(), "{bad:?}");
        }
        assert!(hosts_entries("1.2.3.4=a.b,::1=c").is_ok());
        assert!(resolver_word("dns-opt", "ndots:5").is_ok());
        assert!(resolver_word("dns-opt", "a\nnameserver").is_err());
    }

    #[test]
    fn environment_files() {
        let text = "# comment\n; too\n\nA=1\n B=x=y \n";
        assert_eq!(environment_file(text).unwrap(), [("A".into(), "1".into()), ("B".into(), "x=y".into())]);
        assert!(environment_file("novalue\n").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in ".{0,40}") {
            let _ = (volume(&text), mount(&text), seccomp(&text), environment_file(&text));
            if let Ok(entries) = hosts_entries(&text) {
                // Nothing that was accepted can write more than a line of its own.
                prop_assert!(entries.iter().all(|(_, name)| !name.contains(char::is_whitespace)));
            }
        }
    }
}
