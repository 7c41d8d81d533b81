//! Fetches an image into a store: `fetch STORE IMAGE [new|never|update]`. Prints the image's id and its trees.
//!
//! Plain http is spoken to registries on loopback addresses only. Needs root, as unpacking does.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use image::{FetchOptions, ImageName, PullPolicy, Store, fetch};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fetch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dir, name, policy) = match arguments.as_slice() {
        [dir, name] => (dir, name, PullPolicy::Update),
        [dir, name, policy] if policy == "new" => (dir, name, PullPolicy::New),
        [dir, name, policy] if policy == "never" => (dir, name, PullPolicy::Never),
        [dir, name, policy] if policy == "update" => (dir, name, PullPolicy::Update),
        _ => bail!("usage: fetch STORE IMAGE [new|never|update]"),
    };
    let name: ImageName = name.parse().context("cannot understand the image's name")?;
    let store = Store::open(Path::new(dir)).context("cannot open the store")?;
    let start = Instant::now();
    let image = fetch(&store, &name, &FetchOptions { pull_policy: policy, ..FetchOptions::default() }, &())?;
    eprintln!("{:?}", start.elapsed());
    println!("{}", image.id);
    for layer in image.layers {
        println!("{}", layer.display());
    }
    Ok(())
}
