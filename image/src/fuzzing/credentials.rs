//! Files of names and passwords: rkt's and docker's.

use std::path::Path;
use std::time::Duration;

use super::archive::{must, write};
use crate::credentials::{Credential, CredentialLookup as _, Credentials, ServerAuth};

/// Reads `bytes` as a file of either format, in `place`. No password may show where one is displayed.
pub fn credentials(bytes: &[u8], place: &Path) {
    let dir = place.join("auth.d");
    must(std::fs::create_dir_all(&dir));
    let file = write(&dir, "file.json", bytes);
    let mut of_rkt = without_helpers();
    let _ = of_rkt.add_auth_dir(&dir);
    check(&of_rkt);
    let mut of_docker = without_helpers();
    let _ = of_docker.add_docker_config(&file);
    check(&of_docker);
}

/// A file can name programs. Here there are none.
fn without_helpers() -> Credentials {
    let mut credentials = Credentials::new();
    credentials.use_helpers("/nonexistent".into(), Duration::from_secs(1));
    credentials
}

fn check(credentials: &Credentials) {
    for (registry, repository) in
        [("docker.io", "library/nginx"), ("host:5000", "a/b"), ("localhost", "x"), ("", "")]
    {
        let Ok(Some(credential)) = credentials.lookup(registry, repository) else { continue };
        let other = match &credential {
            Credential::Password { user, .. } => {
                Credential::Password { user: user.clone(), password: String::new() }
            }
            Credential::RefreshToken(_) => Credential::RefreshToken(String::new()),
            Credential::AccessToken(_) => Credential::AccessToken(String::new()),
        };
        assert_eq!(format!("{credential:?}"), format!("{other:?}"), "a secret is displayed");
    }
    if let Some(header) = credentials.server("example.com").and_then(ServerAuth::header) {
        assert!(!header.contains(['\r', '\n', '\0']), "{header:?} ends its line");
    }
}
