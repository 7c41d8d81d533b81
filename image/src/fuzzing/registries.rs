//! `registries.conf`: where a name leads to.

use std::path::Path;

use crate::reference::{ImageName, Reference};
use crate::registries_conf::Registries;

/// Names and references that files are asked about.
const NAMES: [&str; 6] =
    ["nginx", "me/tool", "docker.io/library/nginx", "host:5000/a/b:v1", "example.com/a/b", "a.example.com/x"];

/// Reads the text as a file, and asks what names mean and where they are to be had.
pub fn registries(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut all = Registries::default();
    if all.add(Path::new("registries.conf"), text).is_err() {
        return;
    }
    for name in NAMES {
        if let Ok(ImageName::Registry(reference)) = all.name(name, &|_| false) {
            let shown = reference.to_string();
            assert_eq!(shown.parse::<Reference>().as_ref(), Ok(&reference), "{name:?} stands for {shown:?}");
            check(&all, &reference);
        }
        if let Ok(reference) = name.parse::<Reference>() {
            check(&all, &reference);
        }
    }
}

/// Whatever is written, one asks for lawful references only, and has somewhere to ask.
fn check(all: &Registries, reference: &Reference) {
    let Ok(endpoints) = all.endpoints(reference) else { return };
    assert!(!endpoints.is_empty(), "{reference} is to be had nowhere, and is not blocked");
    for endpoint in endpoints {
        // A mirror's host need not look like one: it is configured, and named by nobody.
        let shown = endpoint.reference.to_string();
        assert_eq!(Reference::located(&shown).as_ref(), Ok(&endpoint.reference), "{shown}");
    }
}
