//! How full the store's file system is.

use super::{Store, StoreError};

/// When a full file system makes a collection begin, and when it has done enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Percent in use from which on something is removed.
    pub high: u8,
    /// Percent in use at which enough is removed.
    pub low: u8,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that it has for everybody.
    pub capacity: u64,
    /// Bytes of them that are left.
    pub available: u64,
}

impl Usage {
    /// Percent in use, rounded down, as the kubelet counts.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let used = u128::from(self.capacity.saturating_sub(self.available));
        u64::try_from(used * 100 / u128::from(self.capacity.max(1))).unwrap_or(100)
    }

    /// Bytes to be freed until no more than `percent` is in use.
    #[must_use]
    pub fn above(&self, percent: u8) -> u64 {
        let used = self.capacity.saturating_sub(self.available);
        let allowed = u128::from(self.capacity) * u128::from(percent.min(100)) / 100;
        used.saturating_sub(u64::try_from(allowed).unwrap_or(u64::MAX))
    }
}

impl Store {
    /// How full the file system is that the store is on.
    ///
    /// # Errors
    /// Trouble asking.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let failed =
            |error: rustix::io::Errno| StoreError::io("look at the disk of", &self.dir)(error.into());
        let found = rustix::fs::statvfs(&self.dir).map_err(failed)?;
        Ok(Usage {
            // What is reserved for root is neither used nor available: df(1) counts so, too.
            capacity: found
                .f_blocks
                .saturating_sub(found.f_bfree.saturating_sub(found.f_bavail))
                .saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_those_of_the_kubelet() {
        let usage = |used: u64| Usage { capacity: 1000, available: 1000 - used };
        assert_eq!([0, 9, 10, 859, 1000].map(|used| usage(used).percent()), [0, 0, 1, 85, 100]);
        assert_eq!((usage(859).above(80), usage(800).above(80), usage(10).above(80)), (59, 0, 0));
        assert_eq!(Usage { capacity: 0, available: 0 }.percent(), 0);
    }
}
