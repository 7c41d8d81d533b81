//! GnuPG, in a home of its own: keys and signatures as people make them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A home with a secret key ring. Its agent ends with it.
pub(crate) struct GnuPg(TempDir);

impl GnuPg {
    pub(crate) fn new() -> Self {
        // Its sockets lie in it, and their paths have to be short.
        let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
        Self(home)
    }

    pub(crate) fn home(&self) -> String {
        self.0.path().display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let fixed = [
            "--homedir",
            &self.home(),
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ];
        let output = Command::new("gpg").args(fixed).args(arguments).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {arguments:?}: {error}");
        output.stdout
    }

    /// A new key, by its fingerprint in lower case.
    pub(crate) fn key(&self, name: &str, algorithm: &str) -> String {
        self.key_with(name, algorithm, &[], "never")
    }

    pub(crate) fn key_with(&self, name: &str, algorithm: &str, options: &[&str], expire: &str) -> String {
        let id = format!("{name} <{name}@example.com>");
        let _ = self.run(&[options, &["--quick-generate-key", &id, algorithm, "sign,cert", expire]].concat());
        self.fingerprint(name)
    }

    /// The fingerprint of a key, or with `!` that of its last subkey.
    pub(crate) fn fingerprint(&self, name: &str) -> String {
        let list = self.run(&["--with-colons", "--list-keys", &format!("{name}@example.com")]);
        let list = String::from_utf8(list).unwrap();
        let line = list.lines().find(|line| line.starts_with("fpr")).unwrap();
        line.split(':').nth(9).unwrap().to_lowercase()
    }

    pub(crate) fn export(&self, fingerprint: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", fingerprint])
    }

    /// A detached signature.
    pub(crate) fn sign(&self, fingerprint: &str, content: &[u8], options: &[&str]) -> Vec<u8> {
        let file = self.path("content");
        std::fs::write(&file, content).unwrap();
        let file = file.display().to_string();
        let fixed = ["--local-user", fingerprint, "--output", "-", "--detach-sign"];
        self.run(&[options, &fixed, &[&file]].concat())
    }

    /// Applies the revocation certificate that was made with the key.
    pub(crate) fn revoke(&self, fingerprint: &str) {
        let name = format!("openpgp-revocs.d/{}.rev", fingerprint.to_uppercase());
        let text = std::fs::read_to_string(self.path(&name)).unwrap();
        let file = self.path("revocation");
        // The colon keeps people from doing this by accident.
        std::fs::write(&file, text.replace(":-----BEGIN", "-----BEGIN")).unwrap();
        let _ = self.run(&["--import", &file.display().to_string()]);
    }
}

impl Drop for GnuPg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--homedir", &self.home(), "--kill", "all"]).output();
    }
}
