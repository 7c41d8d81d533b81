//! `stage1-ns`: isolates a pod with Linux namespaces, `docs/stage1.md`.
//!
//! One file per verb:
//!
//! * [`up`] makes the namespaces that the pod's apps share, and hands them to the launcher;
//! * [`app`] makes an attempt and becomes the app; nothing of ours stays;
//! * [`enter`] runs a command beside an app, under its restrictions;
//! * [`stop`] sends signals;
//! * [`down`] removes what the end of the processes leaves.
//!
//! What the verbs are made of is in the crate `stage1`. This process has one thread and must keep it so: it forks, and
//! changes namespaces and credentials, which belong to a thread.

mod app;
mod down;
mod enter;
mod stop;
mod up;

use std::process::ExitCode;

use pod::{AppName, PodDir};
use stage1::failure::Failure;
use stage1::verbs::{Entry, Stage1, Stop};

struct Namespaces;

impl Stage1 for Namespaces {
    fn up(&self, pod: &PodDir) -> Result<(), Failure> {
        up::up(pod)
    }

    fn app(&self, pod: &PodDir, app: &AppName) -> Result<(), Failure> {
        app::app(pod, app)
    }

    fn enter(&self, pod: &PodDir, app: &AppName, entry: &Entry) -> Result<u8, Failure> {
        enter::enter(pod, app, entry)
    }

    fn stop(&self, pod: &PodDir, stop: &Stop) -> Result<(), Failure> {
        stop::stop(pod, stop)
    }

    fn down(&self, pod: &PodDir) -> Result<(), Failure> {
        down::down(pod)
    }
}

fn main() -> ExitCode {
    stage1::verbs::run(&Namespaces)
}
