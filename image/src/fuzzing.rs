//! What fuzzers call: one function for each kind of outside input, which feeds it to the code that reads such input
//! and panics when a promise of that code is broken.
//!
//! Not part of the crate's interface: it exists in tests and with the feature `fuzzing`. The programs that call it are
//! in `fuzz/`, and so are the inputs that were found; the tests below feed all of these to the same functions, so
//! that what was fixed stays fixed. `docs/fuzzing.md` has more.

mod aci;
mod archive;
mod compressed;
mod credentials;
mod documents;
mod entries;
mod headers;
mod names;
mod policy;
mod registries;
mod signatures;

pub use aci::{aci, pages};
pub use archive::{fix_checksums, tar};
pub use compressed::compressed;
pub use credentials::credentials;
pub use documents::documents;
pub use entries::entries;
pub use headers::headers;
pub use names::names;
pub use policy::policy;
pub use registries::registries;
pub use signatures::signatures;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Calls `check` with everything in the corpus of a target and everything that once made it fail.
    fn replay(target: &str, check: impl Fn(&[u8], &Path)) {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let place = tempfile::Builder::new().prefix("image-replay").tempdir().unwrap();
        let mut count = 0;
        for dir in ["corpus", "found"] {
            let Ok(files) = std::fs::read_dir(fuzz.join(dir).join(target)) else { continue };
            for file in files {
                let path = file.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let outcome =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&bytes, place.path())));
                assert!(outcome.is_ok(), "{} breaks a promise", path.display());
                count += 1;
            }
        }
        assert!(count >= 20, "the corpus of {target} has only {count} files");
    }

    #[test]
    fn the_corpus_of_tar_keeps_every_promise() {
        replay("tar", super::tar);
    }

    #[test]
    fn the_corpus_of_entries_keeps_every_promise() {
        replay("entries", super::entries);
    }

    #[test]
    fn the_corpus_of_documents_keeps_every_promise() {
        replay("documents", |bytes, _| super::documents(bytes));
    }

    #[test]
    fn the_corpus_of_names_keeps_every_promise() {
        replay("names", |bytes, _| super::names(bytes));
    }

    #[test]
    fn the_corpus_of_credentials_keeps_every_promise() {
        replay("credentials", super::credentials);
    }

    #[test]
    fn the_corpus_of_compressed_keeps_every_promise() {
        replay("compressed", |bytes, _| super::compressed(bytes));
    }

    #[test]
    fn the_corpus_of_headers_keeps_every_promise() {
        replay("headers", |bytes, _| super::headers(bytes));
    }

    #[test]
    fn the_corpus_of_registries_keeps_every_promise() {
        replay("registries", |bytes, _| super::registries(bytes));
    }

    #[test]
    fn the_corpus_of_signatures_keeps_every_promise() {
        replay("signatures", |bytes, _| super::signatures(bytes));
    }

    #[test]
    fn the_corpus_of_aci_keeps_every_promise() {
        replay("aci", super::aci);
    }

    #[test]
    fn the_corpus_of_pages_keeps_every_promise() {
        replay("pages", |bytes, _| super::pages(bytes));
    }

    #[test]
    fn the_corpus_of_policy_keeps_every_promise() {
        replay("policy", |bytes, _| super::policy(bytes));
    }
}
