//! How an archive is compressed is seen from its first bytes; what its name or media type says about that is often wrong
//! and never needed.
//!
//! gzip, zstd, bzip2, xz, or not at all. Each may consist of several members, one after the other. What a decoder needs
//! in memory is decided by the archive, and bounded here.

use std::io::{self, BufRead, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// zstd frames that want a larger window (2^27 bytes) than `zstd --long` makes are refused.
const ZSTD_WINDOW_LOG: u32 = 27;
/// `xz -9` wants 65 MiB to decompress; in KiB.
const XZ_MEMORY: u32 = 80 << 10;

/// Reads what `from` decompresses to.
///
/// # Errors
/// Trouble reading the first bytes.
pub(crate) fn decoder<'a, R: BufRead + Send + 'a>(mut from: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match from.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(from)),
        // A zstd frame, or a skippable one, with which files made for lazy pulling begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        [b'B', b'Z', b'h', ..] => Box::new(MultiBzDecoder::new(from)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(XzReader::new_mem_limit(from, true, XZ_MEMORY)),
        _ => Box::new(from),
    })
}

/// Whether a stream that begins with these bytes is compressed.
pub(crate) fn is_compressed(magic: &[u8]) -> bool {
    matches!(
        magic,
        [0x1f, 0x8b, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
            | [b'B', b'Z', b'h', ..]
            | [0xfd, b'7', b'z', b'X', b'Z', 0, ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn tool(command: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "{command:?}");
        output.stdout
    }

    fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        let _ = decoder(bytes)?.read_to_end(&mut found)?;
        Ok(found)
    }

    #[test]
    fn what_common_tools_compress_is_recognised_by_its_content() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for command in [&["cat"][..], &["gzip"], &["bzip2"], &["xz"], &["xz", "-9"], &["zstd", "-q", "-c"]] {
            let one = tool(command, &text);
            assert!(decoded(&one).unwrap() == text, "{command:?}");
            // Members one after the other, as `pigz` and `pbzip2` write them.
            assert!(
                decoded(&[one.clone(), one].concat()).unwrap() == [&text[..], &text].concat(),
                "{command:?}"
            );
        }
    }

    #[test]
    fn a_dictionary_beyond_measure_is_refused() {
        let huge = tool(&["xz", "--lzma2=dict=256MiB"], b"little");
        assert_eq!(decoded(&huge).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(magic in 0..5_usize, rest in prop::collection::vec(any::<u8>(), 0..400)) {
            let magic: &[u8] =
                [&b""[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0"][magic];
            let mut found = Vec::new();
            if let Ok(decoder) = decoder(&[magic, &rest].concat()[..]) {
                let _ = decoder.take(1 << 20).read_to_end(&mut found);
            }
        }
    }
}
