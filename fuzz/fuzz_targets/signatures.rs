//! See `image::fuzzing::signatures`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::signatures(input));
