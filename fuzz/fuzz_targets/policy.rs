//! See `image::fuzzing::policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| image::fuzzing::policy(input));
