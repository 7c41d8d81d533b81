//! The entries of a tar stream: ustar, GNU and PAX headers, bounded.
//!
//! Written here and not taken from a library for three reasons: binary extended attributes in PAX records must
//! survive (they hold newlines), every length that a header claims is bounded before memory is spent on it, and file
//! data goes from the stream's own buffer to the disk without a copy. Follows POSIX.1-2017 `pax` and the GNU tar
//! manual ("Basic Tar Format"). Sparse entries, which no image builder writes, are refused.

mod header;
mod pax;

use std::io::{self, BufRead};

pub(crate) use header::Kind;
use header::{BLOCK, Header};

/// The most bytes of extended headers that one entry may have. Extended attributes are at most 64 KiB each.
const MAX_EXTENDED: u64 = 1 << 20;

/// Everything known of one entry, except its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    /// The target of a symlink or hardlink.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) size: u64,
    /// Major and minor.
    pub(crate) device: (u64, u64),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A stream that is not a tar archive, or not one we take.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading the stream failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It ends within an entry.
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    /// A header whose checksum is wrong: usually not a tar archive at all.
    #[error("a header's checksum is wrong: the archive is damaged, or not a tar archive")]
    Checksum,
    /// A header's field is not a number, or too big a number.
    #[error("the field {0:?} of a header is not a valid number")]
    Number(&'static str),
    /// An extended header breaks its grammar.
    #[error("an extended header is malformed")]
    Extended,
    /// An extended header too big to be honest.
    #[error("extended headers of {0} bytes make more than {MAX_EXTENDED} for one entry")]
    ExtendedTooLarge(u64),
    /// An entry of a kind that we do not take.
    #[error("entries of type {0:?} are not supported")]
    Type(char),
    /// A sparse file.
    #[error("sparse files are not supported")]
    Sparse,
}

/// Reads entry after entry.
pub(crate) struct Entries<R> {
    reader: R,
    /// What is left of the current entry's data.
    data: u64,
    /// What follows the data up to the next block.
    padding: u64,
}

impl<R: BufRead> Entries<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, data: 0, padding: 0 }
    }

    /// The next entry, or nothing at the end of the archive. Skips what was not read of the one before.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = pax::Records::default();
        let (mut long_path, mut long_link) = (None, None);
        let mut room = MAX_EXTENDED;
        loop {
            self.skip_data()?;
            let Some(block) = self.block()? else { return Ok(None) };
            let Some(header) = Header::parse(&block)? else { return Ok(None) };
            self.expect(header.size);
            match header.flag {
                b'x' | b'X' => pax.add(&self.extended(header.size, &mut room)?)?,
                // Defaults for the whole archive: nothing that concerns a file system is ever in them.
                b'g' => {}
                b'L' => long_path = Some(until_nul(self.extended(header.size, &mut room)?)),
                b'K' => long_link = Some(until_nul(self.extended(header.size, &mut room)?)),
                b'S' => return Err(TarError::Sparse),
                _ => {
                    let mut entry = header.entry()?;
                    entry.path = long_path.unwrap_or(entry.path);
                    entry.link = long_link.unwrap_or(entry.link);
                    pax.apply(&mut entry)?;
                    // Only files have data, whatever size the others claim: old tools gave links their target's.
                    self.expect(if entry.kind == Kind::File { entry.size } else { 0 });
                    // Before POSIX a directory was a file whose name ends with a slash.
                    if entry.kind == Kind::File && entry.path.ends_with(b"/") {
                        entry.kind = Kind::Directory;
                    }
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// The next piece of the current entry's data, straight from the stream's buffer; empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8], TarError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.data).unwrap_or(usize::MAX);
        let buffer = self.reader.fill_buf().map_err(TarError::Read)?;
        if buffer.is_empty() {
            return Err(TarError::Truncated);
        }
        Ok(buffer.get(..left).unwrap_or(buffer))
    }

    /// Steps over data that was used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.data = self.data.saturating_sub(count as u64);
    }

    /// The stream itself, to tell it about what comes. Not for reading.
    pub(crate) fn stream(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The stream, to read what follows the archive.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    fn expect(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        self.data =
            self.data.checked_add(std::mem::take(&mut self.padding)).ok_or(TarError::Number("size"))?;
        while self.data > 0 {
            let count = self.data()?.len();
            self.consume(count);
        }
        Ok(())
    }

    /// The next header; nothing at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(room) = block.get_mut(filled..).filter(|room| !room.is_empty()) {
            let buffer = self.reader.fill_buf().map_err(TarError::Read)?;
            let count = buffer.len().min(room.len());
            match (buffer.get(..count), room.get_mut(..count)) {
                (Some(from), Some(to)) if count > 0 => to.copy_from_slice(from),
                _ if filled == 0 => return Ok(None),
                _ => return Err(TarError::Truncated),
            }
            self.reader.consume(count);
            filled += count;
        }
        Ok(Some(block))
    }

    /// Reads an extended header, which takes its size from the room that one entry's headers have.
    fn extended(&mut self, size: u64, room: &mut u64) -> Result<Vec<u8>, TarError> {
        *room = room.checked_sub(size).ok_or(TarError::ExtendedTooLarge(size))?;
        let mut bytes = Vec::new();
        while self.data > 0 {
            let piece = self.data()?;
            bytes.extend_from_slice(piece);
            let count = piece.len();
            self.consume(count);
        }
        Ok(bytes)
    }
}

/// GNU's long names end with a NUL.
fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
        let mut entries = Entries::new(io::BufReader::with_capacity(700, bytes));
        let mut found = Vec::new();
        while let Some(entry) = entries.next()? {
            let mut data = Vec::new();
            while let piece @ [_, ..] = entries.data()? {
                data.extend_from_slice(piece);
                let count = piece.len();
                entries.consume(count);
            }
            found.push((entry, data));
        }
        Ok(found)
    }

    fn header(name: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(7);
        header.set_cksum();
        header
    }

    #[test]
    fn pax_records_override_headers_and_keep_binary_values() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut records = Vec::new();
        for (key, value) in [
            ("path", &b"a/long/name"[..]),
            ("mtime", b"-1.25"),
            ("uid", b"70000"),
            ("SCHILY.xattr.user.x", b"a\nb=\0c"),
        ] {
            let length = key.len() + value.len() + 3;
            let total = length + (length + 2).to_string().len();
            records.extend_from_slice(format!("{total} {key}=").as_bytes());
            records.extend_from_slice(value);
            records.push(b'\n');
        }
        let mut extended = header("pax", records.len() as u64);
        extended.set_entry_type(tar::EntryType::XHeader);
        extended.set_cksum();
        builder.append(&extended, &records[..]).unwrap();
        builder.append(&header("short", 600), &[7; 600][..]).unwrap();
        builder.append(&header("next", 0), &[][..]).unwrap();
        let found = read_all(&builder.into_inner().unwrap()).unwrap();
        let (entry, data) = &found[0];
        assert_eq!(
            (entry.path.as_slice(), entry.mtime, entry.uid),
            (&b"a/long/name"[..], (-2, 750_000_000), 70000)
        );
        assert_eq!(entry.xattrs, vec![(b"user.x".to_vec(), b"a\nb=\0c".to_vec())]);
        assert_eq!(data, &[7; 600]);
        assert_eq!(found[1].0.path, b"next");
        assert_eq!(found[1].0.mtime, (7, 0));
    }

    #[test]
    fn gnu_long_names_are_joined() {
        let mut builder = tar::Builder::new(Vec::new());
        let name = "d/".repeat(150) + "file";
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_cksum();
        builder.append_data(&mut header, &name, &b"x"[..]).unwrap();
        let found = read_all(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(found[0].0.path, name.as_bytes());
        // The header itself holds a shortened name, which happens to end with a slash.
        assert_eq!((found[0].0.kind, found[0].1.as_slice()), (Kind::File, &b"x"[..]));
    }

    #[test]
    fn broken_archives_are_errors() {
        let mut whole = header("file", 1000).as_bytes().to_vec();
        whole.extend_from_slice(&[1; 1024]);
        assert_eq!(read_all(&whole).unwrap().len(), 1);
        for length in [1, 511, 513, 1500] {
            assert!(matches!(read_all(&whole[..length]), Err(TarError::Truncated)), "{length}");
        }
        let mut damaged = whole.clone();
        damaged[0] ^= 1;
        assert!(matches!(read_all(&damaged), Err(TarError::Checksum)));
        let mut huge = header("pax", u64::from(u32::MAX));
        huge.set_entry_type(tar::EntryType::XHeader);
        huge.set_cksum();
        assert!(matches!(read_all(huge.as_bytes()), Err(TarError::ExtendedTooLarge(_))));
        let mut negative = header("file", 0);
        negative.as_ustar_mut().unwrap().size = [0xff; 12];
        negative.set_cksum();
        assert!(matches!(read_all(negative.as_bytes()), Err(TarError::Number("size"))));
        let mut sparse = header("file", 0);
        sparse.set_entry_type(tar::EntryType::GNUSparse);
        sparse.set_cksum();
        assert!(matches!(read_all(sparse.as_bytes()), Err(TarError::Sparse)));
    }

    proptest! {
        #[test]
        fn any_stream_is_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), fix in any::<bool>()) {
            if fix && bytes.len() >= 512 {
                let mut block = tar::Header::from_byte_slice(&bytes[..512]).clone();
                block.set_cksum();
                bytes[..512].copy_from_slice(block.as_bytes());
            }
            let _ = read_all(&bytes);
        }
    }
}
