//! Manifests, indexes, configurations: a source that answers with whatever the fuzzer made up.
//!
//! The input is a list of documents with a zero byte between them; the first is what the name leads to. A fuzzer finds
//! no digests, so a document can name a later one: `@2` stands for the digest of the third, `#2` for its size.

use std::io::Read;

use oci_spec::image::Descriptor;

use crate::digest::Digest;
use crate::manifest::{self, Document, MAX_LAYERS};
use crate::platform::Platform;
use crate::source::{Raw, Resolved, Source, SourceError, resolve, small_blob};

/// More are not looked at.
const MOST: usize = 10;

/// Resolves what the documents say, as a fetch does, up to the layers.
pub fn documents(bytes: &[u8]) {
    let source = Documents::parse(bytes);
    for document in &source.documents {
        let _ = manifest::parse(document, None);
    }
    for platform in [Platform::host(), Platform { architecture: "arm64".to_owned(), ..Platform::host() }] {
        if let Ok(resolved) = resolve(&source, &platform) {
            check(&source, &resolved, &platform);
        }
    }
}

/// What was resolved is what the source has, and what it says is consistent.
fn check(source: &Documents, resolved: &Resolved, platform: &Platform) {
    assert_eq!(Digest::of(&resolved.bytes), resolved.digest, "the manifest is another one");
    assert!(source.documents.contains(&resolved.bytes), "the manifest is nobody's");
    let Ok(Document::Manifest(again)) = manifest::parse(&resolved.bytes, None) else { return };
    assert_eq!(*again, resolved.manifest, "the manifest is read in two ways");
    let Ok(bytes) = small_blob(source, resolved.manifest.config()) else { return };
    assert!(source.documents.contains(&bytes), "the configuration is nobody's");
    let Ok((config, diff_ids)) = manifest::configuration(&bytes, &resolved.manifest, platform) else {
        return;
    };
    assert!(diff_ids.len() <= MAX_LAYERS, "too many layers");
    assert_eq!(diff_ids.len(), resolved.manifest.layers().len(), "layers without a digest");
    assert_eq!(diff_ids.len(), config.rootfs().diff_ids().len(), "digests were lost");
    let written = serde_json::to_vec(&config).unwrap_or_default();
    let read: Option<oci_spec::image::ImageConfiguration> = manifest::from_go(&written).ok();
    assert_eq!(read, Some(config), "the configuration cannot be written and read");
}

struct Documents {
    documents: Vec<Vec<u8>>,
}

impl Documents {
    fn parse(bytes: &[u8]) -> Self {
        let mut later: Vec<Vec<u8>> = Vec::new();
        let texts: Vec<&[u8]> = bytes.split(|byte| *byte == 0).take(MOST).collect();
        for (at, text) in texts.iter().enumerate().rev() {
            let document = complete(text, &later, at + 1);
            later.insert(0, document);
        }
        Self { documents: later }
    }

    fn find(&self, descriptor: &Descriptor) -> Vec<u8> {
        let digest = manifest::digest_of(descriptor).ok();
        let found = self.documents.iter().find(|document| Some(Digest::of(document)) == digest);
        // Lies are answered with something, too.
        found.or(self.documents.last()).cloned().unwrap_or_default()
    }
}

/// Puts digests and sizes in the place of references to later documents, the first of which has the number `first`.
fn complete(text: &[u8], later: &[Vec<u8>], first: usize) -> Vec<u8> {
    let mut done = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let number =
            after.first().filter(|digit| digit.is_ascii_digit()).map(|digit| usize::from(digit - b'0'));
        let named = number.and_then(|number| later.get(number.checked_sub(first)?));
        rest = match (byte, named) {
            (b'@', Some(document)) => {
                done.extend_from_slice(Digest::of(document).to_string().as_bytes());
                after.get(1..).unwrap_or_default()
            }
            (b'#', Some(document)) => {
                done.extend_from_slice(document.len().to_string().as_bytes());
                after.get(1..).unwrap_or_default()
            }
            _ => {
                done.push(*byte);
                after
            }
        };
    }
    done
}

impl Source for Documents {
    fn root(&self) -> Result<Raw, SourceError> {
        let bytes = self.documents.first().cloned().unwrap_or_default();
        Ok(Raw { bytes, media_type: None })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Raw, SourceError> {
        let media_type = Some(descriptor.media_type().to_string());
        Ok(Raw { bytes: self.find(descriptor), media_type })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        Ok(Box::new(std::io::Cursor::new(self.find(descriptor))))
    }
}
