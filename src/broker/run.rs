//! How long the broker runs: until it is told to stop, or cannot go on.

use std::fmt;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Broker, BrokerError};
use crate::config::{Config, ConfigError};
use crate::telemetry::Level;

/// What SIGHUP needs.
pub struct Again {
    /// Reads the configuration from where it came from.
    pub load: Box<dyn Fn() -> Result<Config, ConfigError>>,
    /// The log lines.
    pub level: Level,
}

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Again").finish_non_exhaustive()
    }
}

/// What the system tells the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Receives them from now on.
    ///
    /// # Errors
    /// [`BrokerError::Signals`].
    pub fn receive() -> Result<Self, BrokerError> {
        let receive = |kind| signal(kind).map_err(BrokerError::Signals);
        Ok(Self {
            terminate: receive(SignalKind::terminate())?,
            interrupt: receive(SignalKind::interrupt())?,
            hang_up: receive(SignalKind::hangup())?,
        })
    }
}

/// Runs the broker until SIGTERM or SIGINT, then drains it. With `accepts_loss` it starts although a part of the journal is
/// missing.
///
/// # Errors
/// [`BrokerError`].
pub async fn run(config: Config, accepts_loss: bool, again: Again) -> Result<(), BrokerError> {
    let signals = Signals::receive()?;
    let broker = Broker::start(config, accepts_loss).await?;
    broker.run(signals, &again).await
}

impl Broker {
    /// Runs until one of `signals` says that it should drain. SIGHUP reads the configuration again.
    ///
    /// # Errors
    /// [`BrokerError::Died`], at once: whatever waits for that part would wait for ever. [`BrokerError::Checkpoint`].
    pub async fn run(self, signals: Signals, again: &Again) -> Result<(), BrokerError> {
        let vitals = self.system.vitals();
        tokio::select! {
            part = vitals.death() => Err(BrokerError::Died(part)),
            ended = self.obey(signals, again) => ended,
        }
    }

    async fn obey(mut self, mut signals: Signals, again: &Again) -> Result<(), BrokerError> {
        let signal = loop {
            tokio::select! {
                _ = signals.terminate.recv() => break "SIGTERM",
                _ = signals.interrupt.recv() => break "SIGINT",
                _ = signals.hang_up.recv() => reload(&mut self, again).await,
            }
        };
        tracing::info!(signal, "draining");
        self.stop().await
    }
}

async fn reload(broker: &mut Broker, again: &Again) {
    let new = match (again.load)() {
        Ok(new) => new,
        Err(error) => {
            return tracing::error!(%error, "configuration not reloaded, the one before stays in force");
        }
    };
    let reloaded = broker.reload(&new).await;
    if let Err(error) = again.level.set(&reloaded.config.telemetry.level) {
        tracing::error!(%error, "level of log lines not changed");
    }
    for key in &reloaded.needs_start {
        tracing::warn!(
            key,
            "key cannot change while the broker runs: it waits for the next start"
        );
    }
    tracing::info!(changed = ?reloaded.changed, "configuration reloaded");
}
