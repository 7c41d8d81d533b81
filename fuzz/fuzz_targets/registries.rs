//! See `image::fuzzing::registries`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::registries(input));
