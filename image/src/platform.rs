//! Which build of an image is wanted: operating system, architecture and variant, in the words of GOOS and GOARCH.
//!
//! An index (OCI) or manifest list (Docker) offers several; [`Platform::choose`] takes the one that runs here. The
//! rules are those of the image-spec ("Image Index", platform variants): the best variant that is not newer than the
//! one wanted, the first of equals.

use std::fmt;

use oci_spec::image::{Descriptor, Platform as Offered};
use serde::{Deserialize, Serialize};

/// An operating system, an architecture and perhaps a variant: `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// As GOOS: `linux`.
    pub os: String,
    /// As GOARCH: `amd64`, `arm64`, `arm`, `riscv64`, …
    pub architecture: String,
    /// As the image-spec's table of variants: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Whether an image built for `os` and `architecture` is meant for this platform. Variants are the business of an
    /// index: configurations state them too unreliably to refuse an image for one.
    #[must_use]
    pub fn accepts(&self, os: &str, architecture: &str) -> bool {
        self.os == os && self.architecture == architecture
    }

    /// The best of what an index offers. An entry without a platform is taken only when nothing else is on offer.
    #[must_use]
    pub fn choose<'a>(&self, offers: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let mut best: Option<(u32, &Descriptor)> = None;
        // Signatures, bills of materials and the like are also listed, as artifacts.
        for offer in offers.iter().filter(|offer| offer.artifact_type().is_none()) {
            let rank = offer.platform().as_ref().and_then(|platform| self.rank(platform));
            if let Some(rank) = rank
                && best.is_none_or(|(highest, _)| rank > highest)
            {
                best = Some((rank, offer));
            }
        }
        match (best, offers) {
            (Some((_, offer)), _) => Some(offer),
            (None, [only]) if only.platform().is_none() => Some(only),
            _ => None,
        }
    }

    /// How well `offered` suits: nothing if it cannot run here, otherwise the higher the better.
    fn rank(&self, offered: &Offered) -> Option<u32> {
        if !self.accepts(&offered.os().to_string(), &offered.architecture().to_string()) {
            return None;
        }
        let level = |variant: &Option<String>| -> Option<u32> {
            variant.as_deref().map_or(Some(0), |text| text.strip_prefix('v')?.parse().ok())
        };
        match (level(&self.variant), level(offered.variant())) {
            // A variant that names no level can only be matched to the letter.
            (wanted, given) if wanted.is_none() || given.is_none() => {
                (self.variant == *offered.variant()).then_some(u32::MAX)
            }
            // Whoever names no variant takes the most modest one: it runs everywhere.
            (Some(0), Some(given)) => Some(u32::MAX - 1 - given.min(u32::MAX - 1)),
            (Some(wanted), Some(given)) => (given <= wanted).then_some(given),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(platforms: &[&str]) -> Vec<Descriptor> {
        let describe = |platform: &&str| {
            let mut parts = platform.split('/');
            let mut text = serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": crate::Digest::of(platform.as_bytes()).to_string(),
                "size": 2,
            });
            if !platform.is_empty() {
                text["platform"] = serde_json::json!({"os": parts.next(), "architecture": parts.next()});
                if let Some(variant) = parts.next() {
                    text["platform"]["variant"] = variant.into();
                }
            }
            serde_json::from_value(text).unwrap()
        };
        platforms.iter().map(describe).collect()
    }

    #[test]
    fn the_best_build_that_runs_here_is_chosen() {
        let table: &[(&str, &[&str], Option<usize>)] = &[
            ("linux/amd64", &["linux/arm64", "linux/amd64"], Some(1)),
            ("linux/amd64", &["windows/amd64", "linux/arm64"], None),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8"], Some(2)),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"], Some(1)),
            ("linux/arm64/v8", &["linux/arm64"], Some(0)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], Some(2)),
            ("linux/amd64", &[""], Some(0)),
            ("linux/amd64", &["", ""], None),
            ("linux/amd64", &["unknown/unknown", "linux/amd64"], Some(1)),
            ("linux/amd64", &[], None),
        ];
        for (wanted, offered, expected) in table {
            let mut parts = wanted.split('/').map(str::to_owned);
            let platform = Platform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next(),
            };
            let list = offers(offered);
            let chosen = platform.choose(&list).map(|offer| list.iter().position(|o| o == offer).unwrap());
            assert_eq!(chosen, *expected, "{wanted} among {offered:?}");
        }
    }
}
