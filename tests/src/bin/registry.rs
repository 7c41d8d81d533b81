//! Serves the fixture images from a real registry on loopback, for demonstrations.
//!
//! `registry prepare` builds what is missing, which needs Debian's package mirrors; `registry serve PORT`
//! then serves `127.0.0.1:PORT/{busybox,nginx,redis,python3}:1` in the foreground, also where the cache is
//! read-only, as it is in a node.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tests::registry;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["prepare"] => registry::storage().map(drop),
        ["serve", port] => {
            let port = port.parse().with_context(|| format!("{port:?} is not a port"))?;
            let configuration = registry::write_configuration(&registry::storage()?, port)?;
            let mut server = Command::new("docker-registry");
            Err(server.arg("serve").arg(configuration).exec()).context("cannot run docker-registry")
        }
        _ => bail!("usage: registry prepare | serve PORT"),
    }
}
