//! Tar archives, field by field: a lawful tool would refuse to write most of what is written here.

/// The unit of an archive.
pub const BLOCK: usize = 512;

/// Where the fields of a header are: name, start, length (POSIX.1-2017 `pax`, "ustar Interchange Format").
const FIELDS: &[(&str, usize, usize)] = &[
    ("name", 0, 100),
    ("mode", 100, 8),
    ("uid", 108, 8),
    ("gid", 116, 8),
    ("size", 124, 12),
    ("mtime", 136, 12),
    ("checksum", 148, 8),
    ("type", 156, 1),
    ("link", 157, 100),
    ("magic", 257, 8),
    ("major", 329, 8),
    ("minor", 337, 8),
    ("prefix", 345, 155),
];

/// An archive being written.
#[derive(Clone, Default)]
pub struct Archive(Vec<u8>);

/// One header and its data.
#[derive(Clone)]
pub struct Entry {
    block: [u8; BLOCK],
    data: Vec<u8>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    checksum: bool,
}

impl Entry {
    /// An entry of this type, mode 0644, of root.
    #[must_use]
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let mut entry = Self { block: [0; BLOCK], data: Vec::new(), records: Vec::new(), checksum: true };
        for (field, value) in [("mode", 0o644), ("uid", 0), ("gid", 0), ("mtime", 1_000_000_000)] {
            entry = entry.number(field, value);
        }
        let name = name.as_ref();
        let entry = entry.number("size", 0).set("type", [kind]).set("magic", b"ustar\x0000");
        if name.len() > 100 { entry.record("path", name) } else { entry.set("name", name) }
    }

    /// A field's bytes, as they are; what is left of it is zero.
    #[must_use]
    pub fn set(mut self, field: &str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        for (_, start, length) in FIELDS.iter().filter(|(name, ..)| *name == field) {
            for (at, byte) in self.block.iter_mut().skip(*start).take(*length).enumerate() {
                *byte = bytes.get(at).copied().unwrap_or_default();
            }
        }
        self
    }

    /// A field's number, in octal.
    #[must_use]
    pub fn number(self, field: &str, value: u64) -> Self {
        let width = if matches!(field, "size" | "mtime") { 11 } else { 7 };
        self.set(field, format!("{value:0width$o}\0"))
    }

    /// What follows the header, and its size.
    #[must_use]
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        let size = self.data.len() as u64;
        self.number("size", size)
    }

    /// The target of a link.
    #[must_use]
    pub fn link(self, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        if target.len() > 100 { self.record("linkpath", target) } else { self.set("link", target) }
    }

    /// A record of the extended header before it.
    #[must_use]
    pub fn record(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// An extended attribute.
    #[must_use]
    pub fn attribute(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.record(format!("SCHILY.xattr.{name}"), value)
    }

    /// With a checksum that is wrong.
    #[must_use]
    pub fn damaged(mut self) -> Self {
        self.checksum = false;
        self
    }

    fn write(mut self, to: &mut Vec<u8>) {
        if !self.records.is_empty() {
            let records: Vec<u8> = self.records.iter().flat_map(|(key, value)| record(key, value)).collect();
            Self::new(b'x', "pax").data(records).write(to);
        }
        if self.checksum {
            self = self.set("checksum", b"        ");
            let sum: u32 = self.block.iter().map(|byte| u32::from(*byte)).sum();
            self = self.set("checksum", format!("{sum:06o}\0 "));
        }
        to.extend_from_slice(&self.block);
        to.extend_from_slice(&self.data);
        to.resize(to.len().next_multiple_of(BLOCK), 0);
    }
}

impl Archive {
    /// Any entry.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "an archive is not a sum")]
    pub fn add(mut self, entry: Entry) -> Self {
        entry.write(&mut self.0);
        self
    }

    /// A file.
    #[must_use]
    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.add(Entry::new(b'0', name).data(data))
    }

    /// A directory, mode 0755.
    #[must_use]
    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.add(Entry::new(b'5', name).number("mode", 0o755))
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Entry::new(b'2', name).link(target))
    }

    /// A hard link.
    #[must_use]
    pub fn hardlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Entry::new(b'1', name).link(target))
    }

    /// Bytes that are no entry.
    #[must_use]
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// The archive so far, without its end.
    #[must_use]
    pub fn open(self) -> Vec<u8> {
        self.0
    }

    /// The whole archive.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
#[must_use]
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap_or_default();
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}
