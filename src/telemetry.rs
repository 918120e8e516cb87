//! The broker's own log lines: level and form. Goes to standard error; knows nothing of what is logged.

use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload;
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
    /// Nobody writes log lines any more.
    #[error("the level cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Changes the level of the log lines of this process.
pub struct Level(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error>>);

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Level").finish_non_exhaustive()
    }
}

impl Level {
    /// From now on as `level` says.
    ///
    /// # Errors
    /// If it cannot be understood, or nobody writes log lines any more.
    pub fn set(&self, level: &str) -> Result<(), TelemetryError> {
        Ok((self.0)(filter(level)?)?)
    }
}

/// Writes log lines to standard error from now on, as `config` says.
///
/// # Errors
/// If the level cannot be understood or the process writes log lines already.
pub fn init(config: &TelemetryConfig) -> Result<Level, TelemetryError> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.level)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            Ok(Level(Box::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            Ok(Level(Box::new(move |filter| handle.reload(filter))))
        }
    }
}

/// Reads a level or filter directives.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    // What the HTTP server of the admin pages tells of its own start and stop is of no use to an operator.
    EnvFilter::builder().parse(format!("actix_server=warn,{level}"))
}
