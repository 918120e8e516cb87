//! The broker's configuration: plain values, their limits, and the layers they come from.
//!
//! Owns what a value may be and what it is when nobody sets it. Does not know what the values do.
//!
//! - Every key has its unit in its name and one default; `config/outlive.toml` shows each of them.
//! - An unknown key or an impossible value is an error, wherever it was given.
//! - [`load`] reports every problem at once, with the key and where its value came from.

mod error;
mod layers;
mod limits;
mod mqtt;
mod quota;
mod reload;
mod rules;
mod sections;
mod shared;
mod tenancy;

use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Problem};
pub use layers::{Effective, Origin, Sources, load};
pub use limits::{LIMITS, Limit};
pub use mqtt::MqttConfig;
pub use quota::{
    ListenerQuotaConfig, PrincipalQuotaConfig, QuotaConfig, QuotaPolicyKey, ReservedConfig,
};
pub use reload::{RELOADABLE, Reloaded};
pub use sections::{
    AdminConfig, AuthConfig, Durability, LogConfig, LogFormat, Overflow, RetainedConfig,
    RuntimeConfig, SessionConfig, StorageConfig, TelemetryConfig,
};
pub(crate) use shared::declared;
pub use shared::{SharedConfig, Strategy};
pub use tenancy::{TenancyConfig, TenancyKey, TenantConfig};

/// Everything that an operator can set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Listeners and what a connection may do.
    pub mqtt: MqttConfig,
    /// What one session may hold, and for how long.
    pub session: SessionConfig,
    /// Shared subscriptions.
    pub shared: SharedConfig,
    /// Whose clients are whose.
    pub tenancy: TenancyConfig,
    /// What all sessions together may hold.
    pub quota: QuotaConfig,
    /// Retained messages of all topics.
    pub retained: RetainedConfig,
    /// The journal.
    pub log: LogConfig,
    /// Where state lives, and the checkpoints.
    pub storage: StorageConfig,
    /// Threads and shutdown.
    pub runtime: RuntimeConfig,
    /// Who may connect.
    pub auth: AuthConfig,
    /// Metrics and health over HTTP.
    pub admin: AdminConfig,
    /// The broker's own log lines.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Every value that is out of its limits or does not go with another; empty if the broker can start with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let table = layers::table_of(self);
        let mut problems: Vec<Problem> = layers::leaves(&table)
            .filter_map(|(key, value)| limits::check(&key, value).map(|why| Problem::new(key, why)))
            .collect();
        problems.extend(rules::check(self));
        problems
    }
}
