//! What a registry says in headers: how it wants to be asked, and when.

/// Reads the text as each of them.
pub fn headers(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        crate::registry::read_headers(text);
    }
}
