//! The connection to the system bus, and what systemd says without being asked.
//!
//! One task owns the connection: it connects, subscribes, and turns each signal about a pod's unit into a wake-up of
//! that pod's worker. When the bus goes away it connects again and wakes everybody, because signals were missed.
//! A signal is only ever a hint to look: its content decides nothing.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pod::PodId;
use pod::unit::Unit;
use tokio::sync::{Notify, watch};
use zbus::export::futures_core::Stream;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath};

use super::{DESTINATION, MANAGER, PATH, Systemd};
use crate::desired::FullName;
use crate::health::Health;

/// Between attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);
/// Signals come in bursts: how many may wait while we are busy.
const QUEUE: usize = 4096;

/// Who is woken when something happens to a pod's units.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wakers {
    inner: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    of_pod: HashMap<FullName, Arc<Notify>>,
    owner: HashMap<PodId, FullName>,
}

impl Wakers {
    /// What the worker of this pod waits on. A wake-up that comes while it is busy is kept for it.
    pub(crate) fn of(&self, name: &FullName) -> Arc<Notify> {
        let mut table = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(table.of_pod.entry(name.clone()).or_default())
    }

    /// Says whose instance an rkt pod is.
    pub(crate) fn register(&self, id: PodId, name: &FullName) {
        let mut table = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = table.owner.insert(id, name.clone());
    }

    /// The instance is gone.
    pub(crate) fn forget(&self, id: PodId) {
        let mut table = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = table.owner.remove(&id)
            && !table.owner.values().any(|n| *n == name)
        {
            let _ = table.of_pod.remove(&name);
        }
    }

    fn wake(&self, id: PodId) {
        let table = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = table.owner.get(&id).and_then(|name| table.of_pod.get(name)) {
            notify.notify_one();
        }
    }

    fn wake_all(&self) {
        let table = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        table.of_pod.values().for_each(|notify| notify.notify_one());
    }
}

/// Begins to connect, and goes on doing so for ever.
pub(crate) fn spawn(wakers: Wakers, health: Health) -> Systemd {
    let (sender, receiver) = watch::channel(None);
    let _detached = tokio::spawn(async move {
        loop {
            match connect().await {
                Ok((connection, signals)) => {
                    tracing::info!("connected to systemd");
                    let _ = sender.send_replace(Some(connection));
                    health.set_bus(true);
                    wakers.wake_all();
                    listen(signals, &wakers).await;
                    tracing::warn!("the connection to the system bus is lost");
                    health.set_bus(false);
                    let _ = sender.send_replace(None);
                }
                Err(e) => tracing::warn!(
                    "cannot connect to systemd over the system bus: {}",
                    crate::chain::chain(&e)
                ),
            }
            tokio::time::sleep(RECONNECT).await;
        }
    });
    Systemd { connection: receiver }
}

async fn connect() -> zbus::Result<(Connection, MessageStream)> {
    let connection = Connection::system().await?;
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(DESTINATION)
        .path_namespace(PATH)
        .build()?;
    let signals =
        MessageStream::for_match_rule(rule, &connection, std::num::NonZeroUsize::new(QUEUE)).await?;
    // Without a subscriber systemd says nothing. Our match comes first, so that nothing is missed.
    let _ = connection.call_method(Some(DESTINATION), PATH, Some(MANAGER), "Subscribe", &()).await?;
    Ok((connection, signals))
}

async fn listen(mut signals: MessageStream, wakers: &Wakers) {
    while let Some(message) = std::future::poll_fn(|cx| Pin::new(&mut signals).poll_next(cx)).await {
        match message {
            Ok(message) => {
                if let Some(Unit::Sandbox(id) | Unit::App(id, _)) = unit_of(&message) {
                    wakers.wake(id);
                }
            }
            Err(e) => tracing::debug!("a signal could not be read: {e}"),
        }
    }
}

/// Which pod's unit a signal is about.
fn unit_of(message: &Message) -> Option<Unit> {
    let header = message.header();
    let path = header.path()?.as_str();
    if let Some(label) = path.strip_prefix("/org/freedesktop/systemd1/unit/") {
        return pod::unit::parse(&unescape(label)?);
    }
    let body = message.body();
    let name = match header.member()?.as_str() {
        "UnitNew" | "UnitRemoved" => body.deserialize::<(String, OwnedObjectPath)>().ok()?.0,
        "JobRemoved" => body.deserialize::<(u32, OwnedObjectPath, String, String)>().ok()?.2,
        _ => return None,
    };
    pod::unit::parse(&name)
}

/// Undoes systemd's escaping of names in object paths: `_2d` is a dash.
fn unescape(label: &str) -> Option<String> {
    let mut bytes = label.bytes();
    let mut out = Vec::with_capacity(label.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'_' => {
                let digits = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_paths_are_unit_names() {
        assert_eq!(unescape("rkt_2d6f_2eservice").as_deref(), Some("rkt-6f.service"));
        for bad in ["a_", "a_2", "a_zz", "_ff"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_wake_up_is_kept_for_a_worker_that_is_busy() {
        let wakers = Wakers::default();
        let name = FullName { namespace: "default".to_owned(), name: "web".to_owned() };
        let id = PodId::random();
        let mine = wakers.of(&name);
        wakers.register(id, &name);
        wakers.wake(id);
        tokio::time::timeout(Duration::from_secs(5), mine.notified()).await.unwrap();
        wakers.wake(PodId::random());
        assert!(tokio::time::timeout(Duration::from_millis(20), mine.notified()).await.is_err());
    }
}
