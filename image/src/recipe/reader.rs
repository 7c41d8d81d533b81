//! Reading records. A recipe is ours, but it lies on a disk: lengths are bounded, and what makes no sense is an error.

use std::fs::File;
use std::io::{self, BufReader, Read};

use super::{Content, END, FILE, MAGIC, PATH_MAX, RAW};

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// So many bytes of the stream follow: see [`Reader::raw`].
    Raw(u64),
    /// Content of a file.
    File(Content),
    /// There is no more.
    End,
}

/// A recipe being read.
pub(super) struct Reader(BufReader<zstd::Decoder<'static, BufReader<File>>>);

impl Reader {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut reader = Self(BufReader::with_capacity(64 << 10, zstd::Decoder::new(file)?));
        let mut magic = [0; MAGIC.len()];
        reader.0.read_exact(&mut magic)?;
        if &magic == MAGIC { Ok(reader) } else { Err(damaged("it does not begin as one")) }
    }

    /// The next record. The bytes of a raw one must all have been read.
    pub(super) fn next(&mut self) -> io::Result<Record> {
        match self.byte()? {
            RAW => Ok(Record::Raw(self.number()?)),
            FILE => {
                let (size, length) = (self.number()?, self.number()?);
                if length > PATH_MAX {
                    return Err(damaged("a path is too long"));
                }
                let mut path = vec![0; usize::try_from(length).unwrap_or_default()];
                self.0.read_exact(&mut path)?;
                let mut crc = [0; 4];
                self.0.read_exact(&mut crc)?;
                Ok(Record::File(Content { path, size, crc: u32::from_le_bytes(crc) }))
            }
            END => match self.0.read(&mut [0])? {
                // Only now is the checksum compared.
                0 => Ok(Record::End),
                _ => Err(damaged("something follows its end")),
            },
            _ => Err(damaged("it has a record of unknown kind")),
        }
    }

    /// Bytes of a raw record, at most as many as are left of it.
    pub(super) fn raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        Ok(u8::from_le_bytes(byte))
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number is too big"))
    }
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the recipe is damaged: {why}"))
}
