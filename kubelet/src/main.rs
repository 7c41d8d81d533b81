//! The node agent: pod manifests in, systemd units out.
//!
//! ```text
//! manifests ─▶ source ─▶ dispatch ─▶ worker (one per pod) ─▶ runtime ─┬─▶ rkt fetch, prepare, rm
//!                                      │      ▲                       └─▶ systemd: StartTransientUnit, StopUnit
//!                                      ▼      └── signals of systemd, records in the pod directory
//!                                    board ─▶ server: GET /pods, /healthz
//! ```
//!
//! The kubelet holds no state that matters. What is wanted is in the manifests, what is there is in the pod directory and
//! in systemd; a worker compares the two and does the next thing. So it can be killed at any moment, and a new one goes
//! on where it was; pods do not notice. Restarts, limits and kills are systemd's work, and hold while no kubelet runs.
//!
//! What it does with which field of a manifest: `docs/kubelet.md`. Its units: `docs/units.md`.

mod agent;
mod board;
mod chain;
mod cli;
mod config;
mod desired;
mod dispatch;
mod expand;
mod finished;
mod health;
mod image;
mod image_gc;
mod log;
mod quantity;
mod resources;
mod runtime;
mod server;
mod source;
mod status;
mod systemd;
mod translate;
mod worker;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    log::init();
    match config::Config::new(arguments).and_then(agent::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}
