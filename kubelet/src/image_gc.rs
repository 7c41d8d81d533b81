//! Collecting images: when to ask rkt for it, and for what. What may go is rkt's business: it knows what pods use, and
//! holds the locks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::MissedTickBehavior;

use crate::chain::chain;
use crate::cli::Arguments;
use crate::config::duration;
use crate::runtime::node::Node;

/// When images go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageGc {
    /// How often to look.
    period: Duration,
    /// What to ask rkt for each time, in this order.
    requests: Vec<Vec<String>>,
}

impl ImageGc {
    /// Checks the flags. `None`: nothing is ever to be collected.
    pub(crate) fn new(arguments: &Arguments) -> anyhow::Result<Option<Self>> {
        let (high, low) = (arguments.image_gc_high_threshold, arguments.image_gc_low_threshold);
        ensure!(
            low < high,
            "--image-gc-low-threshold={low} has to be below --image-gc-high-threshold={high}"
        );
        let period = duration("image-gc-period", arguments.image_gc_period)?;
        let youngest = duration("minimum-image-ttl-duration", arguments.minimum_image_ttl_duration)?;
        let oldest = duration("maximum-image-ttl-duration", arguments.maximum_image_ttl_duration)?;
        ensure!(
            oldest.is_zero() || oldest > youngest,
            "--maximum-image-ttl-duration has to be above --minimum-image-ttl-duration"
        );
        let seconds =
            |d: Duration| format!("{}s", d.as_secs().saturating_add(u64::from(d.subsec_nanos() > 0)));
        let mut requests = Vec::new();
        if !oldest.is_zero() {
            requests.push(vec![format!("--grace-period={}", seconds(oldest))]);
        }
        // As in Kubernetes: a full disk is where 100 % would be above.
        if high < 100 {
            requests.push(vec![
                format!("--high-threshold={high}"),
                format!("--low-threshold={low}"),
                format!("--minimum-age={}", seconds(youngest)),
            ]);
        }
        Ok((!period.is_zero() && !requests.is_empty()).then_some(Self { period, requests }))
    }
}

/// Collects, again and again.
pub(crate) async fn run(node: Arc<Node>, plan: ImageGc) {
    let mut due = tokio::time::interval(plan.period);
    // A collection that takes longer than the period is followed by a whole one.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once: a kubelet that has just begun has pods to start.
    let _ = due.tick().await;
    loop {
        let _ = due.tick().await;
        for request in &plan.requests {
            match node.rkt.image_gc(request).await {
                Ok(gone) => gone.lines().for_each(|line| tracing::info!("image gc: {line}")),
                Err(e) => tracing::warn!("cannot collect images: {}", chain(&e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn plan(flags: &[&str]) -> anyhow::Result<Option<ImageGc>> {
        let words = ["kubelet", "--pod-manifest-path=/m"].iter().chain(flags);
        ImageGc::new(&Arguments::try_parse_from(words)?)
    }

    #[test]
    fn flags_become_requests() {
        let pressure = ["--high-threshold=85", "--low-threshold=80", "--minimum-age=120s"];
        let usual = plan(&[]).unwrap().unwrap();
        assert_eq!(
            (usual.period, usual.requests),
            (Duration::from_secs(300), vec![pressure.map(str::to_owned).to_vec()])
        );
        let both = plan(&["--maximum-image-ttl-duration=2h30m", "--image-gc-period=1s"]).unwrap().unwrap();
        assert_eq!(both.requests.first().unwrap(), &["--grace-period=9000s"]);
        assert_eq!(both.requests.get(1).unwrap(), &pressure);
        let age = plan(&[
            "--image-gc-high-threshold=100",
            "--maximum-image-ttl-duration=500ms",
            "--minimum-image-ttl-duration=0s",
        ]);
        assert_eq!(age.unwrap().unwrap().requests, [["--grace-period=1s"]]);
    }

    #[test]
    fn it_can_be_told_not_to() {
        for flags in [&["--image-gc-period=0s"][..], &["--image-gc-high-threshold=100"]] {
            assert_eq!(plan(flags).unwrap(), None, "{flags:?}");
        }
        for bad in [
            "--image-gc-low-threshold=85",
            "--image-gc-high-threshold=101",
            "--minimum-image-ttl-duration=-1s",
            "--maximum-image-ttl-duration=1m",
            "--image-gc-period=soon",
        ] {
            assert!(plan(&[bad]).is_err(), "{bad}");
        }
    }
}
