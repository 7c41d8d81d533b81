//! One 512-byte header block.

use super::{Entry, TarError};

/// The unit of a tar archive.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    Directory,
    Symlink,
    Hardlink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// A header block whose checksum is right.
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    pub(super) flag: u8,
    pub(super) size: u64,
}

impl<'a> Header<'a> {
    /// Nothing for a block of zeros, which ends the archive.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Option<Self>, TarError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let outside = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
        let unsigned: i64 = block.iter().enumerate().map(|pair| i64::from(outside(pair))).sum();
        let signed: i64 = block.iter().enumerate().map(|pair| i64::from(outside(pair).cast_signed())).sum();
        let stated = number(field(block, 148, 8)).ok_or(TarError::Checksum)?;
        if stated != unsigned && stated != signed {
            return Err(TarError::Checksum);
        }
        let size = number(field(block, 124, 12)).and_then(|size| u64::try_from(size).ok());
        let flag = field(block, 156, 1).first().copied().unwrap_or_default();
        Ok(Some(Self { block, flag, size: size.ok_or(TarError::Number("size"))? }))
    }

    pub(super) fn entry(&self) -> Result<Entry, TarError> {
        let unsigned = |start, length, name| {
            let value = number(field(self.block, start, length)).and_then(|value| u64::try_from(value).ok());
            value.ok_or(TarError::Number(name))
        };
        let kind = match self.flag {
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(TarError::Type(char::from(other))),
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                (unsigned(329, 8, "devmajor")?, unsigned(337, 8, "devminor")?)
            }
            _ => (0, 0),
        };
        let mode = u32::try_from(unsigned(100, 8, "mode")? & 0o7777).unwrap_or_default();
        Ok(Entry {
            kind,
            path: self.path(),
            link: text(field(self.block, 157, 100)).to_vec(),
            mode,
            uid: unsigned(108, 8, "uid")?,
            gid: unsigned(116, 8, "gid")?,
            mtime: (number(field(self.block, 136, 12)).ok_or(TarError::Number("mtime"))?, 0),
            size: self.size,
            device,
            xattrs: Vec::new(),
        })
    }

    /// The name, behind the prefix that ustar has and GNU's format has not.
    fn path(&self) -> Vec<u8> {
        let name = text(field(self.block, 0, 100));
        let ustar = field(self.block, 257, 8) == b"ustar\x0000";
        match text(field(self.block, 345, 155)) {
            prefix @ [_, ..] if ustar => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }
}

fn field(block: &[u8; BLOCK], start: usize, length: usize) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits between blanks, or GNU's base 256 if the first bit is set. An empty field is zero.
fn number(field: &[u8]) -> Option<i64> {
    match field.first().copied().unwrap_or_default() {
        first if first & 0x80 != 0 => base256(field),
        _ => {
            let digits =
                field.trim_ascii_start().split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
            digits.iter().try_fold(0_i64, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

/// Two's complement, big end first, without the bit that marks the format.
fn base256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let negative = first & 0x40 != 0;
    let start = if negative { i128::from(*first) - 0x100 } else { i128::from(first & 0x3f) };
    let value =
        rest.iter().try_fold(start, |value, byte| value.checked_mul(256)?.checked_add(i128::from(*byte)))?;
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_dialects() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77777777)),
            (b"\x80\0\0\0\0\x01\x11\x70", Some(70000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000698\0", None),
            (b"-0000001", None),
            (b"abc", None),
        ];
        for (field, expected) in table {
            assert_eq!(number(field), *expected, "{field:?}");
        }
    }
}
