//! Runs commands inside a throwaway node for the harness outside; see `tests::agent`.
//!
//! `node-agent socket PATH` connects to the harness's socket, `node-agent port NAME` opens the virtio port
//! of that name.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["socket", path] => {
            let stream = UnixStream::connect(path).with_context(|| format!("cannot connect to {path}"))?;
            let answers = stream.try_clone().context("cannot share the connection")?;
            tests::agent::serve(stream, answers).context("lost the harness")
        }
        ["port", name] => {
            let port = open_port(name)?;
            let answers = port.try_clone().context("cannot share the port")?;
            tests::agent::serve(port, answers).context("lost the harness")
        }
        _ => bail!("usage: node-agent socket PATH | port NAME"),
    }
}

/// Finds a virtio port by its name. udev would link it in /dev/virtio-ports, but need not be installed.
fn open_port(name: &str) -> Result<File> {
    for entry in
        fs::read_dir("/sys/class/virtio-ports").context("this machine has no virtio ports")?.flatten()
    {
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|n| n.trim() == name) {
            let device = PathBuf::from("/dev").join(entry.file_name());
            let mut options = fs::OpenOptions::new();
            let options = options.read(true).write(true);
            return options.open(&device).with_context(|| format!("cannot open {}", device.display()));
        }
    }
    bail!("there is no virtio port named {name}")
}
