//! The configured limits that decisions depend on.

use std::collections::BTreeMap;

use super::group::Strategy;
use super::tally::Amount;

/// What happens when a transient session's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest message makes room.
    DropOldest,
    /// The new message is dropped.
    DropNew,
    /// The session ends.
    ExpireSession,
}

/// Limits per session; the configuration's section `session`.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// The longest session expiry in seconds; what asks for more gets this.
    pub expiry_seconds_max: u32,
    /// The most unsettled QoS 1 and 2 deliveries towards one client, 1 to 65,535.
    pub inflight_max: u16,
    /// Bytes of QoS 1 and 2 deliveries, and of retained ones, that are handed to a connection before it must say that it has
    /// room for more.
    pub send_ahead_bytes: u32,
    /// The most of these that are QoS 2, towards a 3.x client, which cannot state what it takes; 1 to 65,535.
    pub exactly_once_v3_max: u16,
    /// The most subscriptions; 0 = none.
    pub subscriptions_max: u32,
    /// The most bytes of filters, as [`Subscriptions::bytes`](super::subscriptions::Subscriptions::bytes) counts; 0 = none.
    pub subscriptions_bytes_max: u32,
    /// The most messages in a transient session's queue; 0 = none.
    pub queue_messages_max: u32,
    /// The most bytes in a transient session's queue; 0 = none.
    pub queue_bytes_max: u64,
    /// What happens at either.
    pub overflow: Overflow,
    /// The most records that wait in an attached kept session's inbox; above, it goes back to catch-up.
    pub inbox_records_max: u32,
    /// Progress is recorded after so many settled records, or [`Self::progress_millis`] after the first.
    pub progress_acks_max: u32,
    /// The longest time in milliseconds that settled records stay unrecorded.
    pub progress_millis: u64,
    /// How often in milliseconds an attached session without acknowledgements records how far the journal went past it.
    pub progress_idle_millis: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            expiry_seconds_max: 259_200,
            inflight_max: 512,
            send_ahead_bytes: 256 * 1024,
            exactly_once_v3_max: 20,
            subscriptions_max: 0,
            subscriptions_bytes_max: 0,
            queue_messages_max: 0,
            queue_bytes_max: 16 * 1024 * 1024,
            overflow: Overflow::DropOldest,
            inbox_records_max: 1024,
            progress_acks_max: 1000,
            progress_millis: 1000,
            progress_idle_millis: 600_000,
        }
    }
}

/// Limits of shared subscriptions; the configuration's section `shared`.
#[derive(Clone, Debug, Default)]
pub struct SharedLimits {
    /// The most groups, by name; 0 = none.
    pub groups_max: u32,
    /// The most filters of one group; 0 = none.
    pub filters_per_group_max: u32,
    /// The most member sessions of one group, over all its filters; 0 = none.
    pub members_per_group_max: u32,
    /// The most subscribes and unsubscribes of one group within a second; 0 = none.
    pub changes_per_second_max: u32,
    /// How groups choose a member, unless they are declared with a strategy of their own.
    pub strategy: Strategy,
    /// Groups that are declared from the start on: they keep their progress without members.
    pub declared: BTreeMap<Box<str>, Option<Strategy>>,
    /// No other groups are allowed.
    pub require_declared: bool,
}

/// What one tenant may have besides its sessions; 0 = no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// The most groups, by name, of those that [`SharedLimits::groups_max`] allows in all.
    pub groups_max: u32,
    /// The most retained messages and their bytes, of those that may be retained in all.
    pub retained: Amount,
}

/// Something for each tenant, of which some have another one than all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerTenant<T> {
    /// That of each tenant that is not named.
    pub each: T,
    /// That of single tenants, by name.
    pub named: BTreeMap<Box<str>, T>,
}

impl<T: Copy> PerTenant<T> {
    /// That of a tenant.
    pub fn of(&self, tenant: &str) -> T {
        self.named.get(tenant).copied().unwrap_or(self.each)
    }
}
