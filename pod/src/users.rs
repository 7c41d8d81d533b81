//! `users.json`: the range of the host's ids that the users and groups of a pod with a user namespace are.
//!
//! The file is the reservation: while a pod has it, nobody else gets the range. There is no other record of what is in use.

use serde::{Deserialize, Serialize};

/// The file's name. It goes last when a pod is deleted: files of the pod may still have the ids.
pub(crate) const FILE: &str = "users.json";

/// Ids of the host, users and groups alike: user `n` of the pod is user `first + n` of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// Which id of the host is the pod's 0.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl IdRange {
    /// What every pod gets: all ids of 16 bits, as most programs and images assume there are.
    pub const COUNT: u32 = 1 << 16;

    /// The host's id for one of the pod's. `None`: the pod has no such id.
    pub fn host(&self, id: u32) -> Option<u32> {
        if id < self.count { self.first.checked_add(id) } else { None }
    }

    /// Whether the ranges have an id in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let end = |range: &Self| u64::from(range.first) + u64::from(range.count);
        u64::from(self.first) < end(other) && u64::from(other.first) < end(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataDir, LockedPod, Phase, PodId};

    #[test]
    fn ids_and_ranges() {
        let range = |first, count| IdRange { first, count };
        let one = range(1 << 16, 1 << 16);
        assert_eq!((one.host(0), one.host(65535), one.host(65536)), (Some(65536), Some(131_071), None));
        assert_eq!(range(u32::MAX, 2).host(1), None);
        for (first, count, overlaps) in
            [(0, 65536, false), (0, 65537, true), (131_071, 1, true), (131_072, 1, false), (70000, 1, true)]
        {
            assert_eq!(one.overlaps(&range(first, count)), overlaps, "{first}+{count}");
            assert_eq!(range(first, count).overlaps(&one), overlaps, "{first}+{count}");
        }
    }
    fn candidates() -> impl Iterator<Item = IdRange> {
        (1..4).map(|n| IdRange { first: n * IdRange::COUNT, count: IdRange::COUNT })
    }

    #[test]
    fn a_range_is_a_pods_until_the_last_of_it_is_gone() {
        let tmp = tempfile::tempdir().unwrap();
        let data = DataDir::open(tmp.path()).unwrap();
        let mut pods: Vec<LockedPod> = (0..4).map(|_| data.create(PodId::random()).unwrap()).collect();
        let reserved: Vec<_> = pods.iter().map(|pod| data.reserve_ids(pod, candidates()).unwrap()).collect();
        let firsts: Vec<_> = reserved.iter().map(|r| r.map(|r| r.first >> 16)).collect();
        assert_eq!(firsts, [Some(1), Some(2), Some(3), None]);

        // Wherever the pod goes, and whoever was killed: it has the range.
        let last = pods.pop().unwrap();
        pods[0].transition(Phase::Prepare).unwrap();
        pods[1].transition(Phase::Garbage).unwrap();
        drop(pods.pop());
        assert_eq!(data.reserve_ids(&last, candidates()).unwrap(), None);
        assert_eq!(data.pod(pods[1].dir().id()).unwrap().unwrap().users().unwrap(), reserved[1]);

        let gone = pods.remove(1);
        gone.remove().unwrap();
        assert_eq!(data.reserve_ids(&last, candidates()).unwrap(), reserved[1]);
    }

    #[test]
    fn ranges_are_disjoint_however_many_reserve_at_once() {
        let tmp = tempfile::tempdir().unwrap();
        let data = DataDir::open(tmp.path()).unwrap();
        let candidates = || (1..9).map(|n| IdRange { first: n * 1000, count: 1000 });
        let one = || {
            let pod = data.create(PodId::random()).unwrap();
            data.reserve_ids(&pod, candidates()).unwrap().unwrap().first
        };
        let firsts: std::collections::BTreeSet<u32> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(firsts.len(), 8);
    }
}
