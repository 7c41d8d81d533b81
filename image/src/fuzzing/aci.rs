//! ACIs, and the pages that lead to them.

use std::io::Read as _;
use std::path::Path;

use super::archive::{must, unpacked, write};
use crate::aci::{AciName, outside};
use crate::compression::decoder;
use crate::platform::Platform;
use crate::unpack::Shape;

/// What an archive may decompress to.
const MOST: u64 = 2 << 20;

/// Reads the bytes as a file, and unpacks what is in it in `place`. What cannot be read cannot be unpacked with a
/// manifest, and what can be read has an identity that can be written and read.
pub fn aci(bytes: &[u8], place: &Path) {
    let file = write(place, "image.aci", bytes);
    let scan = outside::scan(&file, MOST);
    must(std::fs::remove_file(file));
    if let Ok((size, manifest)) = &scan {
        let name = AciName::new(&manifest.name, &manifest.labels);
        assert!(name.is_ok(), "{:?} has no name", manifest.name);
        assert!(*size <= MOST, "{size} bytes are more than the limit");
    }
    let mut tar = Vec::new();
    let decoded = decoder(bytes).and_then(|decoder| decoder.take(MOST).read_to_end(&mut tar));
    if decoded.is_ok() {
        let _ = unpacked(&tar, place, Shape::Aci);
    }
}

/// Reads the bytes as a page that was found where a name leads to.
pub fn pages(page: &[u8]) {
    let host = Platform::host();
    for name in ["example.com/app:1.0", "example.com/a/b,os=linux,x=%2F{ext}"] {
        let Ok(name) = AciName::parse(name) else { continue };
        for address in outside::addresses(page, &name, &host) {
            let http = address.starts_with("https://") || address.starts_with("http://");
            let plain = address.bytes().all(|byte| byte.is_ascii_graphic());
            assert!(http && plain, "{address:?} is no address");
        }
        for address in outside::keys(page, name.name()) {
            assert!(!address.contains(char::is_whitespace), "{address:?} is more than an address");
        }
    }
}
