//! Every answer "no" that a peer can get. `src/mqtt/reason.rs` alone turns one into a reason code.

use thiserror::Error;

/// Why a connection, a subscription or a publication is refused, or a connection ended by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
pub enum Refusal {
    /// Bytes that are no MQTT packet.
    #[error("malformed packet")]
    Malformed,
    /// A packet that the protocol does not allow here.
    #[error("protocol error")]
    Protocol,
    /// A protocol name or level that is not 3.1, 3.1.1 or 5.0.
    #[error("unsupported protocol version")]
    Version,
    /// A client id that is empty where it may not be, too long or not allowed.
    #[error("client identifier not valid")]
    ClientId,
    /// User name or password is wrong.
    #[error("bad user name or password")]
    Credentials,
    /// The principal may not do this, or the session belongs to another principal.
    #[error("not authorized")]
    NotAuthorized,
    /// A client of no tenant, where `tenancy.by` wants one.
    #[error("client of no tenant")]
    NoTenant,
    /// An authentication method that the broker does not offer.
    #[error("bad authentication method")]
    AuthMethod,
    /// `quota.sessions_max` is reached.
    #[error("session quota reached")]
    SessionQuota,
    /// The principal's sessions reached their limit.
    #[error("session quota of the principal reached")]
    PrincipalQuota,
    /// The listener's sessions reached their limit.
    #[error("session quota of the listener reached")]
    ListenerQuota,
    /// `mqtt.connects_per_second_max` is reached.
    #[error("too many connects per second")]
    ConnectRate,
    /// The tenant's connects per second reached their limit.
    #[error("too many connects per second of the tenant")]
    TenantConnectRate,
    /// Two clients fight over this client id.
    #[error("too many takeovers of this session")]
    TakeoverRate,
    /// `session.subscriptions_max` or `session.subscriptions_bytes_max` is reached.
    #[error("subscriptions of the session reached their limit")]
    SubscriptionQuota,
    /// `retained.messages_max` or `retained.bytes_max` is reached; the message is delivered and not retained.
    #[error("not retained: retained messages reached their limit")]
    RetainedQuota,
    /// The tenant's retained messages reached their limit; the message is delivered and not retained.
    #[error("not retained: retained messages of the tenant reached their limit")]
    TenantRetainedQuota,
    /// The journal cannot take the message: disk full or failing.
    #[error("the journal cannot take the message")]
    JournalUnavailable,
    /// A payload that is not the UTF-8 that its format indicator says it is.
    #[error("payload is not UTF-8")]
    PayloadFormat,
    /// A QoS above `mqtt.qos_max`.
    #[error("quality of service not supported")]
    QoS,
    /// A QoS 1 publication under an identifier that a QoS 2 publication holds.
    #[error("packet identifier in use")]
    PacketIdInUse,
    /// A delivery acknowledged with a packet that is not for its QoS, or not its turn.
    #[error("acknowledgement of the wrong kind for this packet identifier")]
    WrongAck,
    /// More unacknowledged QoS 1 and 2 publications than the receive maximum allows.
    #[error("receive maximum exceeded")]
    ReceiveMax,
    /// A packet above `mqtt.packet_bytes_max`.
    #[error("packet too large")]
    PacketTooLarge,
    /// A topic alias of 0 or above the maximum.
    #[error("topic alias not valid")]
    TopicAlias,
    /// A topic name that is not valid, or that of a topic that belongs to the broker.
    #[error("topic name not valid")]
    TopicName,
    /// A topic name beyond `mqtt.topic_levels_max` or `mqtt.topic_bytes_max`.
    #[error("topic has too many levels or bytes")]
    TopicLevels,
    /// A topic filter that is not valid or beyond `mqtt.topic_levels_max` or `mqtt.topic_bytes_max`.
    #[error("topic filter not valid")]
    TopicFilter,
    /// A limit of `[shared]` is reached.
    #[error("limit of shared subscriptions reached")]
    SharedQuota,
    /// The groups of the tenant reached their limit.
    #[error("shared subscription groups of the tenant reached their limit")]
    TenantGroupQuota,
    /// A group that is not declared, where `shared.require_declared_groups` is set.
    #[error("group of the shared subscription not declared")]
    GroupNotDeclared,
    /// Another connection took the session over.
    #[error("session taken over")]
    TakenOver,
    /// Nothing arrived for 1.5 times the keep-alive.
    #[error("keep-alive timeout")]
    KeepAlive,
    /// The client does not read: its write buffer passed `mqtt.write_buffer_bytes_max`.
    #[error("client does not read")]
    NotReading,
    /// The broker shuts down.
    #[error("server shutting down")]
    ShuttingDown,
    /// Too many connections, or a limit on unauthenticated ones.
    #[error("server busy")]
    Busy,
    /// An operator ended the connection.
    #[error("administrative action")]
    Administrative,
    /// A fault of the broker's own.
    #[error("internal error")]
    Internal,
}
