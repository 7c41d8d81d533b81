//! See `image::fuzzing::credentials`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::jailed(image::fuzzing::credentials, input));
