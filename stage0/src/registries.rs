//! What this host's administrator configured about registries: `registries.conf`, `certs.d`, proxies, credentials.
//!
//! Credentials are looked for in rkt's `auth.d` directories and then in the files of other programs. The first that knows
//! a registry counts:
//!
//! 1. `auth.d` of `--user-config`, `--local-config`, `--system-config`
//! 2. `$REGISTRY_AUTH_FILE`; if it is set, none of the following
//! 3. `$XDG_RUNTIME_DIR/containers/auth.json`; `/run/containers/UID/auth.json` where the variable is not set
//! 4. `$XDG_CONFIG_HOME/containers/auth.json`, by default in `~/.config`
//! 5. `$DOCKER_CONFIG/config.json`, by default in `~/.docker`

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use image::{Certificates, Credentials, CredentialsError, Proxies, Registries, RegistryConfig};

use crate::images::ImageError;

/// Files and environment, read when they are first needed and then kept. What is not understood is said once.
pub(crate) fn config() -> Result<&'static RegistryConfig, ImageError> {
    static CONFIG: OnceLock<RegistryConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let registries = Registries::of_host()?;
    for warning in registries.warnings() {
        // In one piece, and nobody can be told that standard error is closed.
        let _ = std::io::stderr().write_all(format!("rkt: warning: {warning}\n").as_bytes());
    }
    let config =
        RegistryConfig { registries, certificates: Certificates::of_host(), proxies: Proxies::from_env()? };
    Ok(CONFIG.get_or_init(|| config))
}

/// Everything that is known about names, passwords and tokens.
pub(crate) fn credentials(config_dirs: &[PathBuf]) -> Result<Credentials, CredentialsError> {
    let mut credentials = Credentials::new();
    for dir in config_dirs {
        credentials.add_auth_dir(&dir.join("auth.d"))?;
    }
    for file in files(&|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)) {
        credentials.add_docker_config(&file)?;
    }
    Ok(credentials)
}

/// The files of other programs, in the order of their weight.
fn files(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = variable("HOME");
    let in_home = |path: &str| Some(home.as_ref()?.join(path));
    let user = rustix::process::getuid().as_raw();
    let runtime = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let runtime = runtime.or_else(|| Some(PathBuf::from(format!("/run/containers/{user}/auth.json"))));
    let config = variable("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    let config = config.map(|dir| dir.join("containers/auth.json"));
    let docker = docker.map(|dir| dir.join("config.json"));
    [runtime, config, docker].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(variables: &[(&str, &str)]) -> Vec<String> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| PathBuf::from(v));
        files(&find).iter().map(|file| file.display().to_string()).collect()
    }

    #[test]
    fn files_of_other_programs_have_an_order() {
        let own = format!("/run/containers/{}/auth.json", rustix::process::getuid().as_raw());
        assert_eq!(listed(&[]), [own.as_str()]);
        assert_eq!(
            listed(&[("HOME", "/h")]),
            [own.as_str(), "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(
            listed(&[
                ("HOME", "/h"),
                ("XDG_RUNTIME_DIR", "/r"),
                ("XDG_CONFIG_HOME", "/c"),
                ("DOCKER_CONFIG", "/d")
            ]),
            ["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"]
        );
        assert_eq!(listed(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a")]), ["/a"]);
    }
}
