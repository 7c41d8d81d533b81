//! `rkt`: fetches images, prepares pods, launches them, and answers questions about them. Run and gone: nothing of it
//! stays behind a pod that systemd runs, and a `rkt run` ends with its pod.
//!
//! * [`cli`]: one file per command; the command line is read in two steps, words first, then a checked plan;
//! * [`images`], [`progress`]: the image store and fetching; [`uses`]: which of them pods use; [`appc`]: images as appc
//!   describes them;
//! * [`fetch_service`]: fetching for users who are not root;
//! * [`prepare`]: from a request to a pod's directory; [`spec`]: an app's `config.json`;
//! * [`stage1`], [`launch`]: calling the isolator, directly or inside systemd's units;
//! * [`report`]: what `list` and `status` know about a pod; [`table`], [`time`]: how they show it;
//! * [`collect`]: garbage collection of pods;
//! * [`exit`]: how a command ends.
//!
//! Everything is synchronous and single-threaded, but for the threads of a fetch, and the D-Bus call of `rkt stop`.

#![forbid(unsafe_code)]

mod cli;

mod appc;
mod fetch_service;
mod images;
mod prepare;
mod progress;
mod registries;
mod spec;
mod uses;

mod launch;
mod names;
mod oom;
mod stage1;

mod collect;
mod report;
mod table;
mod time;
mod trust;

mod exit;

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(cli::main(std::env::args_os().skip(1)))
}
