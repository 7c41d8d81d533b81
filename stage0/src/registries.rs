//! What this host's administrator configured about registries, read when it is first needed and then kept.

use std::io::Write as _;
use std::sync::OnceLock;

use image::{Registries, RegistriesError};

/// `registries.conf`. What is not understood in it is said once.
pub(crate) fn of_host() -> Result<&'static Registries, RegistriesError> {
    static REGISTRIES: OnceLock<Registries> = OnceLock::new();
    if let Some(registries) = REGISTRIES.get() {
        return Ok(registries);
    }
    let read = Registries::of_host()?;
    for warning in read.warnings() {
        // In one piece, and nobody can be told that standard error is closed.
        let _ = std::io::stderr().write_all(format!("rkt: warning: {warning}\n").as_bytes());
    }
    Ok(REGISTRIES.get_or_init(|| read))
}
