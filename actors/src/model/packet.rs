//! What a connection tells its session and what a session tells its connection, free of protocol versions.
//!
//! Owns: the vocabulary between wire and model. Does not know: bytes, protocol versions, topic aliases (they end in the
//! connection), keep-alive (the connection's own).

use std::sync::Arc;

use smallvec::SmallVec;

use super::ids::{ClientId, Listener, PacketId, Principal};
use super::message::{Message, QoS, Will};
use super::refusal::Refusal;
use super::topic::Filter;

/// The protocol version of a connection. Ordered by age.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum ProtocolVersion {
    /// MQTT 3.1, protocol level 3.
    V31,
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

/// An authenticated CONNECT, as far as the session is concerned.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The client id, assigned by the broker if the client sent none.
    pub client_id: ClientId,
    /// Whom the authenticator vouched for.
    pub principal: Principal,
    /// Where it came in.
    pub listener: Listener,
    /// The protocol version.
    pub version: ProtocolVersion,
    /// Clean start (3.x: clean session).
    pub clean_start: bool,
    /// Session expiry interval in seconds as asked for: 5.0 as sent (absent = 0); 3.x clean session = 0, else
    /// `u32::MAX`. The session caps it.
    pub expiry_seconds: u32,
    /// The client's receive maximum, 1 to 65,535 (3.x: 65,535). The session caps it by `session.inflight_max`.
    pub receive_max: u16,
    /// The will.
    pub will: Option<Box<Will>>,
}

/// A packet from the client that concerns the session. CONNECT, PINGREQ and AUTH end in the connection.
#[derive(Clone, Debug)]
pub enum Inbound {
    /// PUBLISH; `packet_id` is there exactly for QoS 1 and 2.
    Publish {
        /// The message, its topic resolved from an alias if need be.
        message: Arc<Message>,
        /// The packet identifier.
        packet_id: Option<PacketId>,
        /// The DUP flag.
        dup: bool,
    },
    /// PUBACK; `failed` if the reason code is 0x80 or above.
    PubAck {
        /// The packet identifier.
        packet_id: PacketId,
        /// The client refused the message.
        failed: bool,
    },
    /// PUBREC; `failed` if the reason code is 0x80 or above.
    PubRec {
        /// The packet identifier.
        packet_id: PacketId,
        /// The client refused the message.
        failed: bool,
    },
    /// PUBREL.
    PubRel {
        /// The packet identifier.
        packet_id: PacketId,
    },
    /// PUBCOMP.
    PubComp {
        /// The packet identifier.
        packet_id: PacketId,
    },
    /// SUBSCRIBE with at least one filter.
    Subscribe {
        /// The packet identifier.
        packet_id: PacketId,
        /// Filters and their options in order; a filter that the door refused carries the refusal.
        filters: Vec<(Filter, SubscriptionOptions, Option<Refusal>)>,
    },
    /// The connection's answer to [`Outbound::AwaitRoom`].
    Room,
    /// UNSUBSCRIBE with at least one filter.
    Unsubscribe {
        /// The packet identifier.
        packet_id: PacketId,
        /// The filters in order.
        filters: Vec<Filter>,
    },
    /// DISCONNECT: the will is dropped unless `with_will`; the connection closes behind it.
    Disconnect {
        /// Reason code 0x04: publish the will all the same.
        with_will: bool,
        /// 5.0: a new session expiry interval in seconds.
        expiry_seconds: Option<u32>,
    },
}

impl Inbound {
    /// The memory that it takes until its session has dealt with it, in bytes, about.
    pub fn held_bytes(&self) -> usize {
        let own = size_of::<Self>();
        match self {
            Self::Publish { message, .. } => own + message.held_bytes(),
            Self::Subscribe { filters, .. } => {
                let asked = size_of::<(Filter, SubscriptionOptions, Option<Refusal>)>();
                let filters = filters
                    .iter()
                    .map(|(filter, ..)| filter.held_bytes() + asked);
                own + filters.sum::<usize>()
            }
            Self::Unsubscribe { filters, .. } => {
                let filters = filters
                    .iter()
                    .map(|filter| filter.held_bytes() + size_of::<Filter>());
                own + filters.sum::<usize>()
            }
            Self::PubAck { .. }
            | Self::PubRec { .. }
            | Self::PubRel { .. }
            | Self::PubComp { .. }
            | Self::Room
            | Self::Disconnect { .. } => own,
        }
    }

    /// The message of a PUBLISH.
    pub fn publication(&self) -> Option<&Arc<Message>> {
        match self {
            Self::Publish { message, .. } => Some(message),
            Self::PubAck { .. }
            | Self::PubRec { .. }
            | Self::PubRel { .. }
            | Self::PubComp { .. }
            | Self::Subscribe { .. }
            | Self::Room
            | Self::Unsubscribe { .. }
            | Self::Disconnect { .. } => None,
        }
    }
}

/// Subscription options (MQTT 5.0 section 3.8.3.1); 3.x clients send the QoS alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubscriptionOptions {
    /// The maximum QoS asked for, and granted.
    pub qos: QoS,
    /// Do not send back what this client published.
    pub no_local: bool,
    /// Keep the RETAIN flag as published.
    pub retain_as_published: bool,
    /// When retained messages are sent at subscribe.
    pub retain_handling: RetainHandling,
    /// Subscription identifier, 1 to 268,435,455.
    pub id: Option<u32>,
}

impl SubscriptionOptions {
    /// What a 3.x client means by a QoS.
    pub fn of_qos(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::AtSubscribe,
            id: None,
        }
    }

    /// What a 3.x bridge means by a QoS: it is not sent what it brought, and passes on whether a message was retained. Who
    /// shares a filter cannot say what it does not want (5.0 section 3.8.3.1).
    pub fn of_bridge(qos: QoS, filter: &Filter) -> Self {
        Self {
            no_local: !filter.is_shared(),
            retain_as_published: true,
            ..Self::of_qos(qos)
        }
    }
}

/// Retain handling (MQTT 5.0 section 3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RetainHandling {
    /// 0: send retained messages at every subscribe.
    AtSubscribe,
    /// 1: only if the subscription did not exist.
    IfNew,
    /// 2: never.
    Never,
}

/// The subscription identifiers of one delivery; almost always none or one.
pub type SubscriptionIds = SmallVec<[u32; 1]>;

/// One PUBLISH towards a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// Its packet identifier, exactly for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The DUP flag.
    pub dup: bool,
    /// The RETAIN flag of this delivery.
    pub retain: bool,
    /// Identifiers of all matching subscriptions.
    pub subscription_ids: SubscriptionIds,
    /// It is sent no faster than there is room ([`Outbound::AwaitRoom`]), so it is never dropped for want of it.
    pub paced: bool,
}

/// A packet from the session to its connection, in the order in which it must reach the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// CONNACK with success.
    ConnAck {
        /// State was resumed.
        session_present: bool,
        /// The expiry in force in seconds, to echo where it differs from what was asked.
        expiry_seconds: u32,
    },
    /// PUBLISH.
    Publish(Delivery),
    /// PUBACK: success, no matching subscribers (0x10), or a refusal.
    PubAck {
        /// The packet identifier.
        packet_id: PacketId,
        /// What became of the publication.
        result: Result<Routed, Refusal>,
    },
    /// PUBREC.
    PubRec {
        /// The packet identifier.
        packet_id: PacketId,
        /// What became of the publication.
        result: Result<Routed, Refusal>,
    },
    /// PUBREL; `known` is false for a packet identifier that is not in use (5.0: 0x92).
    PubRel {
        /// The packet identifier.
        packet_id: PacketId,
        /// The packet identifier is in use.
        known: bool,
    },
    /// PUBCOMP; `known` as in PUBREL.
    PubComp {
        /// The packet identifier.
        packet_id: PacketId,
        /// The packet identifier is in use.
        known: bool,
    },
    /// SUBACK, one result per filter in order.
    SubAck {
        /// The packet identifier.
        packet_id: PacketId,
        /// The granted QoS or why not.
        results: Vec<Result<QoS, Refusal>>,
    },
    /// UNSUBACK; per filter whether it existed (5.0: 0x00 or 0x11).
    UnsubAck {
        /// The packet identifier.
        packet_id: PacketId,
        /// Whether the subscription existed.
        existed: Vec<bool>,
    },
    /// No packet: the connection answers with [`Inbound::Room`] as soon as its write buffer has room for more behind what
    /// was sent before.
    AwaitRoom,
    /// The session ends this connection: 5.0 clients get DISCONNECT (before CONNACK: a CONNACK with the code), then
    /// the connection closes.
    Close(Refusal),
}

/// What became of a publication that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// At least one subscription matched.
    Matched,
    /// None did (5.0: reason code 0x10).
    NoSubscribers,
    /// Whoever subscribes gets it, but for this reason it is not retained (5.0: success, with the reason in words).
    NotRetained(Refusal),
}
