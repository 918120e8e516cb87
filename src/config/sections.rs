//! The sections other than `mqtt`, each with its defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What one session may hold, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionConfig {
    /// The longest time a session outlives its connection; what 3.x clients with clean session 0 get.
    pub expiry_seconds_max: u32,
    /// Unacknowledged QoS 1 and 2 deliveries to one client.
    pub inflight_max: u16,
    /// Those of them that are QoS 2, to one 3.x client.
    pub inflight_qos2_v3_max: u16,
    /// Subscriptions of one session; 0 = none.
    pub subscriptions_max: u32,
    /// Bytes of the filters of one session.
    pub subscriptions_bytes_max: u32,
    /// Messages that may wait for one session; 0 = none.
    pub queue_messages_max: u32,
    /// Bytes that may wait in memory for one transient session.
    pub queue_bytes_max: u64,
    /// What happens to a session whose queue is full.
    pub overflow: Overflow,
    /// How long a takeover waits when there were too many in a row; 0 = never.
    pub takeover_pause_millis: u32,
    /// How long a detached session stays in memory.
    pub passivate_after_seconds: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            expiry_seconds_max: 259_200,
            inflight_max: 512,
            inflight_qos2_v3_max: 20,
            subscriptions_max: 0,
            subscriptions_bytes_max: 4_194_304,
            queue_messages_max: 0,
            queue_bytes_max: 16_777_216,
            overflow: Overflow::DropOldest,
            takeover_pause_millis: 1000,
            passivate_after_seconds: 60,
        }
    }
}

/// What happens to a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The message that has waited longest goes.
    DropOldest,
    /// The message that comes is not taken in.
    DropNew,
    /// The session ends.
    ExpireSession,
}

/// Retained messages of all topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetainedConfig {
    /// Topics with a retained message; 0 = none.
    pub messages_max: u64,
    /// Bytes of topics, properties and payloads; 0 = none.
    pub bytes_max: u64,
}

impl Default for RetainedConfig {
    fn default() -> Self {
        Self {
            messages_max: 10_000_000,
            bytes_max: 17_179_869_184,
        }
    }
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Time between two syncs with [`Durability::Interval`].
    pub interval_millis: u32,
    /// Size of one segment file.
    pub segment_bytes: u64,
    /// Size of the whole journal; 0 = none.
    pub bytes_max: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            interval_millis: 1000,
            segment_bytes: 67_108_864,
            bytes_max: 0,
        }
    }
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// It is on the disk: a power cut loses nothing that was acknowledged.
    Always,
    /// It is with the operating system and synced at intervals: a power cut may lose the last interval.
    Interval,
    /// It is with the operating system: a power cut may lose whatever was not written back.
    Never,
}

/// Where state lives, and the checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Directory of journal and checkpoints; created if missing.
    pub data_dir: PathBuf,
    /// Memory for pages of the checkpoint store.
    pub cache_bytes: u64,
    /// Time between two checkpoints.
    pub checkpoint_interval_millis: u32,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            cache_bytes: 33_554_432,
            checkpoint_interval_millis: 5000,
        }
    }
}

/// Threads and shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Shards, one thread each; 0 = one per core.
    pub shards: u16,
    /// How long a shutdown waits for connections and state before it gives up waiting.
    pub drain_timeout_millis: u32,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            shards: 0,
            drain_timeout_millis: 10_000,
        }
    }
}

/// Who may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether clients without credentials may connect from other machines.
    pub allow_anonymous: bool,
    /// Users of SCRAM-SHA-256; `""` = none.
    pub scram_file: PathBuf,
}

/// Metrics, health and the API over HTTP.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port; `""` = off.
    #[serde(with = "maybe_address")]
    pub listen: Option<SocketAddr>,
    /// Whether the address may be reachable from other machines.
    pub allow_remote: bool,
    /// What whoever uses the API must show; empty: nothing.
    pub token: String,
}

impl std::fmt::Debug for AdminConfig {
    /// Never prints the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminConfig")
            .field("listen", &self.listen)
            .field("allow_remote", &self.allow_remote)
            .finish_non_exhaustive()
    }
}

/// The broker's own log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Least level that is written, or filter directives such as `info,outlive=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// An address and port, or an empty string for none: TOML has no null.
mod maybe_address {
    use std::net::SocketAddr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(D::Error::custom)
    }
}
