//! The broker's own log lines: level and form. Goes to standard error; knows nothing of what is logged.

use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogFormat, TelemetryConfig};

/// Why log lines cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `telemetry.level` cannot be understood.
    #[error("telemetry.level: {0}")]
    Level(#[from] ParseError),
    /// The process has a subscriber already, for instance that of an embedder.
    #[error("log lines are set up already: {0}")]
    Installed(#[from] TryInitError),
}

/// Writes log lines to standard error from now on, as `config` says.
///
/// # Errors
/// If the level cannot be understood or the process writes log lines already.
pub fn init(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.level)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => lines.finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// Reads a level or filter directives.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    // What the HTTP server of the admin pages tells of its own start and stop is of no use to an operator.
    EnvFilter::builder().parse(format!("actix_server=warn,{level}"))
}
