//! Section `quota`: how many sessions there may be, in all and of whom.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What all sessions together may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    /// Sessions, online and offline together; 0 = none.
    pub sessions_max: u32,
    /// What happens when no unit is left.
    pub policy: QuotaPolicyKey,
    /// Units that only some sessions may use.
    pub reserved: Vec<ReservedConfig>,
    /// Sessions of each principal that has no limit of its own; 0 = none.
    pub principal_sessions_max: u32,
    /// Limits of single principals.
    pub principals: Vec<PrincipalQuotaConfig>,
    /// Limits of single listeners.
    pub listeners: Vec<ListenerQuotaConfig>,
    /// One line of usage is recorded for each interval.
    pub usage_interval_seconds: u32,
    /// What the files of usage may take.
    pub usage_bytes_max: u64,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self {
            sessions_max: 100_000,
            policy: QuotaPolicyKey::Reject,
            reserved: Vec::new(),
            principal_sessions_max: 0,
            principals: Vec::new(),
            listeners: Vec::new(),
            usage_interval_seconds: 300,
            usage_bytes_max: 67_108_864,
        }
    }
}

/// What happens when no unit is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaPolicyKey {
    /// The newcomer is refused.
    Reject,
    /// The session that has been offline longest ends.
    EvictLongestOffline,
}

/// Units of `sessions_max` for those who fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservedConfig {
    /// What it is called.
    pub name: String,
    /// Which client ids fit, `*` stands for any text; all if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id_pattern: Option<String>,
    /// Whose sessions fit; everybody's if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Units.
    pub sessions: u32,
}

/// The limit of one principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalQuotaConfig {
    /// Its name; empty for clients without one.
    pub name: String,
    /// Sessions; 0 = none.
    pub sessions_max: u32,
}

/// The limit of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerQuotaConfig {
    /// The address, as in `mqtt.listen`.
    pub listen: SocketAddr,
    /// Sessions; 0 = none.
    pub sessions_max: u32,
}
