//! What a group is told and what must happen next. Effects are performed in order; nobody waits for what they append.

use super::members::Strategy;
use super::snapshot::GroupSnapshot;
use super::talk::{FromMember, Lease, Place};
use crate::model::cursor::ReadId;
use crate::model::effect::Live;
use crate::model::entry::GroupChange;
use crate::model::ids::{Fence, Offset, SessionNumber};
use crate::model::record::{Page, Record};

/// One input of a group.
#[derive(Clone, Debug)]
pub enum GroupInput {
    /// A member's session said something.
    Said(FromMember),
    /// A kept session joined: from `next` on the group reads the journal.
    Durable {
        /// Where its cursor starts.
        next: Offset,
    },
    /// A publication from the routing pass: QoS 0, or any while the group is not durable.
    Live(Live),
    /// A committed record that the filter matches.
    Logged(Record),
    /// The answer to [`GroupEffect::Read`].
    Page {
        /// Which read.
        read: ReadId,
        /// What it found.
        page: Page,
    },
    /// The answer to [`GroupEffect::Reread`].
    Reread {
        /// The records asked for.
        asked: Vec<Offset>,
        /// What was found, in the same order.
        records: Vec<Option<Record>>,
    },
    /// A read came to nothing: what is still wanted is asked for again.
    ReadFailed,
    /// The answer to [`GroupEffect::Recall`]; `None` if it came to nothing.
    Recalled(Option<Box<GroupSnapshot>>),
    /// From now on it chooses its members like this.
    Strategy(Strategy),
    /// Time has passed; a spurious one changes nothing.
    Tick,
    /// The last member is gone, and nobody declared the group.
    End,
}

/// Something that must happen.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupEffect {
    /// Hand this to a member's session.
    Lease {
        /// The member.
        member: SessionNumber,
        /// Its fence.
        fence: Fence,
        /// Where it is.
        place: Place,
        /// What it gets.
        lease: Lease,
    },
    /// Route publications to the group, or to it no more. If it is durable, the journal brings QoS 1 and 2.
    Listen(bool),
    /// Append; nothing waits for it.
    Record(GroupChange),
    /// Read records from the journal.
    Read {
        /// Which read.
        read: ReadId,
        /// Where to start.
        from: Offset,
        /// How many records at most.
        records_max: u32,
    },
    /// Read these returned records.
    Reread(Vec<Offset>),
    /// Read the group's snapshot once everything is committed that anybody submitted until now.
    Recall,
    /// The group is over.
    End,
}
