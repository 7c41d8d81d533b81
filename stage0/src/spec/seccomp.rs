//! The system call filter: the default profile, or what appc's isolators ask for. seccomp(2).
//!
//! The default profile lets through what ordinary programs need and what their capabilities allow them anyway; everything
//! else fails with EPERM. Without CAP_SYS_ADMIN no new namespaces: `clone` is let through when none is asked for, and
//! `clone3`, whose flags a filter cannot see, does not exist (ENOSYS), so that C libraries fall back to `clone`.

mod calls;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use pod::manifest::{Isolator, Seccomp};

use super::capabilities::Set;
use super::{Input, SpecError};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// `CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}`, clone(2).
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// `AF_VSOCK`, vsock(7): reaches the hypervisor past every network policy.
const AF_VSOCK: u64 = 40;
/// Execution domains that change nothing but the shape of addresses and of uname(2); the last asks for the current one.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// An app's filter; `None`: it has none.
pub(super) fn filter(input: &Input<'_>, capabilities: &Set) -> Result<Option<LinuxSeccomp>, SpecError> {
    if input.lifted.seccomp {
        return Ok(None);
    }
    let (mut retain, mut remove) = (None, None);
    for isolator in &input.app.isolators {
        match isolator {
            Isolator::SeccompRetain(set) => retain = Some(set),
            Isolator::SeccompRemove(set) => remove = Some(set),
            _ => {}
        }
    }
    match (retain, remove) {
        (Some(_), Some(_)) => Err(SpecError::TwoFilters { app: input.runtime.name.clone() }),
        (Some(set), None) => retain_only(input, set, capabilities),
        (None, Some(set)) => refuse(input, set),
        (None, None) => Ok(Some(profile(Action::ScmpActErrno, Some(EPERM), default_rules(capabilities)))),
    }
}

/// Only these calls.
fn retain_only(
    input: &Input<'_>,
    set: &Seccomp,
    capabilities: &Set,
) -> Result<Option<LinuxSeccomp>, SpecError> {
    let (action, errno) = refusal(input, set)?;
    let mut rules = Vec::new();
    let mut names = Vec::new();
    for name in &set.set {
        match name.as_str() {
            "@appc.io/all" => return Ok(None),
            "@appc.io/empty" => {}
            "@rkt/default-whitelist" | "@docker/default-whitelist" => {
                rules.extend(default_rules(capabilities))
            }
            group if group.starts_with('@') => return Err(unknown_group(input, group)),
            call => names.push(call.to_owned()),
        }
    }
    if !names.is_empty() {
        rules.push(rule(names, Action::ScmpActAllow, None, Vec::new()));
    }
    Ok(Some(profile(action, errno, rules)))
}

/// All calls but these.
fn refuse(input: &Input<'_>, set: &Seccomp) -> Result<Option<LinuxSeccomp>, SpecError> {
    let (action, errno) = refusal(input, set)?;
    let mut names = Vec::new();
    for name in &set.set {
        match name.as_str() {
            "@appc.io/empty" => {}
            "@rkt/default-blacklist" | "@docker/default-blacklist" => {
                names.extend(calls::BLOCKED.iter().map(|c| (*c).to_owned()));
            }
            group if group.starts_with('@') => return Err(unknown_group(input, group)),
            call => names.push(call.to_owned()),
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let rules = vec![rule(names, action, errno, Vec::new())];
    Ok(Some(profile(Action::ScmpActAllow, None, rules)))
}

/// What happens to a call that is refused: an error where one is named; otherwise it ends the app, as appc asks.
fn refusal(input: &Input<'_>, set: &Seccomp) -> Result<(Action, Option<u32>), SpecError> {
    let Some(name) = set.errno.as_deref().filter(|e| !e.is_empty()) else {
        return Ok((Action::ScmpActKillProcess, None));
    };
    let number = ERRNOS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number);
    let unknown = || SpecError::Errno { app: input.runtime.name.clone(), name: name.to_owned() };
    Ok((Action::ScmpActErrno, Some(number.ok_or_else(unknown)?)))
}

fn default_rules(capabilities: &Set) -> Vec<LinuxSyscall> {
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let allow = |calls: Vec<String>, args| rule(calls, Action::ScmpActAllow, None, args);
    let mut rules = vec![
        allow(names(calls::ALLOWED), Vec::new()),
        allow(names(&["socket"]), vec![arg(0, AF_VSOCK, None, Operator::ScmpCmpNe)]),
    ];
    rules.extend(
        PERSONALITIES.map(|p| allow(names(&["personality"]), vec![arg(0, p, None, Operator::ScmpCmpEq)])),
    );
    for (arch, calls) in calls::OF_ARCHITECTURE {
        if *arch == std::env::consts::ARCH {
            rules.push(allow(names(calls), Vec::new()));
        }
    }
    for (capability, calls) in calls::WITH_CAPABILITY {
        if capabilities.has(capability) {
            rules.push(allow(names(calls), Vec::new()));
        }
    }
    if !capabilities.has("SYS_ADMIN") {
        let no_namespace = arg(0, NEW_NAMESPACES, Some(0), Operator::ScmpCmpMaskedEq);
        rules.push(allow(names(&["clone"]), vec![no_namespace]));
        rules.push(rule(names(&["clone3"]), Action::ScmpActErrno, Some(ENOSYS), Vec::new()));
    }
    rules
}

fn profile(default: Action, errno: Option<u32>, rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut seccomp = LinuxSeccomp::default();
    let _ = seccomp
        .set_default_action(default)
        .set_default_errno_ret(errno)
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(rules));
    seccomp
}

/// The machine's architecture and those whose programs it runs, too.
fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
    }
}

fn rule(names: Vec<String>, action: Action, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    let _ = rule
        .set_names(names)
        .set_action(action)
        .set_errno_ret(errno)
        .set_args((!args.is_empty()).then_some(args));
    rule
}

fn arg(index: usize, value: u64, value_two: Option<u64>, op: Operator) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    let builder = match value_two {
        Some(two) => builder.value_two(two),
        None => builder,
    };
    // Every field has a default: building cannot fail.
    builder.build().unwrap_or_default()
}

fn unknown_group(input: &Input<'_>, name: &str) -> SpecError {
    SpecError::SeccompGroup { app: input.runtime.name.clone(), name: name.to_owned() }
}

/// errno(3): those that a refused call can reasonably return.
const ERRNOS: [(&str, u32); 14] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("EINTR", 4),
    ("EIO", 5),
    ("ENXIO", 6),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EBUSY", 16),
    ("ENODEV", 19),
    ("EINVAL", 22),
    ("ENOTTY", 25),
    ("ENOSYS", 38),
    ("EOPNOTSUPP", 95),
];
