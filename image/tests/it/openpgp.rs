//! Signatures made by GnuPG, and the keystore that says which of them count.

use std::path::PathBuf;

use image::{Certificate, Keystore, MAX_SIGNATURE, Scope, Signer};
use tempfile::TempDir;

use crate::build::chain;
use crate::gnupg::GnuPg;

const CONTENT: &[u8] = b"an image\nof some lines\n";

struct Keys {
    dir: TempDir,
    store: Keystore,
}

impl Keys {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Keystore::new(&dir.path().join("system"), &dir.path().join("local"));
        Self { dir, store }
    }

    /// A keystore that trusts one key with everything.
    fn with(key: &[u8]) -> Self {
        let keys = Self::new();
        let _ = keys.store.trust(&Scope::Root, key).unwrap();
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn verify(&self, content: &[u8], signature: &[u8]) -> Result<Signer, String> {
        self.store.verify("example.com/app", content, signature).map_err(|error| chain(&error))
    }

    fn refusal(&self, content: &[u8], signature: &[u8]) -> String {
        let error = self.verify(content, signature).unwrap_err();
        assert!(error.contains("the signature of image example.com/app does not count"), "{error}");
        error
    }
}

#[test]
fn signatures_of_every_common_kind_count() {
    let gpg = GnuPg::new();
    for algorithm in ["rsa2048", "ed25519", "nistp256", "nistp384", "nistp521"] {
        let key = gpg.key(algorithm, algorithm);
        let keys = Keys::with(&gpg.export(&key));
        for options in [&["--armor"][..], &[], &["--textmode"], &["--armor", "--digest-algo", "SHA512"]] {
            let signature = gpg.sign(&key, CONTENT, options);
            let signer = keys.verify(CONTENT, &signature).unwrap();
            assert_eq!(signer.fingerprint, key);
            assert_eq!(signer.user_ids, [format!("{algorithm} <{algorithm}@example.com>")]);
            let error = keys.refusal(b"another image", &signature);
            assert!(error.contains("one of them has been changed"), "{algorithm}: {error}");
        }
    }
}

#[test]
fn a_signing_subkey_speaks_for_its_certificate() {
    let gpg = GnuPg::new();
    let key = gpg.key("owner", "ed25519");
    let _ = gpg.run(&["--quick-add-key", &key, "ed25519", "sign", "never"]);
    let keys = Keys::with(&gpg.export(&key));
    // GnuPG signs with the newest key that can.
    let signature = gpg.sign(&key, CONTENT, &[]);
    let [subkey] = &Certificate::parse_armored(&gpg.export(&key)).unwrap().subkeys()[..] else { panic!() };
    let primary = gpg.sign(&format!("{key}!"), CONTENT, &[]);
    assert_ne!(signature.len(), 0);
    assert_eq!(keys.verify(CONTENT, &signature).unwrap().fingerprint, key);
    assert_eq!(keys.verify(CONTENT, &primary).unwrap().fingerprint, key);

    let file = gpg.path("commands");
    std::fs::write(&file, "key 1\nrevkey\ny\n1\n\ny\nsave\n").unwrap();
    let command = format!(
        "gpg --homedir {} --no-tty --quiet --pinentry-mode loopback --passphrase '' --command-fd 0 --edit-key {key} < {}",
        gpg.home(),
        file.display()
    );
    let _ = crate::build::run("sh", &["-c", &command]);
    let keys = Keys::with(&gpg.export(&key));
    let error = keys.refusal(CONTENT, &signature);
    assert!(error.contains(&format!("openpgp: key {subkey} has been revoked")), "{error}");
    assert!(keys.verify(CONTENT, &primary).is_ok(), "the primary key is as good as ever");
}

#[test]
fn signatures_that_do_not_count_say_why() {
    let gpg = GnuPg::new();
    let past = ["--faked-system-time", "20200101T000000!"];
    let good = gpg.key("good", "ed25519");
    let stranger = gpg.key("stranger", "ed25519");
    let weak = gpg.key("weak", "rsa1024");
    let old = gpg.key_with("old", "ed25519", &past, "1d");
    let gone = gpg.key("gone", "ed25519");
    let long = gpg.key_with("long", "ed25519", &past, "never");
    let by_gone = gpg.sign(&gone, CONTENT, &[]);
    gpg.revoke(&gone);
    let with_past = |options: &[&'static str]| [&past[..], options].concat();
    let future = ["--faked-system-time", "20900101T000000!"];
    let armored = gpg.sign(&good, CONTENT, &["--armor"]);
    let binary = gpg.sign(&good, CONTENT, &[]);
    let table: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        ("unknown", &good, gpg.sign(&stranger, CONTENT, &[]), "openpgp: signature made by unknown entity"),
        ("weak key", &weak, gpg.sign(&weak, CONTENT, &[]), "is too weak: RSA of fewer than 2048 bits"),
        (
            "weak hash",
            &good,
            gpg.sign(&good, CONTENT, &["--digest-algo", "SHA1"]),
            "uses SHA1, which can be forged",
        ),
        ("expired key", &old, gpg.sign(&old, CONTENT, &past), "expired at 2020-01-02T00:00:00Z"),
        ("revoked key", &gone, by_gone, "has been revoked"),
        (
            "expired",
            &long,
            gpg.sign(&long, CONTENT, &with_past(&["--default-sig-expire", "1d"])),
            "the signature expired at 2020-01-02",
        ),
        ("future", &long, gpg.sign(&long, CONTENT, &future), "2090-01-01T00:00:00Z, which has not come yet"),
        ("empty", &good, Vec::new(), "there is no signature in it"),
        ("armor cut", &good, armored[..armored.len() / 2].to_vec(), "not a whole signature"),
        ("binary cut", &good, binary[..binary.len() - 1].to_vec(), "not a whole signature"),
        ("twice", &good, binary.repeat(17), "more than 16 signatures"),
        ("huge", &good, vec![0x88; MAX_SIGNATURE as usize + 1], "more than 131072 bytes"),
        ("text", &good, b"<html>not found</html>".to_vec(), "not a whole signature"),
        ("a key", &good, gpg.export(&good), "where a signature is expected"),
        (
            "a message",
            &good,
            gpg.run(&[
                "--local-user",
                &good,
                "--output",
                "-",
                "--sign",
                &gpg.path("content").display().to_string(),
            ]),
            "where a signature is expected",
        ),
    ];
    for (case, key, signature, expected) in table {
        let error = Keys::with(&gpg.export(key)).refusal(CONTENT, &signature);
        assert!(error.contains(expected), "{case}: {error}");
    }
    // One good signature among others suffices.
    let both = [gpg.sign(&stranger, CONTENT, &[]), binary].concat();
    assert_eq!(Keys::with(&gpg.export(&good)).verify(CONTENT, &both).unwrap().fingerprint, good);
}

#[test]
fn a_key_is_trusted_with_its_prefix_and_nothing_else() {
    let gpg = GnuPg::new();
    let key = gpg.key("owner", "ed25519");
    let (armored, signature) = (gpg.export(&key), gpg.sign(&key, CONTENT, &[]));
    let keys = Keys::new();
    let scope = Scope::Prefix("example.com/a".parse().unwrap());
    let path = keys.store.trust(&scope, &armored).unwrap();
    assert_eq!(path, keys.path(&format!("local/trustedkeys/prefix.d/example.com/a/{key}")));
    assert_eq!(std::fs::read(&path).unwrap(), armored);
    for (name, trusted) in [
        ("example.com/a", true),
        ("example.com/a/b/c", true),
        ("example.com/ab", false),
        ("example.com", false),
        ("example.com/b", false),
        ("other.com/example.com/a", false),
    ] {
        let outcome = keys.store.verify(name, CONTENT, &signature);
        assert_eq!(outcome.is_ok(), trusted, "{name}");
        if let Err(error) = outcome {
            assert!(chain(&error).contains("openpgp: signature made by unknown entity"), "{name}");
        }
    }
    let error = chain(&keys.store.verify("../x", CONTENT, &signature).unwrap_err());
    assert!(error.contains("is not the name of an image"), "{error}");
}

#[test]
fn an_empty_local_file_masks_a_key_of_the_system() {
    let gpg = GnuPg::new();
    let key = gpg.key("owner", "ed25519");
    let (armored, signature) = (gpg.export(&key), gpg.sign(&key, CONTENT, &[]));
    for (held, mask) in [
        ("root.d", "root.d"),
        ("prefix.d/example.com", "prefix.d/example.com"),
        ("root.d", "prefix.d/example.com/app"),
    ] {
        let keys = Keys::new();
        keys.put(&format!("system/trustedkeys/{held}/{key}"), &armored);
        assert!(keys.verify(CONTENT, &signature).is_ok(), "{held}");
        keys.put(&format!("local/trustedkeys/{mask}/{key}"), b"");
        let error = keys.refusal(CONTENT, &signature);
        assert!(error.contains("signature made by unknown entity"), "{held}: {error}");
    }
}

#[test]
fn a_keystore_with_something_else_in_it_is_an_error() {
    let gpg = GnuPg::new();
    let (key, other) = (gpg.key("owner", "ed25519"), gpg.key("other", "ed25519"));
    let signature = gpg.sign(&key, CONTENT, &[]);
    let both = gpg.run(&["--armor", "--export", &key, &other]);
    for (file, content, expected) in [
        (key.as_str(), b"nonsense".to_vec(), "not a whole OpenPGP public key"),
        (&key, gpg.export(&other), "which is not the one that it is named by"),
        (&key, both, "there are 2 keys in it"),
        (&key, gpg.run(&["--export", &key]), "not ASCII-armored"),
        ("key.asc", gpg.export(&key), "named by its fingerprint"),
    ] {
        let keys = Keys::new();
        keys.put(&format!("local/trustedkeys/root.d/{file}"), &content);
        let error = keys.verify(CONTENT, &signature).unwrap_err();
        assert!(error.contains(expected) && error.contains(file), "{error}");
        // What a killed writer leaves is no key.
        let keys = Keys::with(&gpg.export(&key));
        keys.put("local/trustedkeys/root.d/.1.new", &content);
        assert!(keys.verify(CONTENT, &signature).is_ok());
    }
}
