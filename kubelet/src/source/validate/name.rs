//! DNS names, as RFC 1123 and Kubernetes have them.

use super::cut;

/// A label: at most 63 of `[a-z0-9-]`, no dash at either end.
pub(super) fn label(path: &str, value: &str) -> Option<String> {
    let fine = value.len() <= 63 && is_label(value);
    (!fine).then(|| {
        format!(
            "{path}: {:?} is not a DNS label (at most 63 lower-case letters, digits and dashes)",
            cut(value)
        )
    })
}

/// Labels with dots between them, at most 253 characters.
pub(super) fn subdomain(path: &str, value: &str) -> Option<String> {
    let fine = value.len() <= 253 && value.split('.').all(is_label);
    (!fine).then(|| {
        format!(
            "{path}: {:?} is not a DNS name (at most 253 lower-case letters, digits, dashes and dots)",
            cut(value)
        )
    })
}

fn is_label(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(fine) && !text.starts_with('-') && !text.ends_with('-')
}
