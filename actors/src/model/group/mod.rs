//! The group: one shared subscription, its place in the journal, and who of its members has what.
//!
//! Owns: the cursor, leases, the choice of the member. Does not know: who its members are while they are offline (that is
//! what their sessions subscribe to), sockets, the journal's files, the clock.
//!
//! Invariants:
//! - a record is leased to at most one member at a time; what is settled or taken is never leased again;
//! - only members that are online are given records, each within its receive maximum; who has no room is passed over;
//! - a record waits in one place: ahead of the cursor, or behind it in `returned`, `front`, `leases` or `doubts`;
//! - the recorded cursor passes only what is settled, taken, or named as unsettled beside it;
//! - a group that is not durable has nothing in the journal and waits for no disk.

mod ascending;
pub mod attendance;
mod churn;
pub mod directory;
mod doubts;
mod effect;
mod members;
mod memory;
mod names;
mod settle;
pub mod snapshot;
pub mod talk;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::ascending::Ascending;
use self::doubts::Doubts;
pub use self::effect::{GroupEffect, GroupInput};
use self::members::Members;
pub use self::members::Strategy;
use self::talk::{Lease, MEMORY_LEASES_FROM, is_in_memory};
use super::counter::Counter;
use super::cursor::Cursor;
use super::effects::Effects;
use super::ids::{Fence, GroupNumber, Now, Offset, SessionNumber, Timestamp};
use super::limits::SessionLimits;
use super::message::{Message, QoS};
use super::record::Record;
use super::topic::Filter;

/// Records that one read of returned leases brings at most.
const REREAD_MAX: usize = 32;

/// Who has a record.
#[derive(Clone, Debug)]
struct Leasing {
    member: SessionNumber,
    fence: Fence,
    qos: QoS,
    state: LeaseState,
    /// The message, if it is in memory only.
    message: Option<Arc<Message>>,
}

/// What is known of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    /// The member is online and has it.
    Out,
    /// The member left with the delivery begun; that it is durable is still to come.
    Begun,
}

/// Where a group's messages of QoS 1 and 2 are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    /// With the group: they end with its actor.
    Memory,
    /// In the journal; how far the group came is not known yet.
    Unread,
    /// In the journal.
    Journal,
}

/// One group.
#[derive(Clone, Debug)]
pub struct Group {
    limits: Arc<SessionLimits>,
    number: GroupNumber,
    filter: Filter,
    /// What it reads.
    plain: Filter,
    backing: Backing,
    listening: bool,
    cursor: Cursor,
    /// Records ahead of the cursor that it must pass: a member settled or took them before an actor of the group died.
    taken: BTreeSet<Offset>,
    members: Members,
    doubts: Doubts,
    leases: Ascending<Leasing>,
    /// Records to lease again that must be read first.
    returned: BTreeSet<Offset>,
    rereading: bool,
    /// Messages at hand that wait for a member, before those of the cursor.
    front: Ascending<Arc<Message>>,
    /// Bytes of those in `front` that are in memory only.
    front_bytes: u64,
    next_memory_lease: Offset,
    unrecorded: u32,
    recorded_next: Offset,
    progress_at: Option<Timestamp>,
}

impl Group {
    /// A new group, which has nothing and nobody.
    pub fn new(
        number: GroupNumber,
        filter: Filter,
        strategy: Strategy,
        limits: Arc<SessionLimits>,
    ) -> Self {
        let plain = filter
            .share()
            .map_or_else(|| filter.clone(), |(_, plain)| plain);
        Self {
            limits,
            number,
            plain,
            backing: Backing::Memory,
            listening: false,
            cursor: Cursor::default(),
            taken: BTreeSet::new(),
            members: Members::new(strategy, number.0),
            filter,
            doubts: Doubts::default(),
            leases: Ascending::default(),
            returned: BTreeSet::new(),
            rereading: false,
            front: Ascending::default(),
            front_bytes: 0,
            next_memory_lease: MEMORY_LEASES_FROM,
            unrecorded: 0,
            recorded_next: Offset::default(),
            progress_at: None,
        }
    }

    /// Applies one input; appends what must happen next, in order, to `effects`.
    pub fn handle(&mut self, now: Now, input: GroupInput, effects: &mut Effects<GroupEffect>) {
        self.take_in(now, input, effects);
        self.pump(now, effects);
    }

    /// As [`Self::handle`], but leases nothing before [`Self::pump`]: for more inputs at once.
    pub fn take_in(&mut self, now: Now, input: GroupInput, effects: &mut Effects<GroupEffect>) {
        match input {
            GroupInput::Said(from) => self.said(now, from, effects),
            GroupInput::Durable { next } => self.become_durable(next, effects),
            GroupInput::Live(live) => self.live(now, live, effects),
            GroupInput::Logged(record) => {
                let inbox_max = self.limits.inbox_records_max as usize;
                if self.listening && self.is_durable() && self.cursor.committed(record, inbox_max) {
                    effects.count(Counter::InboxOverflowed);
                }
            }
            GroupInput::Page { read, page } => {
                for _ in 0..self.cursor.page(read, page) {
                    effects.count(Counter::HolePassed);
                }
            }
            GroupInput::Reread { asked, records } => self.reread(asked, records, effects),
            GroupInput::Strategy(strategy) => self.members.set_strategy(strategy),
            GroupInput::Tick => {
                if self.progress_at.is_some_and(|at| at <= now.time) {
                    self.record_progress(now, effects);
                }
            }
            GroupInput::ReadFailed => {
                self.cursor.abandon_read();
                self.rereading = false;
            }
            GroupInput::Recalled(snapshot) => self.recalled(now, snapshot, effects),
            GroupInput::End => self.end(effects),
        }
    }

    /// The next moment at which [`GroupInput::Tick`] would do something.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.progress_at
    }

    /// The group's number.
    pub fn number(&self) -> GroupNumber {
        self.number
    }

    /// The shared subscription, as its members write it.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// What it reads.
    pub fn plain_filter(&self) -> &Filter {
        &self.plain
    }

    /// Whether it reads the journal.
    pub fn is_durable(&self) -> bool {
        self.backing != Backing::Memory
    }

    /// Its place in the journal.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Members that are online.
    pub fn members_online(&self) -> usize {
        self.members.len()
    }

    /// Who has which record.
    pub fn leases(&self) -> impl Iterator<Item = (Offset, SessionNumber)> {
        self.leases.iter().map(|(at, lease)| (at, lease.member))
    }

    /// How many records are leased.
    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    /// Messages at hand that wait for a member: returned ones, those in memory, and those that were read.
    pub fn waiting(&self) -> usize {
        self.returned.len() + self.front.len() + self.doubts.begun() + self.cursor.waiting()
    }

    fn become_durable(&mut self, next: Offset, effects: &mut Effects<GroupEffect>) {
        if self.is_durable() {
            return;
        }
        self.backing = Backing::Journal;
        self.cursor = Cursor::new(next);
        self.recorded_next = next;
        if self.listening {
            effects.push(GroupEffect::Listen(true));
        }
    }

    /// Somebody is online, or nobody any more: with nobody the group waits where it is.
    fn look_around(&mut self, now: Now, effects: &mut Effects<GroupEffect>) {
        let on = !self.members.is_empty() && self.backing != Backing::Unread;
        if on == self.listening {
            return;
        }
        self.listening = on;
        effects.push(GroupEffect::Listen(on));
        if on {
            return self.schedule_progress(now);
        }
        self.record_progress(now, effects);
        self.progress_at = None;
        self.cursor.park();
        for at in std::mem::take(&mut self.front).keys() {
            if is_in_memory(at) {
                effects.count(Counter::DroppedOffline);
            } else {
                self.returned.insert(at);
            }
        }
        self.front_bytes = 0;
    }

    /// A message at hand waits for a member, unless the cursor will bring it.
    fn hold(&mut self, at: Offset, message: Arc<Message>) {
        if is_in_memory(at) {
            self.front_bytes += message.size_bytes() as u64;
        } else if !self.cursor.has_passed(at) {
            return;
        }
        self.front.insert(at, message);
    }

    /// Leases what there is to those who have room, and asks for more.
    pub fn pump(&mut self, now: Now, effects: &mut Effects<GroupEffect>) {
        if self.doubts.awaits() {
            return;
        }
        self.recall(effects);
        if !self.listening {
            return;
        }
        if self.front_bytes > 0 && !self.members.take_memory() {
            self.drop_memory(effects);
        }
        while self.members.has_room() {
            let Some((at, message)) = self.next_message() else {
                break;
            };
            if message.is_expired(now.time) {
                effects.count(Counter::DroppedExpired);
                self.changed(now, at, effects);
                continue;
            }
            let member = self.members.choose(&message, is_in_memory(at));
            let member = member.expect("somebody has room");
            effects.count(Counter::GroupLeased);
            self.leases.insert(
                at,
                Leasing {
                    member: member.number,
                    fence: member.fence,
                    qos: message.qos.min(member.qos),
                    state: LeaseState::Out,
                    message: is_in_memory(at).then(|| Arc::clone(&message)),
                },
            );
            effects.push(GroupEffect::Lease {
                member: member.number,
                fence: member.fence,
                place: member.place,
                lease: Lease::Record { at, message },
            });
        }
        self.ask(effects);
    }

    fn next_message(&mut self) -> Option<(Offset, Arc<Message>)> {
        let has_room = |at| !is_in_memory(at) || self.members.has_room_in_memory();
        if self.front.first_key().is_some_and(has_room)
            && let Some((at, message)) = self.front.pop_first()
        {
            if is_in_memory(at) {
                self.front_bytes -= message.size_bytes() as u64;
            }
            return Some((at, message));
        }
        while let Some(Record { offset, message }) = self.cursor.pop() {
            let passes = self.taken.remove(&offset)
                || self.leases.contains(offset)
                || self.doubts.holds(offset);
            if !passes {
                return Some((offset, message));
            }
        }
        None
    }

    fn ask(&mut self, effects: &mut Effects<GroupEffect>) {
        if !self.is_durable() {
            return;
        }
        let returned_waits = self.front.first_key().is_some_and(|at| !is_in_memory(at));
        if !self.returned.is_empty() && !self.rereading && !returned_waits {
            self.rereading = true;
            let asked = self.returned.iter().take(REREAD_MAX).copied().collect();
            effects.push(GroupEffect::Reread(asked));
        }
        let records_max = self.limits.inbox_records_max;
        if let Some(from) = self.cursor.wants_read(records_max as usize) {
            let read = self.cursor.begin_read();
            effects.push(GroupEffect::Read {
                read,
                from,
                records_max,
            });
        }
    }

    fn reread(
        &mut self,
        asked: Vec<Offset>,
        records: Vec<Option<Record>>,
        effects: &mut Effects<GroupEffect>,
    ) {
        self.rereading = false;
        if !self.listening {
            return;
        }
        for (at, record) in asked.into_iter().zip(records) {
            if !self.returned.remove(&at) {
                continue;
            }
            match record {
                Some(record) => self.hold(at, record.message),
                None => effects.count(Counter::DroppedRetention),
            }
        }
    }

    /// What is in memory is dropped; what is in the journal nobody reads any more.
    fn end(&mut self, effects: &mut Effects<GroupEffect>) {
        let in_memory = self.front.keys().filter(|at| is_in_memory(*at)).count();
        for _ in 0..in_memory + self.returned.len() + self.doubts.begun() {
            effects.count(Counter::DroppedGroupEnded);
        }
        if std::mem::take(&mut self.listening) {
            effects.push(GroupEffect::Listen(false));
        }
        effects.push(GroupEffect::End);
    }
}
