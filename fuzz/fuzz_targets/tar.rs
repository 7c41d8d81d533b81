//! See `image::fuzzing::tar`. What a mutation does to a header, the header's checksum follows.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::jailed(image::fuzzing::tar, input));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, _seed: u32| {
    let size = libfuzzer_sys::fuzzer_mutate(data, size, most);
    image::fuzzing::fix_checksums(&mut data[..size]);
    size
});
