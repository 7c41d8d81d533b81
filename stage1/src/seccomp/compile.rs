//! From the runtime-spec's profile to a program, by libseccomp.

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::{SeccompError, unknown};

/// Compiles the profile to classic BPF.
pub(super) fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).map_err(at("the default action"))?;
    for arch in profile.architectures().iter().flatten() {
        let arch = architecture(&arch.to_string())?;
        let _ = context.add_arch(arch).map_err(at("an architecture"))?;
    }
    // A binary tree over the numbers instead of a list: cheaper for every call of the app. Older libraries lack it.
    let _ = context.set_ctl_optimize(2);
    let mut largest = 0;
    for rule in profile.syscalls().iter().flatten() {
        largest = add(&mut context, rule, default)?.max(largest);
    }
    let program = export(&context)?;
    Ok(unknown::with_enosys(program, default, largest))
}

/// Adds the rules of one entry. Returns the largest number among its calls.
fn add(
    context: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    default: ScmpAction,
) -> Result<i32, SeccompError> {
    let action = action(rule.action(), rule.errno_ret())?;
    let comparisons = rule.args().iter().flatten().map(comparison).collect::<Result<Vec<_>, _>>()?;
    let mut largest = 0;
    for name in rule.names() {
        // A call that this libseccomp does not know cannot be named in a rule: the default applies to it.
        let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
        largest = largest.max(syscall.as_raw_syscall());
        // libseccomp refuses rules that say what the default says.
        if action != default {
            add_call(context, syscall, action, &comparisons).map_err(at(name))?;
        }
    }
    Ok(largest)
}

fn add_call(
    context: &mut ScmpFilterContext,
    syscall: ScmpSyscall,
    action: ScmpAction,
    comparisons: &[(u32, ScmpArgCompare)],
) -> Result<(), libseccomp::error::SeccompError> {
    let all: Vec<ScmpArgCompare> = comparisons.iter().map(|(_, c)| *c).collect();
    let is_repeated = |n: u32| comparisons.iter().filter(|(m, _)| *m == n).count() > 1;
    if all.is_empty() {
        return context.add_rule(action, syscall).map(drop);
    }
    // Several conditions on one argument are alternatives, as every runtime reads them; libseccomp only knows "and".
    if comparisons.iter().any(|(n, _)| is_repeated(*n)) {
        return all.iter().try_for_each(|c| context.add_rule_conditional(action, syscall, &[*c]).map(drop));
    }
    context.add_rule_conditional(action, syscall, &all).map(drop)
}

fn comparison(arg: &LinuxSeccompArg) -> Result<(u32, ScmpArgCompare), SeccompError> {
    let index = u32::try_from(arg.index()).ok().filter(|i| *i < 6);
    let index = index.ok_or(SeccompError::Unsupported("an argument beyond the sixth"))?;
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        // The first value is the mask, the second what is left of the argument under it.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0))
        }
    };
    Ok((index, ScmpArgCompare::new(index, operator, value)))
}

fn action(action: LinuxSeccompAction, value: Option<u32>) -> Result<ScmpAction, SeccompError> {
    const EPERM: u32 = 1;
    let value = value.unwrap_or(EPERM);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::from(small(value)?)),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(small(value)?),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => return Err(SeccompError::Unsupported("SCMP_ACT_NOTIFY")),
    })
}

fn small(value: u32) -> Result<u16, SeccompError> {
    u16::try_from(value).map_err(|_| SeccompError::Unsupported("an errno beyond 65535"))
}

fn architecture(name: &str) -> Result<ScmpArch, SeccompError> {
    use std::str::FromStr;
    ScmpArch::from_str(name).map_err(at(name))
}

fn at(what: &str) -> impl FnOnce(libseccomp::error::SeccompError) -> SeccompError {
    let what = what.to_owned();
    move |source| SeccompError::Compile { what, source }
}

/// libseccomp before 2.6 can only export to a descriptor: a file in memory.
fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    use std::io::{Read, Seek};
    let fd = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| SeccompError::Export(e.into()))?;
    context.export_bpf(&fd).map_err(at("the program"))?;
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(SeccompError::Export)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: serde_json::Value) -> LinuxSeccomp {
        serde_json::from_value(json).unwrap()
    }

    /// What a thread under the filter gets for uname(2) and for a call with a number that does not exist.
    fn under(profile: &LinuxSeccomp) -> (bool, rustix::io::Errno) {
        let program = sys::seccomp::Program::from_bytes(&compile(profile).unwrap()).unwrap();
        std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            program.load(0).unwrap();
            let denied = rustix::fs::mkdir("/nonexistent/dir", rustix::fs::Mode::empty()).unwrap_err();
            (rustix::process::getpgid(None).is_ok(), denied)
        })
        .join()
        .unwrap()
    }

    #[test]
    fn a_deny_list_denies_what_it_names() {
        let profile = profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NATIVE"],
            "syscalls": [{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
        }));
        assert_eq!(under(&profile), (true, rustix::io::Errno::OPNOTSUPP));
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives() {
        let profile = profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [
                {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 1, "op": "SCMP_CMP_GE"}]}]
        }));
        assert_eq!(under(&profile).1, rustix::io::Errno::OPNOTSUPP);
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        for json in [
            serde_json::json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
        ] {
            assert!(matches!(compile(&profile(json)), Err(SeccompError::Unsupported(_))));
        }
    }
}
