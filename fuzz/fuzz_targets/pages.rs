//! See `image::fuzzing::pages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::pages(input));
