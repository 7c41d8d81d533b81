//! `process.rlimits` and `process.oomScoreAdj`.

use std::io::Write;
use std::os::fd::AsFd;

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use crate::failure::StepError;

/// A limit could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The soft limit is above the hard limit.
    #[error("{name}: the soft limit {soft} is above the hard limit {hard}")]
    Crossed {
        /// Which.
        name: String,
        /// As configured.
        soft: u64,
        /// As configured.
        hard: u64,
    },
    /// Raising needs CAP_SYS_RESOURCE.
    #[error(
        "raise {name} to {hard}: the hard limit here is {inherited}, and only CAP_SYS_RESOURCE may raise it"
    )]
    Raise {
        /// Which.
        name: String,
        /// As configured.
        hard: u64,
        /// What this process was started with.
        inherited: String,
    },
    /// The kernel refused for another reason.
    #[error("set {name}")]
    Set {
        /// Which.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// Lowering below what this process was started with needs CAP_SYS_RESOURCE.
    #[error("set oom_score_adj to {0}")]
    OomScore(i32, #[source] std::io::Error),
}

impl StepError for LimitError {}

/// Sets the limits.
pub fn apply(limits: &[PosixRlimit]) -> Result<(), LimitError> {
    limits.iter().try_for_each(set)
}

/// Raises the hard limits that are lower than what [`apply`] will set: in a user namespace nobody can.
pub fn raise(limits: &[PosixRlimit]) -> Result<(), LimitError> {
    for limit in limits {
        let now = rustix::process::getrlimit(resource(limit.typ()));
        if now.maximum.is_some_and(|hard| hard < limit.hard()) {
            let hard = finite(limit.hard());
            change(limit, Rlimit { current: now.current, maximum: hard })?;
        }
    }
    Ok(())
}

/// Sets the score by which the kernel chooses a victim when memory is short. `proc`: a procfs that shows this process.
pub fn set_oom_score(proc: impl AsFd, score: i32) -> Result<(), LimitError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(proc, "self/oom_score_adj", flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|fd| std::fs::File::from(fd).write_all(score.to_string().as_bytes()))
        .map_err(|e| LimitError::OomScore(score, e))
}

fn set(limit: &PosixRlimit) -> Result<(), LimitError> {
    let (name, soft, hard) = (limit.typ().to_string(), limit.soft(), limit.hard());
    if soft > hard {
        return Err(LimitError::Crossed { name, soft, hard });
    }
    change(limit, Rlimit { current: finite(soft), maximum: finite(hard) })
}

fn finite(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

fn change(limit: &PosixRlimit, to: Rlimit) -> Result<(), LimitError> {
    let (name, resource) = (limit.typ().to_string(), resource(limit.typ()));
    match rustix::process::setrlimit(resource, to) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            let inherited = rustix::process::getrlimit(resource).maximum;
            let inherited = inherited.map_or("unlimited".to_owned(), |n| n.to_string());
            Err(LimitError::Raise { name, hard: limit.hard(), inherited })
        }
        Err(e) => Err(LimitError::Set { name, source: e.into() }),
    }
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::PosixRlimitBuilder;

    use super::*;

    #[test]
    fn crossed_limits_are_refused_before_the_kernel_is_asked() {
        let limit = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(10_u64).hard(5_u64);
        let error = apply(&[limit.build().unwrap()]).unwrap_err();
        assert_eq!(error.to_string(), "RLIMIT_NOFILE: the soft limit 10 is above the hard limit 5");
    }
}
