//! The range of every number. One table, so that code, documentation and tests cannot disagree.

use toml::Value;

/// The values that one integer key may have, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `section.key`.
    pub key: &'static str,
    /// The smallest value.
    pub min: u64,
    /// The largest value.
    pub max: u64,
}

const fn limit(key: &'static str, min: u64, max: u64) -> Limit {
    Limit { key, min, max }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;

/// Every integer key.
pub const LIMITS: &[Limit] = &[
    // The remaining length of an MQTT packet has 28 bits.
    limit("mqtt.packet_bytes_max", KIB, 268_435_455),
    limit("mqtt.connect_bytes_max", KIB, 268_435_455),
    limit("mqtt.connect_timeout_millis", 100, 600_000),
    limit("mqtt.keep_alive_seconds_max", 0, 65_535),
    limit("mqtt.topic_alias_max", 0, 65_535),
    limit("mqtt.qos_max", 0, 2),
    limit("mqtt.topic_levels_max", 1, 1024),
    limit("mqtt.topic_bytes_max", 64, 65_535),
    // [MQTT-3.1.3-5]: ids of 23 bytes must be allowed.
    limit("mqtt.client_id_bytes_max", 23, 65_535),
    limit("mqtt.receive_max", 1, 65_535),
    limit("mqtt.inbound_bytes_max", MIB, TIB),
    limit("mqtt.write_buffer_high_bytes", 4 * KIB, GIB),
    limit("mqtt.write_buffer_max_bytes", 64 * KIB, GIB),
    limit("mqtt.write_timeout_millis", 100, 600_000),
    limit("mqtt.unauthenticated_max", 1, 1_000_000),
    limit("mqtt.connections_max", 0, 100_000_000),
    limit("mqtt.connects_per_second_max", 0, 1_000_000),
    limit("session.expiry_seconds_max", 0, 4_294_967_295),
    limit("session.inflight_max", 1, 65_535),
    limit("session.inflight_qos2_v3_max", 1, 65_535),
    limit("session.subscriptions_max", 0, 1_000_000),
    limit("session.subscriptions_bytes_max", KIB, GIB),
    limit("session.queue_messages_max", 0, 4_294_967_295),
    limit("session.queue_bytes_max", KIB, TIB),
    limit("session.takeover_pause_millis", 0, 60_000),
    limit("session.passivate_after_seconds", 0, 604_800),
    limit("shared.groups_max", 0, 1_000_000),
    limit("shared.filters_per_group_max", 0, 1_000_000),
    limit("shared.members_per_group_max", 0, 1_000_000),
    limit("shared.changes_per_second_max", 0, 1_000_000),
    limit("tenancy.groups_max", 0, 1_000_000),
    limit("tenancy.retained_messages_max", 0, 1_000_000_000),
    limit("tenancy.retained_bytes_max", 0, 1024 * TIB),
    limit("tenancy.connects_per_second_max", 0, 1_000_000),
    limit("quota.sessions_max", 0, 1_000_000_000),
    limit("quota.principal_sessions_max", 0, 1_000_000_000),
    limit("quota.usage_interval_seconds", 1, 86_400),
    limit("quota.usage_bytes_max", 64 * KIB, TIB),
    limit("retained.messages_max", 0, 1_000_000_000),
    limit("retained.bytes_max", 0, 1024 * TIB),
    limit("log.interval_millis", 1, 60_000),
    limit("log.segment_bytes", MIB, GIB),
    limit("log.bytes_max", 0, 1024 * TIB),
    limit("storage.cache_bytes", MIB, TIB),
    limit("storage.checkpoint_interval_millis", 100, 600_000),
    limit("runtime.shards", 0, 64),
    limit("runtime.drain_timeout_millis", 0, 600_000),
];

/// What is wrong with the value of `key`, if it is a number out of its range.
pub(super) fn check(key: &str, value: &Value) -> Option<String> {
    let value = value.as_integer()?;
    let limit = LIMITS.iter().find(|limit| limit.key == key)?;
    let inside = u64::try_from(value).is_ok_and(|value| (limit.min..=limit.max).contains(&value));
    (!inside).then(|| format!("{value} is not from {} to {}", limit.min, limit.max))
}
