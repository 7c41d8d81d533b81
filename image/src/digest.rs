//! Digests and image ids.
//!
//! Content is named by the sha256 or the sha512 of its bytes (OCI image-spec, "Digests"). Other algorithms are refused
//! when they are parsed, so that a [`Digest`] in hand can always be verified. An [`ImageId`] is the digest that an image
//! is known by, written `sha256-<hex>` so that it can stand where an image name can: for OCI and Docker the sha256 of
//! the manifest for one platform, for ACI the sha512 of the uncompressed archive.
//!
//! The number of hexadecimal digits tells the algorithm, so files of the store are named by the digits alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// How a digest is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// 32 bytes; what everybody uses.
    #[default]
    Sha256,
    /// 64 bytes; what names ACIs.
    Sha512,
}

/// A sha256 or sha512, displayed as `sha256:<64 hex>` or `sha512:<128 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest {
    algorithm: Algorithm,
    /// Zero where the algorithm fills it not.
    bytes: [u8; 64],
}

/// The identity of an image, displayed as `sha256-<64 hex>` or `sha512-<128 hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ImageId(Digest);

/// Computes a [`Digest`] from bytes as they pass. The default computes a sha256.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Text that is not the digest of anything we can verify.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DigestError {
    /// The text does not begin with an algorithm that we know.
    #[error("{0:?} is not a digest that can be verified: only sha256 and sha512 are supported")]
    Algorithm(String),
    /// What follows is not as many lower-case hexadecimal digits as the algorithm has.
    #[error(
        "{0:?} is not a digest: 64 lower-case hexadecimal digits must follow sha256, 128 must follow sha512"
    )]
    Hex(String),
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// `sha256`, `sha512`: what stands before the digits, and names the directory of such content in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest has.
    #[must_use]
    pub fn digits(self) -> usize {
        self.size() * 2
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }

    fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Takes the algorithm and one of `separators` from the beginning of `text`.
    pub(crate) fn split<'a>(text: &'a str, separators: &[char]) -> Option<(Self, &'a str)> {
        Self::ALL.into_iter().find_map(|algorithm| {
            let rest = text.strip_prefix(algorithm.name())?;
            Some((algorithm, rest.strip_prefix(separators)?))
        })
    }
}

impl Digest {
    /// The sha256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// How it is computed: with what to compute the digest of something that is to be compared with this.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits, which are also the file name of the content in the store.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let bytes = self.bytes.iter().take(self.algorithm.size());
        bytes.fold(String::with_capacity(self.algorithm.digits()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Parses 64 or 128 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`DigestError::Hex`].
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let bad = || DigestError::Hex(hex.to_owned());
        let fits = |algorithm: &Algorithm| algorithm.digits() == hex.len();
        let algorithm = Algorithm::ALL.into_iter().find(fits).ok_or_else(bad)?;
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (pair.first(), pair.get(1)) else { return Err(bad()) };
            let (high, low) = (nibble(*high).ok_or_else(bad)?, nibble(*low).ok_or_else(bad)?);
            *byte = high << 4 | low;
        }
        Ok(Self { algorithm, bytes })
    }

    fn parse(text: &str, separators: &[char]) -> Result<Self, DigestError> {
        let (algorithm, hex) =
            Algorithm::split(text, separators).ok_or_else(|| DigestError::Algorithm(text.to_owned()))?;
        let digest = Self::from_hex(hex)?;
        if digest.algorithm == algorithm { Ok(digest) } else { Err(DigestError::Hex(text.to_owned())) }
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
    /// The id of the image whose manifest (ACI: whose archive) has this digest.
    #[must_use]
    pub fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// The digest that it is made of.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl Hasher {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything added.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 64];
        let mut fill = |hash: &[u8]| bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
        let algorithm = match self.0 {
            State::Sha256(state) => {
                fill(&state.finalize());
                Algorithm::Sha256
            }
            State::Sha512(state) => {
                fill(&state.finalize());
                Algorithm::Sha512
            }
        };
        Digest { algorithm, bytes }
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new(Algorithm::default())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, &[':'])
    }
}

impl FromStr for ImageId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Digest::parse(text, &['-', ':'])?))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.algorithm, self.0.hex())
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
    fn sha512_is_told_by_its_length() {
        // FIPS 180-4's example "abc".
        const ABC: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let digest = Algorithm::Sha512.digest(b"abc");
        assert_eq!(digest.to_string(), format!("sha512:{ABC}"));
        assert_eq!(Digest::from_hex(ABC), Ok(digest));
        assert_eq!(format!("sha512-{ABC}").parse(), Ok(ImageId::new(digest)));
        assert_ne!(Digest::of(b"abc"), digest);
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
            &format!("sha512:{EMPTY}"),
            &format!("sha256:{EMPTY}{EMPTY}"),
            &format!("sha256-{EMPTY}"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn text_and_digest_round_trip(bytes in any::<Vec<u8>>()) {
            for algorithm in Algorithm::ALL {
                let digest = algorithm.digest(&bytes);
                prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
                prop_assert_eq!(ImageId(digest).to_string().parse::<ImageId>(), Ok(ImageId(digest)));
                prop_assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in ".*") {
            let _ = text.parse::<Digest>();
            let _ = Digest::from_hex(&text);
        }
    }
}
