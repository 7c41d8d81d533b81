//! Root's side: `rkt unit fetch`, one request and the end. Its standard input is the member's connection.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use image::{Credentials, Store};
use pod::DataDir;
use pod::fetch_event::FetchStep;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};

use super::guard::{self, Guard};
use super::{Request, archive, wire};
use crate::exit::{self, Log};
use crate::images::{Images, Policy};
use crate::progress::{Output, Sink, Watch};

/// How long a member may take to read.
const PATIENCE: Duration = Duration::from_secs(30);

/// What root lets members have.
#[derive(Debug)]
pub(crate) struct Terms {
    /// The data directory, as it was configured.
    pub(crate) dir: PathBuf,
    /// `--insecure-options` of the unit.
    pub(crate) insecure: Vec<String>,
    /// Where the log goes.
    pub(crate) log: Log,
}

/// Answers the request on standard input. What becomes of it is the member's business: an error here is one of the
/// service.
pub(crate) fn serve(
    terms: &Terms,
    policy: impl FnOnce(&[String]) -> anyhow::Result<Policy>,
) -> anyhow::Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("cannot use standard input")?;
    let peer = socket_peercred(&socket).context("standard input is no connection: systemd starts this")?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).context("cannot set up the connection")?;
    let places =
        std::env::var_os("RUNTIME_DIRECTORY").context("RUNTIME_DIRECTORY is not set: systemd starts this")?;
    let uid = peer.uid.as_raw();
    let sink = Arc::new(Sink::new(File::from(socket.try_clone()?)));
    let mut image = String::new();
    let outcome = wire::receive(&socket).map_err(anyhow::Error::new).and_then(|(mut request, file)| {
        image.clone_from(&request.image);
        let _place = guard::place(places.as_ref(), uid)?;
        let policy = checked(&mut request, terms, policy)?;
        terms.log.say(format_args!("uid {uid} asks for image {:?}", request.image));
        fetch(&request, file, &Connection { socket, sink: Arc::clone(&sink) }, terms, &policy)
    });
    match &outcome {
        Ok(id) => terms.log.say(format_args!("uid {uid} has image {id}")),
        Err(e) => terms.log.say(format_args!("uid {uid} does not get an image: {}", exit::render(e, false))),
    }
    let last = match outcome {
        Ok(id) => FetchStep::Done { id },
        Err(e) => FetchStep::Error { message: exit::render(&e, false) },
    };
    Output::Json(sink).watch(&image).show(&last);
    Ok(())
}

/// Where the member listens.
struct Connection {
    socket: OwnedFd,
    sink: Arc<Sink>,
}

/// Holds the request against root's terms.
fn checked(
    request: &mut Request,
    terms: &Terms,
    policy: impl FnOnce(&[String]) -> anyhow::Result<Policy>,
) -> anyhow::Result<Policy> {
    ensure!(
        terms.dir == *request.dir,
        "the fetch service fetches into {}, and not into {:?}: only root can use other directories",
        terms.dir.display(),
        request.dir
    );
    for option in &request.insecure_options {
        ensure!(
            is_granted(option, &terms.insecure),
            "--insecure-options={option} is for root, or whom root lets: with --insecure-options in the ExecStart= of rkt-fetch@.service"
        );
    }
    let mut policy = policy(&request.insecure_options)?;
    policy.pull = request.pull_policy.policy();
    let mut credentials = Credentials::new();
    for secret in std::mem::take(&mut request.credentials) {
        credentials.add(&secret.registry, secret.credential.into());
    }
    // Root's own must not be lent.
    policy.credentials = Some(credentials);
    Ok(policy)
}

fn is_granted(option: &str, granted: &[String]) -> bool {
    matches!(option, "" | "none") || granted.iter().any(|g| g == option || g == "all-fetch" || g == "all")
}

fn fetch(
    request: &Request,
    file: Option<OwnedFd>,
    connection: &Connection,
    terms: &Terms,
    policy: &Policy,
) -> anyhow::Result<String> {
    let data = DataDir::open(&terms.dir)
        .with_context(|| format!("cannot use the data directory {}", terms.dir.display()))?;
    let images = Images::open(&data, policy)?;
    let name = images.name(&request.image)?;
    let watch = Arc::new(Output::Json(Arc::clone(&connection.sink)).watch(&request.image));
    let (name, path) = archive::take(name, file.as_ref())?;
    guard(connection, &watch, path.is_none(), terms.log)?;
    let fetched = images.fetch_watched(&name, None, &watch).map_err(anyhow::Error::new);
    let Some(path) = path else { return Ok(fetched?.id.to_string()) };
    // What the descriptor is called means nothing to anybody.
    let shown = |e: anyhow::Error| anyhow::anyhow!(exit::render(&e, false).replace(&path, "the archive"));
    let image = fetched.map_err(shown)?;
    forget(images.store(), &name.to_string())?;
    Ok(image.id.to_string())
}

/// A member's path must not become a name that root might use.
fn forget(store: &Store, name: &str) -> anyhow::Result<()> {
    store.unname(name).context("cannot take the archive's name from the image")
}

/// Watches over the fetch, from a thread that ends with the process.
fn guard(connection: &Connection, watch: &Arc<Watch>, paced: bool, log: Log) -> anyhow::Result<()> {
    let guard = Guard { peer: connection.socket.try_clone()?, watch: Arc::clone(watch), paced, log };
    let thread = std::thread::Builder::new().name("guard".to_owned());
    let _ = thread.spawn(move || guard.run()).context("cannot watch over the fetch")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weakens_is_for_root_to_grant() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let table = [
            ("none", &[][..], true),
            ("http", &[], false),
            ("image", &["http"], false),
            ("http", &["http"], true),
            ("image", &["all-fetch"], true),
            ("all", &["http"], false),
            ("all", &["all"], true),
        ];
        for (asked, granted, is) in table {
            assert_eq!(is_granted(asked, &words(granted)), is, "{asked} of {granted:?}");
        }
    }
}
