//! The groups that live on this shard, and what goes to and fro between groups and their members' sessions.
//!
//! A group is *home* on one shard, its members' sessions anywhere. Who is a member says the directory that all shards share;
//! here it becomes routes, an actor, an end.
//!
//! Invariants:
//! - what one shard has for another goes in one batch per turn, in order, behind what it submitted to the journal: whoever
//!   hears of something that was recorded may record what follows from it;
//! - a durable group holds its filter from the moment at which it is one to its end, with or without an actor;
//! - what is said to a group waits for its actor.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use actix::Recipient;
use hashbrown::HashMap;

use super::super::protocol::{Asker, ForGroup, ForMember, GroupBatch, MemberNews};
use super::Local;
use super::fan_out::Late;
use super::group_routes::Switch;
use crate::model::counter::Counter;
use crate::model::effect::WhichGroup;
use crate::model::group::Strategy;
use crate::model::group::attendance::Attendance;
use crate::model::group::directory::name_of;
use crate::model::group::talk::{FromMember, GroupRef, Lease, Leased, Place, Said};
use crate::model::ids::{Fence, GroupNumber, Offset, SessionNumber, ShardId, Timestamp};
use crate::model::routes::Slot;
use crate::model::topic::Filter;
use crate::observe::Gauge;
use crate::supervise::Panics;

/// What a shard knows of one group that lives on it.
#[derive(Debug)]
pub struct GroupResident {
    /// The shared subscription.
    pub filter: Filter,
    /// What the group reads.
    pub plain: Filter,
    /// How it chooses the member that gets a message.
    pub strategy: Strategy,
    /// It is durable: its filter is held.
    pub durable: bool,
    /// Until it reads the journal, if it is durable.
    pub(super) switch: Option<Switch>,
    /// Who waits until it is routed to.
    pub(super) askers: Vec<Asker>,
    /// How it is run.
    pub state: GroupState,
    /// Who is online, and what was said and the actor did not hear yet.
    pub attendance: Attendance,
    /// Of its actor, if there were any.
    pub panics: Option<Box<Panics>>,
    /// How many actors of it have died.
    pub deaths: u32,
    pub(super) deadline: Option<Timestamp>,
}

/// How a group is run.
#[derive(Debug)]
pub enum GroupState {
    /// By nobody yet, and nothing is recorded but, if it is durable, its beginning here.
    Fresh(Option<Offset>),
    /// By nobody since the start: its snapshot lies in the store.
    Passive,
    /// By an actor.
    Active(Slot),
    /// By nobody any more: its actor kept panicking.
    Quarantined,
}

/// The groups of a shard, and what waits to leave it for groups and members elsewhere.
#[derive(Debug, Default)]
pub struct LocalGroups {
    pub(super) residents: HashMap<GroupNumber, GroupResident>,
    pub(super) numbers: HashMap<Filter, GroupNumber>,
    /// Groups that need an actor.
    pub(super) due: Vec<GroupNumber>,
    deadlines: BTreeSet<(Timestamp, GroupNumber)>,
    pub(super) outboxes: Vec<GroupBatch>,
    pub(super) peers: Vec<Recipient<GroupBatch>>,
    questions: u64,
}

impl LocalGroups {
    /// No groups, and so many shards.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            outboxes: vec![GroupBatch::default(); shards],
            ..Self::default()
        }
    }

    /// Gets to know all shards, by number.
    pub(super) fn meet(&mut self, peers: Vec<Recipient<GroupBatch>>) {
        self.peers = peers;
    }

    /// Sends what waits for other shards, one message each.
    pub(super) fn flush(&mut self) {
        for (outbox, peer) in self.outboxes.iter_mut().zip(&self.peers) {
            if !outbox.for_groups.is_empty() || !outbox.for_members.is_empty() {
                peer.do_send(std::mem::take(outbox));
            }
        }
    }

    /// The group of this number, if it lives here.
    pub fn get(&mut self, group: GroupNumber) -> Option<&mut GroupResident> {
        self.residents.get_mut(&group)
    }

    /// The group behind a shared subscription, if it lives here.
    pub fn find(&self, filter: &Filter) -> Option<(GroupNumber, &GroupResident)> {
        let number = self.numbers.get(filter)?;
        self.residents
            .get(number)
            .map(|resident| (*number, resident))
    }

    /// Groups that need an actor; they are the caller's business from here on.
    pub fn take_due(&mut self) -> Vec<GroupNumber> {
        std::mem::take(&mut self.due)
    }

    /// What was said to a group.
    pub fn take_said(&mut self, group: GroupNumber) -> Vec<FromMember> {
        let resident = self.residents.get_mut(&group);
        resident.map_or_else(Vec::new, |resident| resident.attendance.take_said())
    }

    /// Says when something is due for a group.
    pub fn set_deadline(&mut self, group: GroupNumber, deadline: Option<Timestamp>) {
        let Some(resident) = self.residents.get_mut(&group) else {
            return;
        };
        if resident.deadline == deadline {
            return;
        }
        if let Some(before) = std::mem::replace(&mut resident.deadline, deadline) {
            self.deadlines.remove(&(before, group));
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, group));
        }
    }

    /// The slots of groups for which something is due; their deadlines are forgotten.
    pub fn due_slots(&mut self, now: Timestamp) -> Vec<Slot> {
        let mut slots = Vec::new();
        while let Some((at, group)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            if let Some(resident) = self.residents.get_mut(&group) {
                resident.deadline = None;
                if let GroupState::Active(slot) = resident.state {
                    slots.push(slot);
                }
            }
        }
        slots
    }

    /// Where a group lives.
    fn home(&self, filter: &Filter) -> usize {
        let mut hasher = DefaultHasher::new();
        name_of(filter).hash(&mut hasher);
        usize::try_from(hasher.finish() % self.outboxes.len().max(1) as u64).unwrap_or(0)
    }
}

impl Local {
    /// The directory says something new of a group. Gives the number under which `place` is answered once the routes say
    /// the same; `None` if they do already.
    pub fn group_changed(
        &mut self,
        filter: &Filter,
        asker: Option<(SessionNumber, Slot)>,
    ) -> Option<u64> {
        let home = self.groups.home(filter);
        let asker = asker.map(|(member, slot)| {
            self.groups.questions += 1;
            Asker {
                member,
                place: self.place(slot),
                question: self.groups.questions,
            }
        });
        let question = asker.map(|asker| asker.question);
        if home == usize::from(self.shard.0) {
            self.look_at_group(filter);
            return question.filter(|_| asker.is_some_and(|it| self.await_group(filter, it)));
        }
        let filter = filter.clone();
        let changed = ForGroup::Changed { filter, asker };
        self.groups.outboxes[home].for_groups.push(changed);
        question
    }

    /// A member's session in `slot` says something to a group.
    pub fn tell_group(&mut self, to: WhichGroup, member: SessionNumber, slot: Slot, said: Said) {
        let place = self.place(slot);
        let home = match &to {
            WhichGroup::Filter(filter) => self.groups.home(filter),
            WhichGroup::Group(group) => usize::from(group.home.0),
        };
        let from = FromMember {
            member,
            place,
            said,
        };
        if home == usize::from(self.shard.0) {
            self.hear(&to, from);
        } else if let Some(outbox) = self.groups.outboxes.get_mut(home) {
            outbox.for_groups.push(ForGroup::Said { to, from });
        }
    }

    /// A group that lives here has something for a member's session: one word with what that has not heard of yet.
    pub fn lease(
        &mut self,
        (group, filter): (GroupRef, &Filter),
        (member, place): (SessionNumber, Place),
        fence: Fence,
        lease: Lease,
    ) {
        if place.shard == self.shard
            && let Some(state) = self.slot(place.slot)
            && state.number == member
            && let Some(last) = state.waiting.leased.last_mut()
            && (last.group, last.fence) == (group, fence)
        {
            return last.what.push(lease);
        }
        let leased = Leased {
            group,
            filter: filter.clone(),
            fence,
            what: [lease].into(),
        };
        self.tell_member(member, place, MemberNews::Leased(leased));
    }

    /// What another shard's sessions and groups have for those of this one.
    pub fn group_batch(&mut self, batch: GroupBatch) {
        for for_group in batch.for_groups {
            match for_group {
                ForGroup::Said { to, from } => self.hear(&to, from),
                ForGroup::Lost(from) => self.hear_lost(&from),
                ForGroup::Changed { filter, asker } => {
                    self.look_at_group(&filter);
                    if let Some(asker) = asker
                        && !self.await_group(&filter, asker)
                    {
                        self.answer_all(vec![asker]);
                    }
                }
                ForGroup::Mark(group) => {
                    let outbox = self.groups.outboxes.get_mut(usize::from(group.home.0));
                    if let Some(outbox) = outbox {
                        outbox.for_groups.push(ForGroup::Marked(group.number));
                    }
                }
                ForGroup::Marked(number) => self.come_late(Late::Marked(number)),
            }
        }
        for news in batch.for_members {
            self.hand_over(news);
        }
    }

    /// The actor in `slot` died: all groups hear that its session is gone. Gives whose it was.
    pub fn lose_member(&mut self, slot: Slot) -> Option<SessionNumber> {
        let member = self.slot(slot)?.number;
        let from = FromMember {
            member,
            place: self.place(slot),
            said: Said::Lost,
        };
        for (shard, outbox) in self.groups.outboxes.iter_mut().enumerate() {
            if shard != usize::from(self.shard.0) {
                outbox.for_groups.push(ForGroup::Lost(from.clone()));
            }
        }
        self.hear_lost(&from);
        Some(member)
    }

    /// Leaves a group: the directory knows already.
    pub fn leave_group(&mut self, filter: &Filter, member: SessionNumber, slot: Slot) {
        let to = WhichGroup::Filter(filter.clone());
        self.tell_group(to, member, slot, Said::Left);
        self.group_changed(filter, None);
    }

    fn place(&self, slot: Slot) -> Place {
        Place {
            shard: self.shard,
            slot,
        }
    }

    pub(super) fn tell_member(&mut self, member: SessionNumber, place: Place, what: MemberNews) {
        let news = ForMember {
            slot: place.slot,
            member,
            what,
        };
        if place.shard == self.shard {
            self.hand_over(news);
        } else if let Some(outbox) = self.groups.outboxes.get_mut(usize::from(place.shard.0)) {
            outbox.for_members.push(news);
        }
    }

    /// Puts something into a member's slot.
    fn hand_over(&mut self, news: ForMember) {
        let ForMember { slot, member, what } = news;
        let there = self.slot(slot).filter(|state| state.number == member);
        match (what, there) {
            (MemberNews::Leased(leased), Some(state)) => {
                state.waiting.leased.push(leased);
                state.wake();
            }
            (MemberNews::Joined(question), Some(state)) => {
                state.waiting.joined.push(question);
                state.wake();
            }
            (MemberNews::Leased(leased), None) => self.return_leases(slot, member, leased),
            (MemberNews::Joined(_), None) => {}
        }
    }

    /// Leases found nobody any more: the group hears of it, so that none is out for good.
    pub(super) fn return_leases(&mut self, slot: Slot, member: SessionNumber, leased: Leased) {
        for lease in leased.what {
            match lease {
                Lease::Record { at, message } => {
                    let returned = Said::Returned {
                        fence: leased.fence,
                        at,
                        message,
                        full: false,
                    };
                    let to = WhichGroup::Group(leased.group);
                    self.tell_group(to, member, slot, returned);
                }
                Lease::Once(_) => self.count(Counter::DroppedOffline),
                // It left, and that is on its way to the group.
                Lease::Recount => {}
            }
        }
    }

    /// A member's session said something to a group that lives here.
    fn hear(&mut self, to: &WhichGroup, from: FromMember) {
        let groups = &mut self.groups;
        let number = match to {
            WhichGroup::Filter(filter) => groups.numbers.get(filter).copied(),
            WhichGroup::Group(group) => Some(group.number),
        };
        let Some((number, resident)) =
            number.and_then(|number| Some((number, groups.residents.get_mut(&number)?)))
        else {
            return; // it is over
        };
        let active = match resident.state {
            GroupState::Active(slot) => Some(slot),
            GroupState::Fresh(_) | GroupState::Passive | GroupState::Quarantined => None,
        };
        let before = resident.attendance.online().len();
        let mut waits = resident.attendance.hear(from, active.is_some());
        if matches!(resident.state, GroupState::Quarantined) {
            resident.attendance.take_said();
            waits = false;
        }
        let after = resident.attendance.online().len();
        let gone = if after == 0 {
            std::mem::take(&mut resident.askers) // nobody waits any more
        } else {
            Vec::new()
        };
        self.answer_all(gone);
        if before != after {
            let more = i64::try_from(after).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
            self.cells.shift(Gauge::GroupMembersOnline, more);
        }
        match active {
            Some(slot) => {
                if let Some(state) = self.slot(slot) {
                    state.wake();
                }
            }
            None if waits => self.want_group_actor(number),
            None => {}
        }
    }

    /// A session's actor died, wherever it was: any group may have leased it something.
    fn hear_lost(&mut self, from: &FromMember) {
        let residents = self.groups.residents.values();
        let filters: Vec<_> = residents.map(|resident| resident.filter.clone()).collect();
        for filter in filters {
            self.hear(&WhichGroup::Filter(filter), from.clone());
        }
    }
}

/// A group's home, for those outside of the shards.
pub fn home_of(filter: &Filter, shards: usize) -> ShardId {
    let home = LocalGroups::new(shards).home(filter);
    ShardId(u8::try_from(home).unwrap_or(0))
}
