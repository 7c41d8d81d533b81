//! `policy.json`, and what signatures by it are about.

use crate::reference::ImageName;
use crate::trust::outside;

/// Images that a policy is asked about, one for each transport.
const IMAGES: [&str; 5] = [
    "docker.io/library/nginx:1",
    "host:5000/a/b:v1",
    "oci:/var/layout:tag",
    "docker-archive:/x.tar",
    "a.example.com/x",
];

/// Reads a policy, a payload, a key and a signature, with a zero byte between them.
pub fn policy(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (text, payload, key, signature) = (next(), next(), next(), next());
    if let Ok(text) = std::str::from_utf8(text) {
        IMAGES.iter().filter_map(|image| image.parse().ok()).for_each(|image| check(text, &image));
    }
    let _ = outside::is_payload(payload);
    if outside::made(key, payload, signature) {
        assert!(!outside::made(key, b"something else", signature), "a signature of everything");
    }
}

/// Nobody is let in by a policy that does not say so in so many words.
fn check(text: &str, image: &ImageName) {
    let Some((count, accepts)) = outside::requirements(text, image) else { return };
    assert!(count > 0, "nothing is required of {image}");
    // The word can be written with escapes.
    let said = text.contains("insecureAcceptAnything") || text.contains('\\');
    assert!(!accepts || said, "{image} is accepted, and nobody says so");
}
