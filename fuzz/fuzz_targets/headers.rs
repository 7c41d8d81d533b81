//! See `image::fuzzing::headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::headers(input));
