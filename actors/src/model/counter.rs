//! What the model counts: a closed list, so that every drop and refusal has a number an operator sees.

/// One counted event. Its number is its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Counter {
    /// A session began.
    SessionCreated,
    /// A connection attached to existing state.
    SessionResumed,
    /// An attach displaced a live connection.
    SessionTakenOver,
    /// A session ended because its deadline passed.
    SessionExpired,
    /// A session ended otherwise: clean start, expiry 0 at disconnect, operator.
    SessionDiscarded,
    /// A session ended to make room for a newcomer; it counts as discarded, too.
    SessionEvicted,
    /// A takeover had to wait because there were too many of that session in a row.
    TakeoverDelayed,
    /// A session actor was built from its snapshot.
    SessionRehydrated,
    /// A session actor was stopped while its session lives on.
    SessionPassivated,
    /// A session's expiry was cut to `session.expiry_seconds_max`.
    ExpiryClamped,
    /// A CONNECT was refused because the session belongs to another principal.
    OwnerRefused,
    /// Something came from a connection that no longer holds the fence.
    StaleFence,
    /// PUBLISH with QoS 0 received.
    ReceivedQos0,
    /// PUBLISH with QoS 1 received.
    ReceivedQos1,
    /// PUBLISH with QoS 2 received, duplicates not counted.
    ReceivedQos2,
    /// PUBLISH with QoS 2 received again before its PUBREL.
    ReceivedDuplicate,
    /// PUBLISH with QoS 1 refused because a QoS 2 publication holds its packet identifier.
    ReceivedMisnumbered,
    /// PUBLISH with QoS 0 handed to a connection.
    DeliveredQos0,
    /// PUBLISH with QoS 1 handed to a connection, redeliveries included.
    DeliveredQos1,
    /// PUBLISH with QoS 2 handed to a connection, redeliveries included.
    DeliveredQos2,
    /// A PUBLISH was sent again with DUP.
    Redelivered,
    /// A QoS 1 or 2 delivery was settled by the client.
    Acked,
    /// A client refused a delivery with a reason code of 0x80 or above.
    AckFailed,
    /// A message's expiry interval passed while it waited.
    DroppedExpired,
    /// A transient session's queue was full.
    DroppedQueueFull,
    /// A QoS 0 message for a session without connection.
    DroppedOffline,
    /// A record that a session had not consumed is no longer in the journal.
    DroppedRetention,
    /// A session or a group read on behind a hole in the journal: what matched there is lost, and nobody can say how much.
    HolePassed,
    /// A delivery begun or queued in memory was abandoned because its session ended.
    DroppedSessionEnded,
    /// A message waited for a subscription that was dropped.
    DroppedUnsubscribed,
    /// A subscription was refused because of `session.subscriptions_max`.
    SubscriptionRefused,
    /// A message was delivered and not retained because of `retained.messages_max` or `retained.bytes_max`.
    RetainRefused,
    /// A will was published.
    WillPublished,
    /// A publication was refused because the journal could not take it.
    JournalRefused,
    /// A session fell out of the live end of the journal and went back to catch-up.
    InboxOverflowed,
    /// A group leased a record to a member.
    GroupLeased,
    /// A lease was settled, or taken by a member for good.
    GroupSettled,
    /// A lease came back to its group, which leases it again.
    GroupReturned,
    /// A message that waited in a group was abandoned because its last member was gone.
    DroppedGroupEnded,
    /// A shared subscription was refused because of a limit of `[shared]`.
    GroupRefused,
    /// A shared subscription was refused because of the tenant's limit on groups.
    TenantGroupRefused,
    /// A message was delivered and not retained because of the tenant's limits.
    TenantRetainRefused,
    /// A CONNECT that waited for a session to come back, or would have, was refused: too many did.
    ResumeRefused,
    /// Publications waited until readers of their shard had taken what was put before them.
    FanOutPaused,
}

impl Counter {
    /// Every counter, in the order of declaration.
    pub const ALL: [Self; Self::COUNT] = [
        Self::SessionCreated,
        Self::SessionResumed,
        Self::SessionTakenOver,
        Self::SessionExpired,
        Self::SessionDiscarded,
        Self::SessionEvicted,
        Self::TakeoverDelayed,
        Self::SessionRehydrated,
        Self::SessionPassivated,
        Self::ExpiryClamped,
        Self::OwnerRefused,
        Self::StaleFence,
        Self::ReceivedQos0,
        Self::ReceivedQos1,
        Self::ReceivedQos2,
        Self::ReceivedDuplicate,
        Self::ReceivedMisnumbered,
        Self::DeliveredQos0,
        Self::DeliveredQos1,
        Self::DeliveredQos2,
        Self::Redelivered,
        Self::Acked,
        Self::AckFailed,
        Self::DroppedExpired,
        Self::DroppedQueueFull,
        Self::DroppedOffline,
        Self::DroppedRetention,
        Self::HolePassed,
        Self::DroppedSessionEnded,
        Self::DroppedUnsubscribed,
        Self::SubscriptionRefused,
        Self::RetainRefused,
        Self::WillPublished,
        Self::JournalRefused,
        Self::InboxOverflowed,
        Self::GroupLeased,
        Self::GroupSettled,
        Self::GroupReturned,
        Self::DroppedGroupEnded,
        Self::GroupRefused,
        Self::TenantGroupRefused,
        Self::TenantRetainRefused,
        Self::ResumeRefused,
        Self::FanOutPaused,
    ];

    /// How many counters there are.
    pub const COUNT: usize = Self::FanOutPaused as usize + 1;
}
