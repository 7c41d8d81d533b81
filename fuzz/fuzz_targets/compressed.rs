//! See `image::fuzzing::compressed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::compressed(input));
