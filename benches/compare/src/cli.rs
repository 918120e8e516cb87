//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Loads MQTT brokers one after the other with the same work and compares them.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    /// The outlive binary to start.
    #[arg(long)]
    pub(crate) outlive: Option<PathBuf>,
    /// A further `KEY=VALUE` for `outlive run --set`; may be repeated.
    #[arg(long = "outlive-set", value_name = "KEY=VALUE")]
    pub(crate) outlive_set: Vec<String>,
    /// The mosquitto binary to start.
    #[arg(long)]
    pub(crate) mosquitto: Option<PathBuf>,
    /// A broker that already runs, as `NAME=HOST:PORT,pid=N`; may be repeated.
    #[arg(long = "broker", value_name = "NAME=HOST:PORT,pid=N")]
    pub(crate) brokers: Vec<String>,
    /// Comma-separated names of workloads, or `all`.
    #[arg(long, default_value = "all", value_delimiter = ',')]
    pub(crate) workloads: Vec<String>,
    /// List the workloads and stop.
    #[arg(long)]
    pub(crate) list: bool,
    /// Length of the measured window, where a workload is bound by time.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Time before the measured window.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up_seconds: f64,
    /// Payload bytes (at least 24: each message carries its account).
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(24..))]
    pub(crate) payload: u16,
    /// Divide the sizes of the big workloads (idle, offline, sleepers, broadcast) by this.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) shrink: u32,
    /// Times each workload is run against each broker; the run with the median CPU cost is reported.
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: u32,
    /// Core of the brokers.
    #[arg(long, default_value_t = 0)]
    pub(crate) broker_core: u32,
    /// Core of the load.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: u32,
    /// Pin nothing to a core.
    #[arg(long)]
    pub(crate) no_pin: bool,
    /// Write everything measured to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}
