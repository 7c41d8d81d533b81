//! Which ids of the host a pod with a user namespace gets: 65536 that no other pod has.
//!
//! They come out of what `/etc/subuid` and `/etc/subgid` give to the user `rkt` (subuid(5)), in both files the same ids; the
//! user need not exist. Where neither file names it, out of a range that systemd's documentation lists as unused
//! (systemd.io/UIDS-GIDS), without what the files give to others. A range begins at a multiple of 65536, so that the upper
//! half of an id tells the pod, as for the kubelet and systemd-nspawn.
//!
//! Which one is free is decided by the pods that exist ([`pod::DataDir::reserve_ids`]). The search begins at a place that
//! the pod's UUID gives: ranges are not reused at once, and two data directories seldom meet.

use std::collections::BTreeSet;

use pod::users::IdRange;
use pod::{LockedPod, PodError, PodId};

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// Whose lines are ours.
const USER: &str = "rkt";

/// Unused by systemd's account: 0x70000000 to 0x7ffdffff.
const UNUSED: IdRange = IdRange { first: 0x7000_0000, count: 0x0ffe_0000 };

/// Ids from here on are refused everywhere: programs take them for negative numbers.
const END: u64 = 1 << 31;

/// A pod cannot have users of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    #[error("read {path}")]
    Read { path: &'static str, source: std::io::Error },
    #[error(
        "{SUBUID} and {SUBGID} give the user {USER:?} no 65536 ids in common that begin at a multiple of 65536; \
         a line for both is \"{USER}:1879048192:6553600\", for 100 pods"
    )]
    None,
    #[error(
        "all {0} ranges of ids are taken by pods: remove some (rkt gc, rkt rm), or give the user {USER:?} more ids in \
         {SUBUID} and {SUBGID}"
    )]
    Exhausted(usize),
    #[error(transparent)]
    Pod(#[from] PodError),
}

/// Reserves a range for a pod.
pub(super) fn reserve(pod: &LockedPod) -> Result<IdRange, UsersError> {
    let ranges = ranges(&read(SUBUID)?, &read(SUBGID)?)?;
    let (before, after) = ranges.split_at(start(pod.dir().id(), ranges.len()));
    let candidates = after.iter().chain(before).copied();
    let reserved = pod.dir().data_dir().reserve_ids(pod, candidates)?;
    reserved.ok_or(UsersError::Exhausted(ranges.len()))
}

fn read(path: &'static str) -> Result<String, UsersError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(UsersError::Read { path, source }),
    }
}

/// Where among `count` ranges the search begins.
fn start(pod: PodId, count: usize) -> usize {
    let fold = |number: usize, byte: u8| number.wrapping_mul(31).wrapping_add(byte.into());
    pod.to_string().bytes().fold(0, fold).checked_rem(count).unwrap_or(0)
}

/// Every range that a pod can get, in ascending order; at least one.
fn ranges(subuid: &str, subgid: &str) -> Result<Vec<IdRange>, UsersError> {
    let (uids, gids) = (lines(subuid), lines(subgid));
    let ours = |lines: &[Line<'_>]| -> BTreeSet<u32> {
        lines.iter().filter(|line| line.user == USER).flat_map(|line| aligned(&line.range)).collect()
    };
    let is_named = uids.iter().chain(&gids).any(|line| line.user == USER);
    let firsts: Vec<u32> = if is_named {
        ours(&uids).intersection(&ours(&gids)).copied().collect()
    } else {
        aligned(&UNUSED).collect()
    };
    let range = |first| IdRange { first, count: IdRange::COUNT };
    let others: Vec<_> =
        uids.iter().chain(&gids).filter(|line| line.user != USER).map(|line| line.range).collect();
    let is_free = |range: &IdRange| !others.iter().any(|other| other.overlaps(range));
    let ranges: Vec<IdRange> = firsts.into_iter().map(range).filter(is_free).collect();
    if ranges.is_empty() { Err(UsersError::None) } else { Ok(ranges) }
}

/// `user:first:count`, subuid(5).
struct Line<'a> {
    user: &'a str,
    range: IdRange,
}

/// The lines of a file. One that means nothing is passed over, as by everybody who reads these files.
fn lines(text: &str) -> Vec<Line<'_>> {
    let line = |line| {
        let mut fields = str::split(line, ':');
        let user = fields.next()?.trim();
        let (first, count) = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
        Some(Line { user, range: IdRange { first, count } })
    };
    text.lines().filter_map(line).collect()
}

/// The beginnings of what fits in a range. The first 65536 ids are the host's own.
fn aligned(range: &IdRange) -> impl Iterator<Item = u32> + use<> {
    let (first, end) = (u64::from(range.first), u64::from(range.first) + u64::from(range.count));
    let size = u64::from(IdRange::COUNT);
    let begin = first.next_multiple_of(size).max(size);
    let last = end.min(END).saturating_sub(size);
    (begin..=last).step_by(1 << 16).filter_map(|first| u32::try_from(first).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(subuid: &str, subgid: &str) -> Vec<u32> {
        ranges(subuid, subgid).map(|r| r.iter().map(|r| r.first >> 16).collect()).unwrap_or_default()
    }

    #[test]
    fn what_both_files_give() {
        let two = "me:65536:65536\n# comment\nrkt:131072:131072\n";
        assert_eq!(firsts(two, two), [2, 3]);
        assert_eq!(firsts(two, "rkt:196608:65536\n"), [3], "only what is in both");
        assert_eq!(firsts("rkt:100000:200000", "rkt:100000:200000"), [2, 3], "aligned");
        assert_eq!(firsts("rkt:0:200000", "rkt:0:200000"), [1, 2], "never the host's own");
        assert_eq!(firsts("rkt:131072:65536\nrkt:262144:65536", "rkt:0:999999"), [2, 4], "several lines");
    }

    #[test]
    fn what_gives_nothing_is_refused() {
        let good = "rkt:131072:65536";
        for (subuid, subgid) in [
            (good, ""),
            ("", good),
            ("rkt:100000:65536", "rkt:100000:65536"),
            (good, "rkt:196608:65536"),
            ("rkt:2147483648:65536", "rkt:2147483648:65536"),
            ("rkt:x:65536", good),
            ("rkt:4294967295:4294967295", good),
        ] {
            assert!(matches!(ranges(subuid, subgid), Err(UsersError::None)), "{subuid} {subgid}");
        }
        let others = "rkt:131072:65536\nme:196000:65536";
        assert!(matches!(ranges(others, good), Err(UsersError::None)), "what is somebody else's, too");
    }

    #[test]
    fn without_lines_of_ours_the_unused_ids_are_used() {
        let all = ranges("", "me:100000:65536").unwrap();
        assert_eq!((all.len(), all[0].first), (4094, 0x7000_0000));
        assert_eq!(all.last().map(|r| r.first), Some(0x7ffd_0000));
        let without = ranges("you:1879048192:1", "me:1879113728:65536").unwrap();
        assert_eq!((without.len(), without[0].first), (4092, 0x7002_0000));
    }

    #[test]
    fn every_search_begins_somewhere() {
        for _ in 0..100 {
            let pod = PodId::random();
            assert!(start(pod, 7) < 7 && start(pod, 0) == 0);
        }
    }

    proptest::proptest! {
        /// Whatever the files say: ranges are aligned, above the host's own ids, below the sign bit, and nobody else's.
        #[test]
        fn ranges_are_fit_for_use(text in "(rkt|me|[a-z:]{0,4}):[0-9]{1,10}:[0-9]{1,9}\n(rkt:[0-9]{1,10}:[0-9]{1,9}\n){0,3}") {
            for range in ranges(&text, &text).unwrap_or_default() {
                let end = u64::from(range.first) + u64::from(range.count);
                proptest::prop_assert!(range.first % 65536 == 0 && range.first > 0 && end <= END);
                let others = lines(&text).into_iter().filter(|l| l.user != USER);
                proptest::prop_assert!(others.into_iter().all(|l| !l.range.overlaps(&range)));
            }
        }
    }
}
