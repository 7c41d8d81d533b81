//! Writing records.

use std::fs::File;
use std::io::{self, Write as _};

use super::{Content, END, FILE, MAGIC, RAW};

/// The fastest that compresses blocks of zeros to nothing: this must not slow down a fetch.
const LEVEL: i32 = -5;
/// Bytes that are collected into one record.
const RUN: usize = 64 << 10;

/// A recipe being written.
pub(super) struct Writer {
    out: zstd::Encoder<'static, File>,
    run: Vec<u8>,
}

impl Writer {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut out = zstd::Encoder::new(file, LEVEL)?;
        out.include_checksum(true)?;
        out.write_all(MAGIC)?;
        Ok(Self { out, run: Vec::with_capacity(RUN) })
    }

    /// Records bytes of the stream.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.run.len() + bytes.len() > RUN {
            self.end_run()?;
        }
        if bytes.len() > RUN {
            self.out.write_all(&head(RAW, &[bytes.len() as u64]))?;
            return self.out.write_all(bytes);
        }
        self.run.extend_from_slice(bytes);
        Ok(())
    }

    /// Records that the content of a file follows.
    pub(super) fn file(&mut self, content: &Content) -> io::Result<()> {
        self.end_run()?;
        let mut record = head(FILE, &[content.size, content.path.len() as u64]);
        record.extend_from_slice(&content.path);
        record.extend_from_slice(&content.crc.to_le_bytes());
        self.out.write_all(&record)
    }

    /// Ends the recipe.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_run()?;
        self.out.write_all(&[END])?;
        self.out.finish().map(drop)
    }

    fn end_run(&mut self) -> io::Result<()> {
        if !self.run.is_empty() {
            self.out.write_all(&head(RAW, &[self.run.len() as u64]))?;
            self.out.write_all(&self.run)?;
            self.run.clear();
        }
        Ok(())
    }
}

fn head(kind: u8, numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![kind];
    for number in numbers {
        let mut left = *number;
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }
    bytes
}
