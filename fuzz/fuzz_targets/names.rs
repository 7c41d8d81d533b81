//! See `image::fuzzing::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::names(input));
