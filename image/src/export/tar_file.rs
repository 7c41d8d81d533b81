//! A tar file being written: files with short names and nothing else, always the same for the same content.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::ExportError;
use crate::output::{Existing, NewFile};
use crate::pipe::CHUNK;

const BLOCK: u64 = 512;
/// The most that twelve bytes say in octal.
const MAX_OCTAL: u64 = 0o7777_7777_7777;

/// The archive.
pub(super) struct TarFile {
    output: NewFile,
    names: Vec<String>,
}

impl TarFile {
    pub(super) fn create(path: &Path, existing: Existing) -> Result<Self, ExportError> {
        Ok(Self { output: NewFile::create(path, existing)?, names: Vec::new() })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|there| there == name)
    }

    /// Adds a file whose length is known when it has been written.
    pub(super) fn add(&mut self, name: &str, from: &mut dyn Read) -> Result<u64, ExportError> {
        self.names.push(name.to_owned());
        append(self.output.file(), name, from)
            .map_err(|source| ExportError::Write { name: name.to_owned(), source })
    }

    /// Ends the archive and gives it its name.
    pub(super) fn publish(mut self) -> Result<(), ExportError> {
        let end = self.output.file().write_all(&[0; 2 * BLOCK as usize]);
        end.map_err(|source| ExportError::Write { name: "the end of the archive".to_owned(), source })?;
        Ok(self.output.publish()?)
    }
}

fn append(file: &mut File, name: &str, from: &mut dyn Read) -> io::Result<u64> {
    let start = file.stream_position()?;
    file.write_all(&header(name, 0)?)?;
    let size = io::copy(from, &mut BufWriter::with_capacity(CHUNK, &mut *file))?;
    let padding = size.next_multiple_of(BLOCK) - size;
    file.write_all(&vec![0; usize::try_from(padding).unwrap_or_default()])?;
    let _ = file.seek(SeekFrom::Start(start))?;
    file.write_all(&header(name, size)?)?;
    let _ = file.seek(SeekFrom::End(0))?;
    Ok(size)
}

/// A ustar header; sizes beyond eight gigabytes in GNU's way, which everybody reads.
fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK as usize]> {
    let mut block = [0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = block.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    if name.len() > 99 {
        return Err(io::Error::other("the name is too long for an archive"));
    }
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size <= MAX_OCTAL {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(field) = block.get_mut(148..156) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    Ok(block)
}
