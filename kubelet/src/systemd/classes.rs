//! The slices of the QoS classes have their part of the processors.
//!
//! Each pod's slice has its own, inside that of its class. Without this a class with one idle pod would weigh as much as
//! one with fifty busy ones. systemd keeps what it is told until the machine is started anew, also for a slice that is
//! not there yet; the task below tells it when the sum has changed, and until it has understood.

use std::time::Duration;

use tokio::sync::watch;

use super::Systemd;
use super::units::{Hierarchy, classes};

/// Between attempts.
const RETRY: Duration = Duration::from_secs(5);

/// Begins to keep the slices; what the burstable pods ask for, in milli-CPUs, is sent over what is returned.
pub(crate) fn spawn(systemd: Systemd, hierarchy: Hierarchy) -> watch::Sender<Option<u64>> {
    let (sender, receiver) = watch::channel(None);
    let _detached = tokio::spawn(keep(systemd, hierarchy, receiver));
    sender
}

async fn keep(systemd: Systemd, hierarchy: Hierarchy, mut wanted: watch::Receiver<Option<u64>>) {
    while wanted.changed().await.is_ok() {
        let Some(burstable) = *wanted.borrow_and_update() else { continue };
        while let Err(e) = tell(&systemd, hierarchy, burstable).await {
            tracing::warn!("cannot weigh the slices of the QoS classes: {}", crate::chain::chain(&e));
            tokio::time::sleep(RETRY).await;
            if wanted.has_changed().unwrap_or(true) {
                break;
            }
        }
    }
}

async fn tell(systemd: &Systemd, hierarchy: Hierarchy, burstable: u64) -> Result<(), super::BusError> {
    for slice in classes(hierarchy, burstable) {
        systemd.set_properties(&slice).await?;
    }
    Ok(())
}
