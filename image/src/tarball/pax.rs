//! PAX extended headers: `LENGTH KEY=VALUE\n` records, where the value may hold any byte.

use super::{Entry, TarError};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the extended headers before an entry say.
#[derive(Default)]
pub(super) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            let (key, value, rest) = split(bytes).ok_or(TarError::Extended)?;
            self.record(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        // An empty value takes a record back: what the header says counts then.
        let given = !value.is_empty();
        let number = |name| given.then(|| decimal(value).ok_or(TarError::Number(name))).transpose();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = number("size")?,
            b"uid" => self.uid = number("uid")?,
            b"gid" => self.gid = number("gid")?,
            b"mtime" => {
                let time = || time(value).ok_or(TarError::Number("mtime"));
                self.mtime = given.then(time).transpose()?;
            }
            _ if key.starts_with(b"GNU.sparse.") => return Err(TarError::Sparse),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn apply(self, entry: &mut Entry) -> Result<(), TarError> {
        if [&self.path, &self.link].into_iter().flatten().any(|text| text.contains(&0)) {
            return Err(TarError::Extended);
        }
        entry.path = self.path.unwrap_or(std::mem::take(&mut entry.path));
        entry.link = self.link.unwrap_or(std::mem::take(&mut entry.link));
        entry.size = self.size.unwrap_or(entry.size);
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.xattrs = self.xattrs;
        Ok(())
    }
}

/// The first record's key and value, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..blank)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Seconds with an optional fraction and sign. Nanoseconds count forward, also before 1970.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds = u32::try_from(decimal(digits.as_bytes())?).ok()?;
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"5"[..],
            b"x path=a\n",
            b"100 path=a\n",
            b"9 path=a",
            b"8 path\n\n",
            b"0 path=a\n",
            b"3 path=a\n",
            b"99999999999999999999999 path=a\n",
            b" path=a\n",
            b"9 size=-1\n",
            b"14 mtime=1e999\n",
            b"12 uid=1234\nx",
        ] {
            assert!(Records::default().add(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(matches!(Records::default().add(b"22 GNU.sparse.major=1\n"), Err(TarError::Sparse)));
    }

    #[test]
    fn times_before_1970_count_forward() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-0.5"), Some((-1, 500_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(time(b"."), None);
    }

    proptest! {
        #[test]
        fn any_records_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Records::default().add(&bytes);
            let _ = time(&bytes);
        }
    }
}
