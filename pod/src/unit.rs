//! Names of systemd units, `docs/units.md`.
//!
//! Each name is built from parsed parts that cannot hold anything but `[a-z0-9-]` (and, in a slice, `_`), so that no
//! escaping is needed and none can be forgotten.

use crate::{AppName, PodId};

/// Kubernetes' quality-of-service classes: which slice a pod is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Every container has limits equal to its requests.
    Guaranteed,
    /// Some container has a request or a limit.
    Burstable,
    /// None has.
    BestEffort,
}

/// The text cannot be a Kubernetes UID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UID: 1 to 128 lower-case letters, digits and dashes")]
pub struct InvalidUid(String);

/// A Kubernetes pod's UID: usually a UUID, for static pods a hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(String);

impl std::str::FromStr for Uid {
    type Err = InvalidUid;

    fn from_str(text: &str) -> Result<Self, InvalidUid> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > 128 || !text.bytes().all(fine) || text.starts_with('-') {
            return Err(InvalidUid(text.chars().take(140).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl Qos {
    /// The slice of the class.
    pub fn slice(self) -> &'static str {
        match self {
            Qos::Guaranteed => "kubepods.slice",
            Qos::Burstable => "kubepods-burstable.slice",
            Qos::BestEffort => "kubepods-besteffort.slice",
        }
    }

    /// As Kubernetes writes it in a pod's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// The slice of one pod: `kubepods-burstable-pod<uid>.slice`.
pub fn pod_slice(qos: Qos, uid: &Uid) -> String {
    // A dash in a slice's name is a level of the tree (systemd.slice(5)).
    let uid = uid.0.replace('-', "_");
    format!("{}-pod{uid}.slice", qos.slice().trim_end_matches(".slice"))
}

/// The sandbox of a pod: `rkt-<uuid>.service`.
pub fn sandbox(pod: PodId) -> String {
    format!("rkt-{pod}.service")
}

/// An app of a pod: `rkt-<uuid>-<app>.service`.
pub fn app(pod: PodId, app: &AppName) -> String {
    format!("rkt-{pod}-{app}.service")
}

/// Which unit of which pod a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// The sandbox of a pod.
    Sandbox(PodId),
    /// An app of a pod.
    App(PodId, AppName),
}

/// Takes a unit's name apart. `None`: it is not one of ours.
pub fn parse(name: &str) -> Option<Unit> {
    const UUID: usize = 36;
    let name = name.strip_prefix("rkt-")?.strip_suffix(".service")?;
    let pod = name.get(..UUID)?.parse().ok()?;
    match name.get(UUID..)? {
        "" => Some(Unit::Sandbox(pod)),
        rest => Some(Unit::App(pod, rest.strip_prefix('-')?.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        let id: PodId = "6f2a1b3c-0000-4000-8000-00000000000a".parse().unwrap();
        let web: AppName = "web-1".parse().unwrap();
        assert_eq!(sandbox(id), "rkt-6f2a1b3c-0000-4000-8000-00000000000a.service");
        assert_eq!(parse(&sandbox(id)), Some(Unit::Sandbox(id)));
        assert_eq!(parse(&app(id, &web)), Some(Unit::App(id, web)));
        for other in [
            "rkt-.service",
            "rkt-gc.service",
            "ssh.service",
            "rkt-6f2a1b3c-0000-4000-8000-00000000000ax.service",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn slices() {
        let uid: Uid = "0b1c-2d".parse().unwrap();
        assert_eq!(pod_slice(Qos::Guaranteed, &uid), "kubepods-pod0b1c_2d.slice");
        assert_eq!(pod_slice(Qos::BestEffort, &uid), "kubepods-besteffort-pod0b1c_2d.slice");
        for bad in ["", "-a", "a/b", "a\n", "A", "a%n", "a.b"] {
            assert!(bad.parse::<Uid>().is_err(), "{bad:?}");
        }
    }
}
