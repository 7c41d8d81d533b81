//! `stop`: asks the apps to end, or kills them.

use pod::{AppName, PodDir, bundle, signal};
use stage1::failure::Failure;
use stage1::running::Running;
use stage1::verbs::Stop;

/// Sends the signal to each app that runs. An app that does not run has stopped already.
pub(crate) fn stop(pod: &PodDir, stop: &Stop) -> Result<(), Failure> {
    let apps = match &stop.app {
        Some(app) => vec![app.clone()],
        None => pod.manifest()?.apps.into_iter().map(|app| app.name).collect(),
    };
    let failures: Vec<String> =
        apps.iter().filter_map(|app| stop_app(pod, app, stop.signal).err()).map(|f| f.to_string()).collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::other(failures.join("; "))) }
}

fn stop_app(pod: &PodDir, name: &AppName, signal: Option<u8>) -> Result<(), Failure> {
    // The name must be right, even where nothing runs.
    let app = pod.app(name)?;
    let Ok(running) = Running::find(pod, name) else { return Ok(()) };
    let number = match signal {
        Some(number) => number,
        None => stop_signal(&app.config()?)?,
    };
    match sys::signal::send(&running, number) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(Failure::other(format!("send signal {number} to the app {name}: {e}"))),
    }
}

/// The app's own stop signal, or SIGTERM.
fn stop_signal(config: &oci_spec::runtime::Spec) -> Result<u8, Failure> {
    const TERM: u8 = 15;
    let text = config.annotations().as_ref().and_then(|a| a.get(bundle::STOP_SIGNAL));
    text.map_or(Ok(TERM), |text| {
        signal::number(text).ok_or_else(|| Failure::other(format!("the stop signal {text:?} is no signal")))
    })
}
