//! `rkt version`: what this is, one `name: value` per line.

use std::io::Write as _;

use super::command::Invocation;
use crate::exit::SUCCESS;

pub(crate) fn run(_: &Invocation) -> anyhow::Result<u8> {
    let mut out = std::io::stdout();
    // Old kubelets look for a line of three words that begins with "rkt".
    writeln!(out, "rkt Version: {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "appc Version: {}", pod::manifest::AC_VERSION)?;
    writeln!(out, "stage1 Interface Version: {}", pod::stage1::INTERFACE_VERSION)?;
    writeln!(out, "OS/Arch: {}/{}", std::env::consts::OS, std::env::consts::ARCH)?;
    writeln!(out, "Features: -TPM +SDJOURNAL")?;
    Ok(SUCCESS)
}
