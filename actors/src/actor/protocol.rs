//! Every message between actors. Read this first.
//!
//! Rules: messages are batches, one per read, wake or target shard; wakes may be lost or merged without harm; whatever
//! comes from a connection carries its fence. Payloads travel as `Arc<Message>`, never copied.

use std::sync::Arc;

use actix::{Message as ActixMessage, Recipient};
use tokio::sync::oneshot;

pub use super::intake::{Credit, INBOUND_BYTES_MAX, INBOUND_PACKETS_MAX, Intake, Load};
use crate::journal::Record;
use crate::model::census::Census;
use crate::model::effect::WhichGroup;
use crate::model::entry::Entry;
use crate::model::group::Strategy;
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::group::talk::{FromMember, GroupRef, Leased, Place};
use crate::model::ids::{ClientId, Fence, GroupNumber, Offset, SessionNumber, ShardId, Timestamp};
use crate::model::message::Message;
use crate::model::packet::{Connect, Inbound, Outbound};
use crate::model::quota::{
    ChangeError, Permit, QuotaChange, QuotaLimits, ReservesDiffer, Shortage,
};
use crate::model::refusal::Refusal;
use crate::model::routes::Slot;
use crate::model::snapshot::SessionSnapshot;
use crate::model::topic::Filter;
use crate::observe::{GroupObservation, SessionObservation};
use crate::store::StoreError;
pub use crate::supervise::{GroupDied, SessionDied};

/// Connection -> home shard: an authenticated CONNECT. The answer is [`ToConnection`]: either `Attached` and then a
/// CONNACK among the packets, or `Packets([Close(refusal)])`.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "()")]
pub struct ConnectRequest {
    /// The CONNECT.
    pub connect: Connect,
    /// Where answers go.
    pub connection: Recipient<ToConnection>,
}

/// Shard or session -> connection.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "()")]
pub enum ToConnection {
    /// The session took the connection: from now on packets go to `session` under `fence`. Sent once, first.
    Attached {
        /// The fence of this attach.
        fence: Fence,
        /// The session's number: the publisher of what this connection publishes.
        number: SessionNumber,
        /// The session.
        session: SessionAddress,
    },
    /// Packets to write, in order, and credit given back.
    Packets {
        /// In order; behind a [`Outbound::Close`] the connection closes.
        packets: Vec<Outbound>,
        /// So many inbound packets were dealt with entirely: the connection stops reading while [`INBOUND_PACKETS_MAX`] of
        /// its packets, or [`INBOUND_BYTES_MAX`] bytes of them, are not, so that neither mailbox nor journal queue can grow.
        processed: Credit,
    },
}

/// Connection -> session.
#[derive(Debug)]
pub enum FromConnection {
    /// What one read brought, in order.
    Packets {
        /// The fence under which the connection attached.
        fence: Fence,
        /// The packets.
        packets: Vec<Inbound>,
        /// What they count for until they are dealt with.
        load: Load,
    },
    /// The network connection is gone, however it ended. Sent exactly once by every attached connection; after an
    /// [`Inbound::Disconnect`] it is the mere confirmation. The will is published unless a DISCONNECT dropped it.
    Closed {
        /// The fence under which the connection attached.
        fence: Fence,
    },
}

/// Session -> appender: entries to append in order.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The shard that submits.
    pub shard: ShardId,
    /// Its running number of the submission; answered in order by [`Committed`].
    pub ticket: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Appender -> shard: what became of its submissions, and the durable messages that its attached sessions may want.
#[derive(Clone, Debug, Default, ActixMessage)]
#[rtype(result = "()")]
pub struct Committed {
    /// Every submission of this shard up to and including this ticket is answered.
    pub ticket: u64,
    /// Tickets whose publications the journal refused: they are not in it and will not be. May lie above `ticket`:
    /// what cannot be refused, a session's state, waits for the disk to come back, in front of them.
    pub failed: Vec<u64>,
    /// Committed messages that this shard has durable online readers for, in offset order.
    pub records: Arc<[Record]>,
    /// The journal's committed end; every record below it that concerns this shard came in this message or before.
    pub end: Offset,
}

/// Shard -> shard: publications for the transient readers and QoS 0 readers of that shard. One without any tells the shard
/// to go on with what came before.
#[derive(Clone, Debug, Default, ActixMessage)]
#[rtype(result = "()")]
pub struct RouteBatch {
    /// In the order in which their sessions published them.
    pub messages: Vec<Arc<Message>>,
    /// What they add to the receiving shard's backlog until it has dealt with them.
    pub bytes: u64,
}

/// Shard -> shard: what groups and their members' sessions have for each other, from one turn.
#[derive(Clone, Debug, Default, ActixMessage)]
#[rtype(result = "()")]
pub struct GroupBatch {
    /// For groups that live on the receiving shard, in order.
    pub for_groups: Vec<ForGroup>,
    /// For sessions that live there, in order.
    pub for_members: Vec<ForMember>,
}

/// Something for a group.
#[derive(Clone, Debug)]
pub enum ForGroup {
    /// The directory says something new of it.
    Changed {
        /// The shared subscription.
        filter: Filter,
        /// Who waits until the group's routes say the same.
        asker: Option<Asker>,
    },
    /// A member's session said something.
    Said {
        /// To which group.
        to: WhichGroup,
        /// What, and who.
        from: FromMember,
    },
    /// A session's actor died: all groups hear of it.
    Lost(FromMember),
    /// A group becomes durable. The answer comes behind all that the shard routed before it heard of this.
    Mark(GroupRef),
    /// The answer.
    Marked(GroupNumber),
}

/// Who waits for a group's routes.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The session.
    pub member: SessionNumber,
    /// Where it is.
    pub place: Place,
    /// Its shard's running number of the question.
    pub question: u64,
}

/// Something for a member's session.
#[derive(Clone, Debug)]
pub struct ForMember {
    /// Its slot.
    pub slot: Slot,
    /// The session that must be in it.
    pub member: SessionNumber,
    /// What it gets.
    pub what: MemberNews,
}

/// What a member's session gets.
#[derive(Clone, Debug)]
pub enum MemberNews {
    /// A group has something for it.
    Leased(Leased),
    /// The group that it joined is routed to.
    Joined(u64),
}

/// A group's snapshot, or why there is none.
pub type RecalledImage = Result<Option<GroupSnapshot>, StoreError>;

/// Shard or checkpointer -> group.
#[derive(Debug, ActixMessage)]
#[rtype(result = "()")]
pub enum ToGroup {
    /// Something waits in the group's slot, or was said to it. May be lost or merged.
    Wake,
    /// A member needs it to be durable from here on.
    Durable(Offset),
    /// How it chooses its members from now on.
    Strategy(Strategy),
    /// Its deadline passed.
    Tick,
    /// The snapshot that it asked for.
    Recalled(RecalledImage),
    /// Somebody wants to know how it is.
    Observe(oneshot::Sender<GroupObservation>),
    /// Its last member is gone.
    End,
}

/// System -> shard: what a group shows of itself; `None` if there is none.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "Option<GroupObservation>")]
pub struct ObserveGroup {
    /// The shared subscription.
    pub filter: Filter,
}

/// A connection on its way to a session. Whatever becomes of the session, the connection is answered: dropped on the
/// way, it closes.
#[derive(Debug)]
pub struct Candidate(Option<Recipient<ToConnection>>);

impl Candidate {
    /// A connection that waits for its answer.
    pub fn new(connection: Recipient<ToConnection>) -> Self {
        Self(Some(connection))
    }

    /// The connection, which somebody answers now.
    pub fn accept(mut self) -> Option<Recipient<ToConnection>> {
        self.0.take()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            close(&connection, Refusal::Internal);
        }
    }
}

/// Tells a connection why it ends.
pub fn close(connection: &Recipient<ToConnection>, refusal: Refusal) {
    connection.do_send(ToConnection::Packets {
        packets: vec![Outbound::Close(refusal)],
        processed: Credit::default(),
    });
}

/// The address of a session's actor, as its connection and its shard share it: a word, cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionAddress(Arc<Recipient<ToSession>>);

impl SessionAddress {
    /// Sends what a connection has for its session.
    pub fn send(&self, batch: FromConnection) {
        self.tell(ToSession::FromConnection(batch));
    }

    /// Whether the actor lives. A session that failed is rebuilt, but under another address.
    pub fn is_alive(&self) -> bool {
        self.0.connected()
    }

    pub(crate) fn tell(&self, told: ToSession) {
        self.0.do_send(told);
    }
}

impl From<Recipient<ToSession>> for SessionAddress {
    fn from(actor: Recipient<ToSession>) -> Self {
        Self(Arc::new(actor))
    }
}

/// Connection or shard -> session.
#[derive(Debug, ActixMessage)]
#[rtype(result = "()")]
pub enum ToSession {
    /// From the connection.
    FromConnection(FromConnection),
    /// Something waits in the session's slot: messages, records, answered tickets. May be lost or merged.
    Wake,
    /// A connection asks for the session.
    Attach {
        /// Its CONNECT.
        connect: Box<Connect>,
        /// Where answers go.
        candidate: Candidate,
    },
    /// The session's deadline passed.
    Tick,
    /// Somebody wants to know how it is.
    Observe(oneshot::Sender<SessionObservation>),
    /// An operator, or the drain, ends the connection; with `discard` the session too.
    End {
        /// What the connection is told.
        refusal: Refusal,
        /// The session's state goes too.
        discard: bool,
    },
}

/// Checkpointer -> shard: the snapshot that a passive session is rebuilt from.
#[derive(Debug, ActixMessage)]
#[rtype(result = "()")]
pub struct Rehydrate {
    /// Whose it is.
    pub client_id: ClientId,
    /// The snapshot, or why there is none.
    pub image: Result<Option<SessionSnapshot>, StoreError>,
}

/// System -> shard: end the sessions of one client id, as an operator would.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "bool")]
pub struct EndSession {
    /// Whose.
    pub client_id: ClientId,
    /// What the connection is told.
    pub refusal: Refusal,
    /// The session's state goes too.
    pub discard: bool,
}

/// System -> shard: what a client's session shows of itself; `None` if there is none.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "Option<SessionObservation>")]
pub struct ObserveSession {
    /// Whose.
    pub client_id: ClientId,
}

/// System -> shard: tell every connection that the broker shuts down, let the sessions record where they are. Answered
/// when every session of the shard is detached and everything it recorded is answered.
#[derive(Clone, Copy, Debug, ActixMessage)]
#[rtype(result = "()")]
pub struct Drain;

/// Shard -> registry: a newcomer finds no unit, and the policy is to evict.
#[derive(Debug, ActixMessage)]
#[rtype(result = "()")]
pub struct MakeRoom {
    /// The newcomer.
    pub request: ConnectRequest,
    /// The shard that asks.
    pub shard: ShardId,
    /// What is missing.
    pub shortage: Shortage,
    /// How often room was made for it already.
    pub attempts: u8,
}

/// Registry -> shard: the newcomer may try again, with a unit if somebody was evicted for it.
#[derive(Debug, ActixMessage)]
#[rtype(result = "()")]
pub struct RoomMade {
    /// The newcomer.
    pub request: ConnectRequest,
    /// The unit of who was evicted.
    pub unit: Option<Permit>,
    /// How often room was made for it.
    pub attempts: u8,
}

/// Registry -> shard: who has been offline longest of those whose end helps against a shortage?
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "Option<Victim>")]
pub struct OfferVictim(pub Shortage);

/// Registry -> shard: end this session, if its client did not come back meanwhile. Answered with its unit when it has
/// ended, so that nobody else gets it, or with none.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "Option<Permit>")]
pub struct Evict(pub Victim);

/// A session that could make room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Victim {
    /// Since when its client is gone.
    pub offline_since: Timestamp,
    /// Whose it is.
    pub client_id: ClientId,
}

/// System -> shard: count who is there.
#[derive(Clone, Copy, Debug, ActixMessage)]
#[rtype(result = "Census")]
pub struct TakeCensus;

/// System -> registry: these are the limits on sessions. Nobody who is in is thrown out.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "Result<(), ReservesDiffer>")]
pub struct SetQuota(pub QuotaLimits);

/// System -> registry: change some of the limits on sessions; it gives all of them. Nobody who is in is thrown out.
#[derive(Clone, Debug, ActixMessage)]
#[rtype(result = "Result<QuotaLimits, ChangeError>")]
pub struct ChangeQuota(pub QuotaChange);
