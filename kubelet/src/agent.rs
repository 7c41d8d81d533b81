//! Puts the parts together and runs them until somebody asks the kubelet to end. Pods stay.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use pod::DataDir;
use rustix::fs::FlockOperation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::board::Board;
use crate::chain::chain;
use crate::config::Config;
use crate::desired::{Desired, FullName};
use crate::dispatch::Dispatch;
use crate::finished::Finished;
use crate::health::Health;
use crate::image_gc;
use crate::resources;
use crate::runtime::node::Node;
use crate::runtime::observe::Pods;
use crate::runtime::rkt::Rkt;
use crate::server::{self, Sources};
use crate::source::directory::{Directory, Listing};
use crate::source::watch::Watch;
use crate::systemd::classes;
use crate::systemd::watch::{self, Wakers};

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let _lock = own(&config.root_dir)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(agent(config))
}

async fn agent(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let facts = Arc::new(config.node.clone());
    let (board, health) = (Board::new(Arc::clone(&facts)), Health::default());
    let node = Arc::new(node(&config, facts, &health)?);
    if let Some(address) = config.listen {
        let listener = server::listen(address).await.with_context(|| format!("listen on {address}"))?;
        let sources = Sources { board: board.clone(), health: health.clone() };
        let _server = tokio::spawn(server::serve(listener, sources));
    }
    tracing::info!(node = config.node.name, manifests = %config.manifests.display(), "the kubelet runs");
    let finished = Finished::new(&config.root_dir);
    let dispatch = Dispatch::new(Arc::clone(&node), board.clone(), finished, config.backoff);
    if let Some(plan) = config.image_gc.clone() {
        let _collector = tokio::spawn(image_gc::run(Arc::clone(&node), plan));
    }
    // Ended from outside at any point: nothing in there needs an orderly end.
    tokio::select! {
        result = follow(&config, &node, dispatch, &board, &health) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }?;
    tracing::info!("the kubelet ends; pods go on");
    Ok(())
}

fn node(config: &Config, facts: Arc<crate::translate::NodeFacts>, health: &Health) -> anyhow::Result<Node> {
    let data = DataDir::open(&config.rkt_dir).context("open rkt's data directory")?;
    let scratch = config.root_dir.join("prepare");
    if scratch.exists() {
        // Left over from a kubelet that was killed.
        std::fs::remove_dir_all(&scratch).with_context(|| format!("empty {}", scratch.display()))?;
    }
    make_private(&scratch)?;
    let wakers = Wakers::default();
    Ok(Node {
        rkt: Rkt::new(&config.rkt, data.path(), config.pulls.clone()),
        pods: Pods::new(data),
        systemd: watch::spawn(wakers.clone(), health.clone()),
        wakers,
        stage1: config.stage1.clone(),
        scratch,
        backoff: config.backoff,
        facts,
        hierarchy: config.hierarchy,
        pulls: Semaphore::new(config.max_pulls),
    })
}

/// Follows the manifests, and tells the workers.
async fn follow(
    config: &Config,
    node: &Arc<Node>,
    mut dispatch: Dispatch<Node>,
    board: &Board,
    health: &Health,
) -> anyhow::Result<()> {
    let mut directory = Directory::new(&config.manifests, &config.node.name);
    let stored = there(node).await?.into_values();
    directory.remember(stored);
    let mut watch = Watch::new();
    let classes = classes::spawn(node.systemd.clone(), node.hierarchy);
    loop {
        if let Err(e) = watch.arm(&config.manifests) {
            tracing::debug!("cannot watch {}: {e}", config.manifests.display());
        }
        let (back, listing) = look(directory).await?;
        directory = back;
        match listing {
            Ok(listing) => {
                let _ = health.set_manifests(Ok(()));
                for rejection in &listing.rejected {
                    tracing::error!("manifest refused: {rejection}");
                }
                // Instances that nobody wants wait until they can be found.
                let there = there(node).await.inspect_err(|e| tracing::error!("{e:#}")).unwrap_or_default();
                weigh(&classes, &listing, board);
                dispatch.sync(&listing.pods, there.into_keys());
            }
            Err(e) => {
                // Nothing is known: nothing is changed.
                let why = format!("read the directory {}: {e}", config.manifests.display());
                if health.set_manifests(Err(why.clone())) {
                    tracing::error!("{why}");
                }
                watch.disarm();
            }
        }
        let sweep = async {
            if let Err(e) = node.sweep().await {
                tracing::debug!("cannot look for units that are left over: {}", chain(&e));
            }
            std::future::pending::<()>().await;
        };
        // The sweep may be cut short: the next one begins anew.
        tokio::select! {
            () = watch.due() => {}
            () = sweep => {}
        }
    }
}

/// What burstable pods that are not over ask for.
fn weigh(classes: &tokio::sync::watch::Sender<Option<u64>>, listing: &Listing, board: &Board) {
    let active = listing.pods.values().filter(|desired| !board.is_over(&desired.name));
    let sum = Some(resources::burstable_cpu(active.map(|desired| desired.spec())));
    let _ = classes.send_if_modified(|before| std::mem::replace(before, sum) != sum);
}

async fn look(mut directory: Directory) -> anyhow::Result<(Directory, std::io::Result<Listing>)> {
    let look = move || {
        let listing = directory.read(jiff::Timestamp::now());
        (directory, listing)
    };
    tokio::task::spawn_blocking(look).await.context("look at the manifests")
}

/// The pods of which there are instances, and what they were made from.
async fn there(node: &Arc<Node>) -> anyhow::Result<BTreeMap<FullName, Desired>> {
    let pods = node.pods.clone();
    let all = tokio::task::spawn_blocking(move || pods.all()).await.context("look at the pods")?;
    let all = all.context("read the pod directory")?;
    Ok(all
        .into_iter()
        .map(|(_, identity)| (identity.desired.name.clone(), identity.desired.clone()))
        .collect())
}

/// Takes the kubelet's own directory. Two kubelets would fight over pods.
fn own(root: &Path) -> anyhow::Result<OwnedFd> {
    make_private(root)?;
    let path = root.join("lock");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE | rustix::fs::OFlags::CLOEXEC;
    let lock =
        rustix::fs::open(&path, flags, 0o600.into()).with_context(|| format!("open {}", path.display()))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!("another kubelet uses --root-dir={}", root.display()),
        Err(e) => Err(e).with_context(|| format!("lock {}", path.display())),
    }
}

fn make_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.with_context(|| format!("make the directory {}", dir.display()))
}
