//! See `image::fuzzing::documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::documents(input));
