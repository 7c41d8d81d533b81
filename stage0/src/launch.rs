//! Launching a prepared pod: what both launchers write before they start anything.
//!
//! * [`direct`]: `rkt` stays as the pod's parent, until it is over;
//! * [`units`]: `rkt` takes the lock, becomes stage1 `up`, and systemd is the parent.

pub(crate) mod direct;
mod etc;
mod signals;
mod supervisor;
pub(crate) mod units;

use std::net::IpAddr;

use pod::launch::{Ipc, Launch, Launcher, Net};
use pod::{LockedPod, Phase, PodError, TransitionError};
use sys::journal_stream;

use crate::stage1::Stage1Error;

/// How a pod is to run: the checked form of the launchers' flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Its network.
    pub(crate) net: Net,
    /// Its System V IPC objects and message queues.
    pub(crate) ipc: Ipc,
    /// Its host name; `rkt-<UUID>` when absent.
    pub(crate) hostname: Option<String>,
    /// Its /etc/hosts.
    pub(crate) hosts: Hosts,
    /// Its /etc/resolv.conf.
    pub(crate) dns: Dns,
}

/// Where /etc/hosts comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// The loopback names, the pod's name, and these.
    Entries(Vec<(IpAddr, String)>),
    /// A copy of the host's.
    Host,
}

/// Where /etc/resolv.conf comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dns {
    /// Nothing was said: the host's for a pod in the host's network, an empty one otherwise.
    Unset,
    /// An empty one.
    None,
    /// A copy of the host's.
    Host,
    /// This content.
    Given {
        /// Name servers.
        servers: Vec<IpAddr>,
        /// Domains that are tried in turn.
        search: Vec<String>,
        /// Options, as they are written in the file.
        options: Vec<String>,
        /// The local domain.
        domain: Option<String>,
    },
}

/// A pod could not be launched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Transition(#[from] TransitionError),
    #[error(transparent)]
    Stage1(#[from] Stage1Error),
    #[error("read {path} of the host")]
    HostFile { path: &'static str, source: std::io::Error },
    #[error(transparent)]
    Listener(#[from] sys::notify::ListenerError),
    #[error(transparent)]
    Notify(#[from] sys::notify::NotifyError),
    #[error("watch for signals")]
    Signals(#[source] std::io::Error),
    #[error("wait for the pod's processes")]
    Wait(#[source] std::io::Error),
    #[error("pod {0}: its sandbox could not be made ({1})")]
    Up(pod::PodId, std::process::ExitStatus),
    #[error("a pod with --private-users cannot have the host's {0}: its users have no rights there")]
    HostNamespace(&'static str),
    #[error("pass on the pod's lock")]
    PassLock(#[source] std::io::Error),
}

/// Writes `etc/` and `launch.json`, and moves the pod to `run`. A pod that is there already (its unit was started anew)
/// stays, and gets them afresh.
fn enter_run(pod: &mut LockedPod, launcher: Launcher, settings: &Settings) -> Result<(), LaunchError> {
    check_users(pod, settings)?;
    let id = pod.dir().id();
    let hostname = settings.hostname.clone().unwrap_or_else(|| format!("rkt-{id}"));
    etc::write(pod.dir(), settings, &hostname)?;
    let invocation_id = match launcher {
        Launcher::Direct => journal_invocation(),
        Launcher::Units => None,
    };
    pod.dir().write_launch(&Launch {
        launcher,
        net: settings.net,
        hostname,
        ipc: settings.ipc,
        invocation_id,
    })?;
    match (pod.dir().phase(), launcher) {
        (Phase::Run, _) => Ok(()),
        // It is run at once, by us.
        (Phase::Prepare, Launcher::Direct) => Ok(pod.transition_volatile(Phase::Run)?),
        _ => Ok(pod.transition(Phase::Run)?),
    }
}

/// The pod's user namespace owns its other namespaces; where these are the host's, nothing could be mounted for the apps
/// (sysfs, message queues), and Kubernetes refuses it, too.
fn check_users(pod: &LockedPod, settings: &Settings) -> Result<(), LaunchError> {
    if pod.dir().users()?.is_none() {
        return Ok(());
    }
    match (settings.net, settings.ipc) {
        (Net::Host, _) => Err(LaunchError::HostNamespace("network (--net=host)")),
        (_, Ipc::Parent) => Err(LaunchError::HostNamespace("IPC objects (--ipc=parent)")),
        _ => Ok(()),
    }
}

/// The invocation in whose log our output ends up: the journal says which stream it reads in `$JOURNAL_STREAM`
/// (systemd.exec(5)).
fn journal_invocation() -> Option<String> {
    let id = std::env::var("INVOCATION_ID").ok().filter(|id| !id.is_empty())?;
    writes_to_journal().then_some(id)
}

/// Whether our output, and so that of the apps that we run ourselves, is a stream of the journal.
fn writes_to_journal() -> bool {
    journal_stream::is_stream(std::io::stdout()) || journal_stream::is_stream(std::io::stderr())
}
