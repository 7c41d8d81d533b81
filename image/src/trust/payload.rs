//! What the signature of a container image says: "simple signing" (containers-signature(5)), which cosign uses as well.
//!
//! ```json
//! {"critical": {"type": "atomic container signature",
//!               "image": {"docker-manifest-digest": "sha256:…"},
//!               "identity": {"docker-reference": "registry.example/ns/app:1"}},
//!  "optional": {}}
//! ```
//!
//! Everything critical must be understood: an unknown or repeated field there is refused.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::digest::Digest;

/// The type of payloads that OpenPGP signatures are about.
pub(super) const ATOMIC: &str = "atomic container signature";
/// The type of payloads that sigstore signatures are about.
pub(super) const COSIGN: &str = "cosign container image signature";

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) digest: Digest,
    /// The name of the image, as whoever signed it knows it.
    pub(super) reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    critical: Critical,
    #[expect(dead_code, reason = "it may be there")]
    optional: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Name,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    #[serde(rename = "docker-reference")]
    reference: String,
}

impl Payload {
    /// Reads a payload of the wanted type.
    pub(super) fn parse(bytes: &[u8], kind: &str) -> Result<Self, serde_json::Error> {
        use serde::de::Error as _;
        let Wire { critical, .. } = serde_json::from_slice(bytes)?;
        if critical.kind != kind {
            return Err(serde_json::Error::custom(format_args!(
                "its type is {:?}, not {kind:?}",
                critical.kind
            )));
        }
        Ok(Self { digest: critical.image.digest, reference: critical.identity.reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_critical_is_read_strictly() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = format!(
            r#"{{"critical":{{"type":"{ATOMIC}","image":{{"docker-manifest-digest":"{digest}"}},"identity":{{"docker-reference":"a/b:1"}}}},"optional":{{"creator":"x"}}}}"#
        );
        let payload = Payload::parse(good.as_bytes(), ATOMIC).unwrap();
        assert_eq!((payload.digest.to_string(), payload.reference.as_str()), (digest.clone(), "a/b:1"));
        assert!(Payload::parse(good.replace(r#"{"creator":"x"}"#, "null").as_bytes(), ATOMIC).is_ok());
        let bad = [
            good.replace(ATOMIC, COSIGN),
            good.replace(r#""optional""#, r#""surprise""#),
            good.replace(r#""image":"#, r#""more":1,"image":"#),
            good.replace(
                r#""docker-reference":"a/b:1""#,
                r#""docker-reference":"a/b:1","docker-reference":"a/c:1""#,
            ),
            good.replace(r#""docker-reference":"a/b:1""#, ""),
            good.replace(&digest, "sha256:abc"),
            format!("{good}{good}"),
            "null".to_owned(),
            String::new(),
        ];
        for text in bad {
            assert!(Payload::parse(text.as_bytes(), ATOMIC).is_err(), "{text}");
        }
    }
}
