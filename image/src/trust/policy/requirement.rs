//! One requirement of a policy.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::trust::identity::{Identity, WireIdentity};

/// What an image must be, or have.
#[derive(Clone, Debug)]
pub(in crate::trust) enum Requirement {
    /// Nothing.
    Accept,
    /// It cannot be enough.
    Reject,
    /// An OpenPGP signature by one of these keys.
    SignedBy { keys: Vec<KeySource>, identity: Identity },
    /// A sigstore signature by one of these keys.
    SigstoreSigned { keys: Vec<KeySource>, identity: Identity },
    /// Nobody knows: this is why.
    Broken(String),
}

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::trust) enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In the policy itself.
    Data(Vec<u8>),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Data(_) => f.write_str("the key in the policy"),
        }
    }
}

/// As it is written. Unknown fields are errors: they may be conditions.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Wire {
    InsecureAcceptAnything {},
    Reject {},
    SignedBy {
        key_type: String,
        key_path: Option<PathBuf>,
        key_paths: Option<Vec<PathBuf>>,
        key_data: Option<String>,
        signed_identity: Option<WireIdentity>,
    },
    SigstoreSigned {
        key_path: Option<PathBuf>,
        key_paths: Option<Vec<PathBuf>>,
        key_data: Option<String>,
        key_datas: Option<Vec<String>>,
        signed_identity: Option<WireIdentity>,
        fulcio: Option<IgnoredAny>,
        pki: Option<IgnoredAny>,
        rekor_public_key_path: Option<IgnoredAny>,
        rekor_public_key_paths: Option<IgnoredAny>,
        rekor_public_key_data: Option<IgnoredAny>,
        rekor_public_key_datas: Option<IgnoredAny>,
    },
}

/// A scope's requirements. Always at least one; those that cannot be understood say so when they are asked.
pub(super) fn list(text: &RawValue) -> Vec<Requirement> {
    match serde_json::from_str::<Vec<&RawValue>>(text.get()) {
        Ok(list) if list.is_empty() => vec![Requirement::Broken("it has no requirements".to_owned())],
        Ok(list) => list.into_iter().map(one).collect(),
        Err(error) => vec![Requirement::Broken(format!("it is not a list of requirements: {error}"))],
    }
}

fn one(text: &RawValue) -> Requirement {
    let wire = match serde_json::from_str(text.get()) {
        Ok(wire) => wire,
        Err(error) => return Requirement::Broken(format!("a requirement cannot be understood: {error}")),
    };
    check(wire).unwrap_or_else(Requirement::Broken)
}

fn check(wire: Wire) -> Result<Requirement, String> {
    Ok(match wire {
        Wire::InsecureAcceptAnything {} => Requirement::Accept,
        Wire::Reject {} => Requirement::Reject,
        Wire::SignedBy { key_type, key_path, key_paths, key_data, signed_identity } => {
            if key_type != "GPGKeys" {
                return Err(format!(
                    "signedBy: the keyType {key_type:?} is not supported; it must be GPGKeys"
                ));
            }
            let keys = sources("signedBy", key_path, key_paths, key_data.map(|data| vec![data]))?;
            Requirement::SignedBy { keys, identity: Identity::check(signed_identity)? }
        }
        Wire::SigstoreSigned {
            key_path,
            key_paths,
            key_data,
            key_datas,
            signed_identity,
            fulcio,
            pki,
            rekor_public_key_path,
            rekor_public_key_paths,
            rekor_public_key_data,
            rekor_public_key_datas,
        } => {
            let rekor = [
                rekor_public_key_path,
                rekor_public_key_paths,
                rekor_public_key_data,
                rekor_public_key_datas,
            ];
            if fulcio.is_some() || pki.is_some() {
                return Err("sigstoreSigned: fulcio and pki are not supported; name public keys by keyPath"
                    .to_owned());
            }
            if rekor.iter().any(Option::is_some) {
                return Err(
                    "sigstoreSigned: rekor is not supported; signatures are verified offline, by key"
                        .to_owned(),
                );
            }
            if key_data.is_some() && key_datas.is_some() {
                return Err("sigstoreSigned: keyData and keyDatas exclude each other".to_owned());
            }
            let data = key_datas.or(key_data.map(|data| vec![data]));
            let keys = sources("sigstoreSigned", key_path, key_paths, data)?;
            Requirement::SigstoreSigned { keys, identity: Identity::check(signed_identity)? }
        }
    })
}

/// Exactly one of the ways to name keys.
fn sources(
    kind: &str,
    path: Option<PathBuf>,
    paths: Option<Vec<PathBuf>>,
    data: Option<Vec<String>>,
) -> Result<Vec<KeySource>, String> {
    let keys: Vec<KeySource> = match (path, paths, data) {
        (Some(path), None, None) => vec![KeySource::File(path)],
        (None, Some(paths), None) => paths.into_iter().map(KeySource::File).collect(),
        (None, None, Some(data)) => {
            let decode = |text: String| STANDARD.decode(text).map(KeySource::Data);
            let decoded: Result<_, _> = data.into_iter().map(decode).collect();
            decoded.map_err(|error| format!("{kind}: keyData is not base64: {error}"))?
        }
        _ => return Err(format!("{kind}: exactly one of keyPath, keyPaths and keyData is needed")),
    };
    if keys.is_empty() { Err(format!("{kind}: there are no keys")) } else { Ok(keys) }
}
