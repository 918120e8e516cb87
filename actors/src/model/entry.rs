//! What the journal records: publications and every state change that must not be lost.
//!
//! The one commit point of the broker: a session's durable state is the fold of its changes
//! ([`super::snapshot::SessionSnapshot::apply`]), and nothing else is ever written about it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{
    BootTime, ClientId, Fence, GroupNumber, Listener, Offset, PacketId, Principal, SessionNumber,
    Timestamp,
};
use super::message::{Message, QoS, Will};
use super::packet::{ProtocolVersion, SubscriptionOptions};
use super::quota::HighWater;
use super::topic::Filter;

/// One record of the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A publication that a durable reader or the retained table needs. A retained message with an empty payload
    /// clears its topic.
    Message {
        /// The publication.
        message: Arc<Message>,
        /// Its packet identifier, if it is QoS 2 from a kept session (`message.publisher`): the message and the
        /// identifier that keeps it from being published twice are one record.
        received: Option<PacketId>,
    },
    /// A change of one kept session.
    Session {
        /// The session.
        session: SessionNumber,
        /// What changed.
        change: Box<Change>,
    },
    /// A change of one durable group.
    Group {
        /// The group.
        group: GroupNumber,
        /// What changed.
        change: Box<GroupChange>,
    },
    /// The broker was alive: what was attached counts as detached here if no later stamp follows (at most 60 s old).
    Liveness {
        /// The moment of the stamp.
        at: Timestamp,
        /// The same moment by the machine's boot. `None` in stamps of builds that did not note it.
        boot: Option<BootTime>,
    },
    /// More sessions than ever before were there at once.
    HighWater(HighWater),
}

/// A change of one kept session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The session began, attached.
    Created(Box<Created>),
    /// A connection attached to the existing session.
    Attached(Attach),
    /// The connection ended.
    Detached {
        /// When.
        at: Timestamp,
        /// The expiry from now on in seconds (5.0 DISCONNECT may change it).
        expiry_seconds: u32,
        /// Whether the will stays due (after its delay); dropped otherwise.
        will_due: bool,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// The filter.
        filter: Filter,
        /// The options granted.
        options: SubscriptionOptions,
        /// The position from which it counts with these options; what lies before is owed by those before.
        from: Offset,
        /// The retained messages are sent, those that are replaced from here on only by what replaced them; `None`
        /// leaves a replay that is under way as it is.
        replay: Option<Offset>,
    },
    /// A subscription was dropped, as builds wrote it that kept nothing of it.
    Unsubscribed {
        /// The filter.
        filter: Filter,
    },
    /// An inbound QoS 2 publication that nobody durable reads was received: only its identifier is kept.
    Received {
        /// The packet identifier.
        packet_id: PacketId,
    },
    /// PUBREL came for an inbound QoS 2 publication.
    Released {
        /// The packet identifier.
        packet_id: PacketId,
    },
    /// A QoS 2 record is about to be sent. If a group leased it, it is the member's alone from here on: one record says so
    /// for both.
    Sent(Unsettled),
    /// The replay of a subscription's retained messages came this far.
    Replayed {
        /// The subscription.
        filter: Filter,
        /// The last topic dealt with; `None`: that was all.
        after: Option<Box<str>>,
        /// What of it is about to be sent with QoS 1 or 2: one record with `after`, so that a crash neither loses nor
        /// doubles any.
        sent: Vec<Unsettled>,
    },
    /// PUBREC came for an outbound QoS 2 record: from now on only PUBREL is sent for it.
    PubRec {
        /// The packet identifier.
        packet_id: PacketId,
    },
    /// No work remains for an outbound QoS 2 record.
    Settled {
        /// The packet identifier.
        packet_id: PacketId,
    },
    /// Lazy progress: the cursor and the unsettled QoS 1 records below it.
    Progress {
        /// The next offset to read.
        next: Offset,
        /// The packet identifier that the next record gets.
        next_packet_id: PacketId,
        /// The unsettled QoS 1 records below `next`.
        unsettled: Vec<Unsettled>,
    },
    /// The will was published or dropped while no connection was attached.
    WillSettled,
    /// The session is over: expired, discarded or replaced by a clean start.
    Ended,
    /// The broker was started again after it died while a connection was attached. Appended once per such session,
    /// before anything else is done with it, so that a second crash derives nothing anew.
    Recovered {
        /// When the connection counts as ended; the expiry and the delay of the will run from here.
        at: Timestamp,
        /// The end of the journal at that start: QoS 1 records from the cursor up to here may have been sent, so they
        /// are sent with DUP = 1.
        maybe_sent_below: Offset,
    },
    /// A subscription was dropped by UNSUBSCRIBE.
    Dropped {
        /// The filter.
        filter: Filter,
        /// It counts for records below this offset, of which those not sent are not owed any more.
        until: Offset,
    },
}

/// A change of one durable group. Who its members are follows from their sessions' subscriptions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupChange {
    /// The group became durable: a kept session joined it.
    Created {
        /// The shared subscription, as its members write it.
        filter: Filter,
        /// Where its cursor starts.
        next: Offset,
    },
    /// Lazy progress: the cursor, and what lies below it and is not settled.
    Progress {
        /// The next offset to read.
        next: Offset,
        /// Records below `next` that are leased or wait to be leased again.
        unsettled: Vec<Offset>,
    },
    /// A QoS 2 record is about to be sent to a member whose session ends with its connection: nobody else gets it.
    Taken {
        /// The record.
        offset: Offset,
    },
    /// The last member session is gone, and nobody declared the group.
    Ended,
}

/// A session's beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The client id.
    pub client_id: ClientId,
    /// Who owns it.
    pub owner: Principal,
    /// Whose quota its unit counts for.
    pub listener: Listener,
    /// The first attach.
    pub attach: Attach,
    /// Where its cursor starts.
    pub next: Offset,
}

/// An attach, as far as it must survive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// The fence that this attach raised.
    pub fence: Fence,
    /// The protocol version of the connection.
    pub version: ProtocolVersion,
    /// The session expiry in force in seconds, capped.
    pub expiry_seconds: u32,
    /// The will of this connection.
    pub will: Option<Box<Will>>,
    /// When.
    pub at: Timestamp,
}

/// A record sent to the client and not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Unsettled {
    /// The packet identifier under which it was sent.
    pub packet_id: PacketId,
    /// The record.
    pub offset: Offset,
    /// The QoS with which it was sent, 1 or 2.
    pub qos: QoS,
    /// The RETAIN flag with which it was sent.
    pub retain: bool,
    /// It was sent as a retained message at subscribe or leased by a group, not in the order of the log.
    pub replay: bool,
    /// The group that leased it.
    pub lease: Option<GroupNumber>,
    /// The identifier of the one subscription that it was sent by, if it was not in the order of the log: then its place in the
    /// journal does not tell. `None` in what builds wrote that did not note it.
    pub id: Option<u32>,
    /// How far its handshake came.
    pub step: Step,
}

impl Change {
    /// The deliveries that it puts into the window.
    pub fn sent(&self) -> &[Unsettled] {
        if let Self::Sent(sent) = self {
            std::slice::from_ref(sent)
        } else if let Self::Replayed { sent, .. }
        | Self::Progress {
            unsettled: sent, ..
        } = self
        {
            sent
        } else {
            &[]
        }
    }
}

/// How [`Unsettled`] is written.
#[derive(Serialize, Deserialize)]
struct Written {
    packet_id: PacketId,
    offset: Offset,
    qos: QoS,
    retain: bool,
    replay: bool,
    by: By,
    step: Step,
}

/// By what a record was sent. The first two are written as an optional group is, which is what version 1 had here.
#[derive(Serialize, Deserialize)]
enum By {
    Unnamed,
    Group(GroupNumber),
    Named(u32),
    GroupNamed(GroupNumber, u32),
}

impl From<Unsettled> for Written {
    fn from(sent: Unsettled) -> Self {
        Self {
            packet_id: sent.packet_id,
            offset: sent.offset,
            qos: sent.qos,
            retain: sent.retain,
            replay: sent.replay,
            by: match (sent.lease, sent.id) {
                (None, None) => By::Unnamed,
                (Some(group), None) => By::Group(group),
                (None, Some(id)) => By::Named(id),
                (Some(group), Some(id)) => By::GroupNamed(group, id),
            },
            step: sent.step,
        }
    }
}

impl From<Written> for Unsettled {
    fn from(written: Written) -> Self {
        let (lease, id) = match written.by {
            By::Unnamed => (None, None),
            By::Group(group) => (Some(group), None),
            By::Named(id) => (None, Some(id)),
            By::GroupNamed(group, id) => (Some(group), Some(id)),
        };
        Self {
            packet_id: written.packet_id,
            offset: written.offset,
            qos: written.qos,
            retain: written.retain,
            replay: written.replay,
            lease,
            id,
            step: written.step,
        }
    }
}

/// How far the handshake of an outbound record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// PUBLISH was (or is about to be) sent.
    Published,
    /// QoS 2: PUBREC came, PUBREL is due.
    Released,
    /// QoS 2: settled, but the durable cursor has not passed it; remembered so that a re-read skips it.
    Done,
}

impl Entry {
    /// A change of one session.
    pub fn change(session: SessionNumber, change: Change) -> Self {
        Self::Session {
            session,
            change: Box::new(change),
        }
    }

    /// A change of one group.
    pub fn group(group: GroupNumber, change: GroupChange) -> Self {
        Self::Group {
            group,
            change: Box::new(change),
        }
    }

    /// An inbound QoS 2 identifier without its message.
    pub fn received(session: SessionNumber, packet_id: PacketId) -> Self {
        Self::change(session, Change::Received { packet_id })
    }
}
