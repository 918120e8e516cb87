//! What a group and its members' sessions say to each other.
//!
//! A lease travels from the group to a member, and what became of it travels back. Whatever comes from a member carries
//! the fence under which it was online, so that what an older connection still says changes nothing.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::ids::{Fence, GroupNumber, Offset, SessionNumber, ShardId};
use crate::model::message::{Message, QoS};
use crate::model::routes::Slot;
use crate::model::topic::Filter;

/// Ids of leases whose message is in memory only; no offset of the journal is that large.
pub const MEMORY_LEASES_FROM: Offset = Offset(1 << 63);

/// Whether a lease's message is in memory only.
pub fn is_in_memory(lease: Offset) -> bool {
    lease >= MEMORY_LEASES_FROM
}

/// Some leases: mostly one is settled, or many at once.
pub type Leases = SmallVec<[Offset; 1]>;

/// Where a member's session is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its shard.
    pub shard: ShardId,
    /// Its slot there.
    pub slot: Slot,
}

/// A group as its members know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRef {
    /// The group.
    pub number: GroupNumber,
    /// The shard that it lives on.
    pub home: ShardId,
}

/// Group -> member's session: messages to send, or a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Leased {
    /// Who leases.
    pub group: GroupRef,
    /// The shared subscription that it is for.
    pub filter: Filter,
    /// The fence under which the member was online.
    pub fence: Fence,
    /// What is leased, in order: all that a group leases to a member before that hears of it.
    pub what: SmallVec<[Lease; 1]>,
}

/// What a group has for a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Lease {
    /// A QoS 0 message: nothing is expected of it.
    Once(Arc<Message>),
    /// A record to settle or to return.
    Record {
        /// Its offset, or its number among those in memory ([`MEMORY_LEASES_FROM`]).
        at: Offset,
        /// The message.
        message: Arc<Message>,
    },
    /// The group was rebuilt and does not know any more what the member has: it says [`Said::Recounted`].
    Recount,
}

/// Member's session -> group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is online, or subscribes with other options.
    Online(Box<Online>),
    /// The answer to [`Lease::Recount`]: whatever was leased to it before the question is in it.
    Recounted(Box<Online>),
    /// It is online no more.
    Offline {
        /// The fence under which it was.
        fence: Fence,
        /// Leases in its window that it keeps: QoS 2, begun. The others are returned.
        keeps: Vec<Offset>,
    },
    /// Its actor died, with or without a client. What it began with QoS 2 says the journal.
    Lost,
    /// It unsubscribed. What it has it finishes, as long as it is online.
    Left,
    /// No work remains for these leases, and their places in the member's window are free.
    Settled(Fence, Leases),
    /// The QoS 2 delivery is begun and durable: the record is the member's alone, and takes a place.
    Taken(Fence, Offset),
    /// A place that a taken record had is free.
    Freed(Fence),
    /// The member does not send it: its window is full, it does not subscribe any more, or it is gone.
    Returned {
        /// The fence under which it was leased.
        fence: Fence,
        /// The lease.
        at: Offset,
        /// Its message.
        message: Arc<Message>,
        /// There is no room until [`Said::Room`].
        full: bool,
    },
    /// There is room again, for so many.
    Room(Fence, u16),
}

/// A member that can be given records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Online {
    /// The fence of its connection.
    pub fence: Fence,
    /// The most that it may have unsettled.
    pub max: u16,
    /// The granted QoS.
    pub qos: QoS,
    /// Its session outlives the connection and queues: it gets nothing that is in memory only.
    pub durable: bool,
    /// Who leased what it has already: perhaps a group that is over, whose filter this one has.
    pub by: Option<GroupNumber>,
    /// Leases of QoS 1 that it has already.
    pub holds: Vec<Offset>,
    /// How many of QoS 2 there are in its window: they are its own, but take places.
    pub taken: u16,
}

/// A member's session and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromMember {
    /// The session.
    pub member: SessionNumber,
    /// Where it is run.
    pub place: Place,
    /// What it said.
    pub said: Said,
}
