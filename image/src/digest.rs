//! Digests and image ids.
//!
//! Content is named by the sha256 of its bytes (OCI image-spec, "Digests"). Other algorithms are refused when they
//! are parsed, so that a [`Digest`] in hand can always be verified. An [`ImageId`] is the digest of the image's
//! manifest for one platform, written `sha256-<hex>` so that it can stand where an image name can.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A sha256, displayed as `sha256:<64 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// The identity of an image: the sha256 of its manifest for one platform, displayed as `sha256-<64 hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ImageId(Digest);

/// Computes a [`Digest`] from bytes as they pass.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

/// Text that is not the digest of anything we can verify.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DigestError {
    /// Neither `sha256:` nor `sha256-` opens the text.
    #[error("{0:?} is not a sha256 digest: only sha256 is supported")]
    Algorithm(String),
    /// What follows is not 64 lower-case hexadecimal digits.
    #[error("{0:?} is not a digest: 64 lower-case hexadecimal digits must follow the algorithm")]
    Hex(String),
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits, which are also the file name of the content in the store.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Parses 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`DigestError::Hex`].
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let bad = || DigestError::Hex(hex.to_owned());
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(bad());
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (pair.first(), pair.get(1)) else { return Err(bad()) };
            let (high, low) = (nibble(*high).ok_or_else(bad)?, nibble(*low).ok_or_else(bad)?);
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl ImageId {
    /// The id of the image whose manifest has this digest.
    #[must_use]
    pub fn new(manifest: Digest) -> Self {
        Self(manifest)
    }

    /// The digest of the image's manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("sha256:").ok_or_else(|| DigestError::Algorithm(text.to_owned()))?;
        Self::from_hex(hex)
    }
}

impl FromStr for ImageId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text
            .strip_prefix("sha256-")
            .or_else(|| text.strip_prefix("sha256:"))
            .ok_or_else(|| DigestError::Algorithm(text.to_owned()))?;
        Ok(Self(Digest::from_hex(hex)?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256-{}", self.0.hex())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ImageId {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn of_nothing_is_the_well_known_digest() {
        assert_eq!(Digest::of(b"").to_string(), format!("sha256:{EMPTY}"));
        assert_eq!(Hasher::default().finish(), Digest::of(b""));
        assert_eq!(ImageId::new(Digest::of(b"")).to_string(), format!("sha256-{EMPTY}"));
    }

    #[test]
    fn what_cannot_be_verified_is_refused() {
        for bad in [
            "",
            "sha256",
            "sha256:",
            EMPTY,
            "sha512:00",
            "md5:0123",
            &format!("sha256:{}", &EMPTY[1..]),
            &format!("sha256:{EMPTY}0"),
            &format!("sha256:{}", EMPTY.to_uppercase()),
            &format!("sha256:{}é", &EMPTY[2..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn text_and_digest_round_trip(bytes in prop::array::uniform32(any::<u8>())) {
            let digest = Digest(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            prop_assert_eq!(ImageId(digest).to_string().parse::<ImageId>(), Ok(ImageId(digest)));
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in ".*") {
            let _ = text.parse::<Digest>();
            let _ = Digest::from_hex(&text);
        }
    }
}
