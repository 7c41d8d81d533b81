//! The command line, as it is written. [`crate::config`] checks it.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Parser, value_parser};
use jiff::SignedDuration;
use pod::stage1::Backoff;

/// Runs the pods of a directory of manifests: rkt prepares them, systemd runs them.
///
/// Pods go on when the kubelet ends, and are taken over by the next one. `GET /healthz` and `GET /pods` are answered on
/// loopback. See docs/kubelet.md for the fields of a manifest that are understood.
#[derive(Debug, Parser)]
#[command(name = "kubelet", version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Directory of v1 Pod manifests, YAML or JSON.
    #[arg(long, value_name = "DIR")]
    pub(crate) pod_manifest_path: PathBuf,

    /// The container runtime.
    #[arg(long, value_name = "NAME", default_value = "rkt", value_parser = ["rkt"])]
    pub(crate) container_runtime: String,

    /// The executable rkt; one without a slash is looked for in $PATH.
    #[arg(long, value_name = "PATH", default_value = "rkt")]
    pub(crate) rkt_path: PathBuf,

    /// Which stage1 isolates pods that do not choose one; rkt's default when absent.
    #[arg(long, value_name = "NAME")]
    pub(crate) rkt_stage1_image: Option<String>,

    /// rkt's data directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/rkt")]
    pub(crate) rkt_dir: PathBuf,

    /// The kubelet's own directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub(crate) root_dir: PathBuf,

    /// Loopback address to answer on.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", alias = "healthz-bind-address")]
    pub(crate) address: IpAddr,

    /// Port to answer on; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 10248)]
    pub(crate) healthz_port: u16,

    /// The node's name; the host name when absent.
    #[arg(long, value_name = "NAME", alias = "node-name")]
    pub(crate) hostname_override: Option<String>,

    /// The node's address; that of the default route's interface when absent.
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<IpAddr>,

    /// The wait before a container that ended is started again, in seconds: first, longest, and how long it has to run
    /// for the series to start again.
    #[arg(long, value_name = "FIRST:LONGEST:RESET", default_value_t = Backoff::KUBERNETES)]
    pub(crate) crash_loop_back_off: Backoff,

    /// A pull of which nothing has come for this long is given up, and tried again later.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(crate) image_pull_progress_deadline: SignedDuration,

    /// Images that are pulled at the same time.
    #[arg(long, value_name = "COUNT", default_value = "2")]
    pub(crate) max_parallel_image_pulls: NonZeroU16,

    /// Percentage of the file system's use above which images are collected; 100 for never.
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_high_threshold: u8,

    /// Percentage of the file system's use down to which images are collected.
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_low_threshold: u8,

    /// An image that was used within this time is never collected.
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub(crate) minimum_image_ttl_duration: SignedDuration,

    /// An image that was not used for this long is collected, however much room there is; 0s for never.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub(crate) maximum_image_ttl_duration: SignedDuration,

    /// How often to look whether images are to be collected; 0s for never.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub(crate) image_gc_period: SignedDuration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manuals_have_every_flag() {
        use clap::CommandFactory;
        let man = include_str!("../../dist/man/kubelet.8").replace("\\-", "-");
        let page = include_str!("../../docs/kubelet.md");
        for flag in Arguments::command().get_arguments().filter_map(|a| a.get_long()) {
            assert!(man.contains(&format!(r"\fB--{flag}\fR=")), "kubelet.8: {flag}");
            assert!(page.contains(&format!("`--{flag} ")), "kubelet.md: {flag}");
        }
    }

    #[test]
    fn what_the_old_command_line_said_still_holds() {
        let arguments = Arguments::try_parse_from([
            "kubelet",
            "--pod-manifest-path=/etc/kubernetes/manifests",
            "--container-runtime=rkt",
            "--rkt-path=/usr/bin/rkt",
            "--rkt-stage1-image=coreos.com/rkt/stage1-coreos",
            "--hostname-override=n1",
        ])
        .unwrap();
        assert_eq!(arguments.crash_loop_back_off, Backoff::KUBERNETES);
        for bad in [["kubelet", "--container-runtime=docker"], ["kubelet", "--crash-loop-back-off=1"]] {
            assert!(
                Arguments::try_parse_from(bad.iter().chain(&["--pod-manifest-path=/m"])).is_err(),
                "{bad:?}"
            );
        }
        assert!(Arguments::try_parse_from(["kubelet"]).is_err());
    }
}
