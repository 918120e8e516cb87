//! What a session is told and what must happen next.
//!
//! Effects are performed in order. Some act at once; those that answer somebody wait until every record appended before
//! them is as durable as `log.durability` says ([`Effect::waits`]), so that a crash between any two effects is safe.

use std::sync::Arc;

use super::cursor::ReadId;
use super::entry::Change;
use super::group::talk::{GroupRef, Leased, Said};
use super::ids::{Fence, GroupNumber, Offset, PacketId, SessionNumber};
use super::message::{Message, QoS};
use super::packet::{Connect, Inbound, Outbound, SubscriptionIds, SubscriptionOptions};
use super::refusal::Refusal;
use super::topic::Filter;
use crate::model::record::{Page, Record, RetainedRecords};

/// One input of a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection asks for the session.
    Attach {
        /// Its CONNECT.
        connect: Box<Connect>,
        /// The number that a new session would get.
        number: SessionNumber,
        /// The boot epoch, for the fence.
        epoch: u32,
    },
    /// A packet from the connection that holds `fence`.
    Packet {
        /// The sender's fence.
        fence: Fence,
        /// The packet.
        packet: Inbound,
    },
    /// The network connection that holds `fence` is gone.
    Closed {
        /// Its fence.
        fence: Fence,
    },
    /// A publication from the routing pass: QoS 0, or any for a transient session.
    Live(Live),
    /// A committed record that one of the session's durable subscriptions matches.
    Logged(Record),
    /// A group has something for the session.
    Leased(Leased),
    /// The answer to [`Effect::Read`].
    Page {
        /// The fence under which it was asked for.
        fence: Fence,
        /// Which read.
        read: ReadId,
        /// What it found.
        page: Page,
    },
    /// The answer to [`Effect::Reread`]: the unsettled records in the order asked for.
    Reread {
        /// The fence under which it was asked for.
        fence: Fence,
        /// The records.
        records: Vec<Option<Record>>,
    },
    /// The answer to [`Effect::ReadRetained`].
    Retained {
        /// The fence under which it was asked for.
        fence: Fence,
        /// What was found.
        page: RetainedRecords,
    },
    /// A publication of this session could not be recorded; its answer says so.
    PublishFailed {
        /// The inbound QoS 2 identifier that was recorded with it.
        received: Option<PacketId>,
    },
    /// Time has passed; a spurious one changes nothing.
    Tick,
    /// An operator ends the session, or its connection only.
    End {
        /// What its connection is told.
        refusal: Refusal,
        /// The session's state goes too.
        discard: bool,
    },
}

/// A publication on its way to one session, without the detour through the journal.
#[derive(Clone, Debug)]
pub struct Live {
    /// The publication.
    pub message: Arc<Message>,
    /// The QoS of the delivery.
    pub qos: QoS,
    /// The RETAIN flag of the delivery.
    pub retain: bool,
    /// The identifiers of all matching subscriptions.
    pub subscription_ids: SubscriptionIds,
}

/// How a session names a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhichGroup {
    /// The one behind a shared subscription.
    Filter(Filter),
    /// The one that leased something.
    Group(GroupRef),
}

/// Something that must happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send to the attached connection. Waits.
    Send(Outbound),
    /// Append; what follows and waits, waits for it.
    Persist(SessionNumber, Change),
    /// Append; nothing waits for it.
    Record(SessionNumber, Change),
    /// Route a publication, and append it if a durable reader matches, it is retained or it carries `received`.
    Publish {
        /// The publication.
        message: Arc<Message>,
        /// The inbound QoS 2 identifier to record with it (kept sessions).
        received: Option<PacketId>,
    },
    /// Answer the publication before with PUBACK or PUBREC. Waits.
    AckPublish {
        /// The packet identifier.
        packet_id: PacketId,
        /// QoS 1 or 2.
        qos: QoS,
    },
    /// A new connection holds the session: the one before gets `displaced`, what waits for it is dropped.
    SwitchConnection {
        /// The new fence.
        fence: Fence,
        /// There was a live connection, to be closed with "taken over".
        taken_over: bool,
    },
    /// The new connection is refused; the session is untouched.
    RefuseConnection(Refusal),
    /// The connection is gone or told to go: nothing more is sent to it.
    DropConnection,
    /// The subscription is in force: route to it while attached, and count it if it reads the journal.
    Subscribe {
        /// The filter.
        filter: Filter,
        /// The options granted.
        options: SubscriptionOptions,
        /// It reads the journal: kept session, QoS 1 or 2.
        durable: bool,
        /// It replaces one; whether that one read the journal.
        replaces: Option<bool>,
    },
    /// The subscription is gone.
    Unsubscribe {
        /// The filter.
        filter: Filter,
        /// It read the journal.
        durable: bool,
    },
    /// Tell a group what became of what it leased, or that the client is there. [`Said::Taken`] waits.
    TellGroup {
        /// The session.
        member: SessionNumber,
        /// Which group.
        to: WhichGroup,
        /// What is said.
        said: Said,
    },
    /// The shared subscription is in force, or has other options; what follows and waits, waits until its group is routed
    /// to.
    Join {
        /// The session.
        member: SessionNumber,
        /// The shared subscription.
        filter: Filter,
        /// The options granted.
        options: SubscriptionOptions,
        /// The session is kept.
        kept: bool,
    },
    /// The shared subscription is gone.
    Leave {
        /// The session.
        member: SessionNumber,
        /// The shared subscription.
        filter: Filter,
    },
    /// Record that a QoS 2 lease of this group is taken for good; what follows and waits, waits for it.
    Take(GroupNumber, Offset),
    /// A connection attached: route to all subscriptions; or it is gone: route to none.
    Listen(bool),
    /// Read records from the journal for the durable subscriptions.
    Read {
        /// Which read.
        read: ReadId,
        /// Where to start.
        from: Offset,
        /// How many records at most.
        records_max: u32,
    },
    /// Read these unsettled records for redelivery.
    Reread(Vec<Offset>),
    /// Read retained messages of a filter in the order of their topics, not before all that was published until now is
    /// in the table. Waits.
    ReadRetained {
        /// The filter.
        filter: Filter,
        /// The topic to go on behind.
        after: Option<Box<str>>,
        /// How many at most.
        records_max: usize,
    },
    /// The session is over: free its permit, its routes and its actor.
    End,
}

impl Effect {
    /// Whether the effect waits for the durability of what was appended before it.
    pub fn waits(&self) -> bool {
        matches!(
            self,
            Self::Send(_)
                | Self::AckPublish { .. }
                | Self::ReadRetained { .. }
                | Self::TellGroup {
                    said: Said::Taken(..),
                    ..
                }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every message is some of them, each of which is moved several times.
    #[test]
    fn an_effect_is_small() {
        let bytes = size_of::<Effect>();
        assert!(bytes <= 80, "{bytes}");
    }
}
