//! See `image::fuzzing::aci`. What a mutation does to a header, the header's checksum follows.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::jailed(image::fuzzing::aci, input));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, _seed: u32| {
    // What is compressed has none.
    let size = libfuzzer_sys::fuzzer_mutate(data, size, most);
    if !data.starts_with(b"\x1f\x8b") && !data.starts_with(b"BZh") && !data.starts_with(b"\xfd7z") {
        image::fuzzing::fix_checksums(&mut data[..size]);
    }
    size
});
