//! The parts of a session that most sessions do not use most of the time.

use std::collections::VecDeque;

use super::replay::Replays;
use crate::model::cursor::Cursor;
use crate::model::effect::Live;
use crate::model::group::talk::GroupRef;
use crate::model::ids::{Offset, PacketId, Timestamp};
use crate::model::lazy::Unused;
use crate::model::past::Past;
use crate::model::topic::Filter;

/// How a kept session reads the journal.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct Reading {
    pub(super) cursor: Cursor,
    /// Deliveries below this offset may have been sent before a crash and carry DUP.
    pub(super) maybe_sent_below: Offset,
    /// How many of them at most: what the window held, and what was settled and not recorded.
    pub(super) maybe_sent_max: u32,
    /// Expired records were passed over since progress was last recorded.
    pub(super) passed_expired: bool,
    /// Records settled, and retained ones sent, since progress was last recorded.
    pub(super) unrecorded: u32,
    /// The cursor as last recorded.
    pub(super) recorded_next: Offset,
    /// Subscriptions as they were where records lie that may still be sent.
    pub(super) past: Past,
    /// When progress is recorded at the latest.
    pub(super) progress_at: Option<Timestamp>,
}

impl From<Offset> for Reading {
    /// Begins at `next`, which is recorded.
    fn from(next: Offset) -> Self {
        Self {
            cursor: Cursor::new(next),
            recorded_next: next,
            ..Self::default()
        }
    }
}

impl Unused for Reading {
    fn unused() -> &'static Self {
        static UNUSED: Reading = Reading {
            cursor: Cursor::UNUSED,
            maybe_sent_below: Offset(0),
            maybe_sent_max: 0,
            passed_expired: false,
            unrecorded: 0,
            recorded_next: Offset(0),
            past: Past::EMPTY,
            progress_at: None,
        };
        &UNUSED
    }

    /// A kept session keeps its place.
    fn is_unused(&self) -> bool {
        false
    }
}

/// What waits for the client.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct Pending {
    /// A transient session's messages that wait for credit.
    pub(super) queue: VecDeque<Live>,
    pub(super) queue_bytes: u64,
    /// Replays of retained messages, also while no client is attached.
    pub(super) replays: Option<Box<Replays>>,
    /// The records that the read for redelivery under way asked for; empty if there is none.
    pub(super) rereading: Vec<Offset>,
    /// Groups that leased something on this connection, and for which shared subscription.
    pub(super) groups: Vec<(GroupRef, Filter)>,
    /// Groups that wait for room in the window.
    pub(super) starved: Vec<GroupRef>,
    /// Records above the durable cursor that were sent before a restart: a re-read skips them.
    pub(super) already_sent: Vec<(Offset, PacketId)>,
}

impl Pending {
    /// Takes the first message that waits for credit.
    pub(super) fn take_queued(&mut self) -> Option<Live> {
        let live = self.queue.pop_front()?;
        self.queue_bytes -= live.message.size_bytes() as u64;
        Some(live)
    }

    /// The connection is gone: what was on its way to it is not any more.
    pub(super) fn park(&mut self) {
        self.rereading.clear();
        if let Some(replays) = &mut self.replays {
            replays.park();
        }
        self.groups.clear();
        self.starved.clear();
    }
}

impl Unused for Pending {
    fn unused() -> &'static Self {
        static UNUSED: Pending = Pending {
            queue: VecDeque::new(),
            queue_bytes: 0,
            replays: None,
            rereading: Vec::new(),
            groups: Vec::new(),
            starved: Vec::new(),
            already_sent: Vec::new(),
        };
        &UNUSED
    }

    fn is_unused(&self) -> bool {
        self.queue.is_empty()
            && self.replays.is_none()
            && self.rereading.is_empty()
            && self.groups.is_empty()
            && self.starved.is_empty()
            && self.already_sent.is_empty()
    }
}
