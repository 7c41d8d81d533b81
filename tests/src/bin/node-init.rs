//! The steps of a throwaway node's life outside and before its systemd; see `tests::keeper`.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tests::keeper::step(&arguments)
}
