//! The process: what is executed, as whom, with which environment and privileges.

use oci_spec::runtime::{Process, User};
use pod::manifest::{App, Isolator};

use super::{Input, SpecError, capabilities};

/// Where executables are looked for when the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(input: &Input<'_>, capabilities: &capabilities::Set) -> Result<Process, SpecError> {
    let app = input.app;
    if app.exec.is_empty() {
        return Err(SpecError::NoCommand(input.runtime.name.clone()));
    }
    let cwd = app.working_directory.as_deref().filter(|d| !d.is_empty()).unwrap_or("/");
    let mut process = Process::default();
    let _ = process
        .set_terminal(input.terminal.then_some(true))
        .set_user(user(app))
        .set_args(Some(app.exec.clone()))
        .set_env(Some(environment(input)))
        .set_cwd(cwd.into())
        .set_capabilities(Some(capabilities.to_linux()))
        .set_rlimits(None)
        .set_no_new_privileges(Some(no_new_privileges(app)))
        .set_oom_score_adj(oom_score_adj(app));
    Ok(process)
}

/// The numbers, where the text is a number. Names and paths are for the stage1: until it has resolved them, the numbers
/// are those of nobody in particular, never silently root's.
fn user(app: &App) -> User {
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u32>().ok() };
    let mut user = User::default();
    let gids = (!app.supplementary_gids.is_empty()).then(|| app.supplementary_gids.clone());
    let _ = user
        .set_uid(number(&app.user).unwrap_or(NOBODY))
        .set_gid(number(&app.group).unwrap_or(NOBODY))
        .set_additional_gids(gids);
    user
}

const NOBODY: u32 = 65534;

fn environment(input: &Input<'_>) -> Vec<String> {
    let app = input.app;
    let mut env: Vec<String> = app.environment.iter().map(|e| format!("{}={}", e.name, e.value)).collect();
    if app.env("PATH").is_none() {
        env.push(format!("PATH={PATH}"));
    }
    if app.env("AC_APP_NAME").is_none() {
        env.push(format!("AC_APP_NAME={}", input.runtime.name));
    }
    env
}

/// On unless the app asks otherwise; the last isolator wins.
fn no_new_privileges(app: &App) -> bool {
    let asked = |i: &Isolator| if let Isolator::NoNewPrivileges(on) = i { Some(*on) } else { None };
    app.isolators.iter().rev().find_map(asked).unwrap_or(true)
}

fn oom_score_adj(app: &App) -> Option<i32> {
    let asked = |i: &Isolator| if let Isolator::OomScoreAdj(n) = i { Some(*n) } else { None };
    app.isolators.iter().rev().find_map(asked)
}
