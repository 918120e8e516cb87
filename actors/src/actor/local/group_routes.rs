//! When a group is routed to: from memory or from the journal, and who waits until it is.
//!
//! Invariants:
//! - a SUBSCRIBE is answered when all that is published from then on reaches the group;
//! - a group that becomes durable does so between two publications of each shard: up to there all of a shard's publications
//!   reach it from memory, from there on all of them from the journal (ADR 8).

use super::super::protocol::{Asker, ForGroup, MemberNews, ToGroup};
use super::Local;
use super::groups::{GroupResident, GroupState};
use crate::model::entry::{Entry, GroupChange};
use crate::model::group::talk::GroupRef;
use crate::model::ids::{GroupNumber, Offset};
use crate::model::message::QoS;
use crate::model::packet::SubscriptionOptions;
use crate::model::routes::Slot;
use crate::model::topic::Filter;

/// A group on its way from memory to the journal.
#[derive(Debug)]
pub(super) struct Switch {
    /// Where it begins to read the journal.
    next: Offset,
    /// Shards from which something may come that was routed by the routes of before.
    awaited: usize,
}

impl GroupResident {
    /// Whether it reads the journal. Its filter may be held before that.
    pub fn reads_journal(&self) -> bool {
        self.durable && self.switch.is_none()
    }
}

impl Local {
    /// Routes publications to a group, or to it no more.
    pub fn listen_group(&mut self, slot: Slot, number: GroupNumber, on: bool) {
        let Some(resident) = self.groups.get(number) else {
            return self.mute_all(slot); // it is over
        };
        let durable = resident.reads_journal();
        let plain = resident.plain.clone();
        if !on {
            return self.mute(slot, &plain);
        }
        let options = SubscriptionOptions {
            retain_as_published: true,
            ..SubscriptionOptions::of_qos(QoS::ExactlyOnce)
        };
        let known = self.listens(slot);
        self.listen(slot, &plain, &options, durable, known);
        self.answer_askers(number);
    }

    /// A member waits until its group is routed to; gives whether it has to.
    pub(super) fn await_group(&mut self, filter: &Filter, asker: Asker) -> bool {
        let known = self.groups.numbers.get(filter).copied();
        let Some(number) = known.filter(|number| !self.is_in_force(*number)) else {
            return false;
        };
        if let Some(resident) = self.groups.get(number) {
            resident.askers.push(asker);
        }
        true
    }

    /// Answers those who wait for a group, if it is routed to by now.
    pub fn answer_askers(&mut self, number: GroupNumber) {
        if self.is_in_force(number)
            && let Some(resident) = self.groups.get(number)
        {
            let askers = std::mem::take(&mut resident.askers);
            self.answer_all(askers);
        }
    }

    /// Answers those who waited for a group.
    pub(super) fn answer_all(&mut self, askers: Vec<Asker>) {
        for asker in askers {
            let joined = MemberNews::Joined(asker.question);
            self.tell_member(asker.member, asker.place, joined);
        }
    }

    /// A group reads the journal from now on: it has a member that is owed more than memory.
    pub(super) fn make_durable(&mut self, number: GroupNumber, from: Offset) {
        // Whoever waits for this is owed what is published from here on.
        let next = from.max(self.shared.journal.end());
        let Some(resident) = self.groups.residents.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut resident.durable, true) {
            return;
        }
        let plain = resident.plain.clone();
        let filter = resident.filter.clone();
        let state = &resident.state;
        let slot = match state {
            GroupState::Active(slot) => Some(*slot),
            GroupState::Fresh(_) | GroupState::Passive | GroupState::Quarantined => None,
        };
        self.append(Entry::group(number, GroupChange::Created { filter, next }));
        self.hold(&plain);
        let awaited = if slot.is_some_and(|slot| self.listens(slot)) {
            self.mark_shards(number)
        } else {
            0 // nobody was promised anything yet
        };
        if let Some(resident) = self.groups.get(number) {
            resident.switch = Some(Switch { next, awaited });
        }
        self.switch_if_due(number);
    }

    /// Asks all other shards for an answer behind what they routed to this one; gives how many.
    fn mark_shards(&mut self, number: GroupNumber) -> usize {
        let home = self.shard;
        let outboxes = self.groups.outboxes.iter_mut().enumerate();
        let others = outboxes.filter(|(shard, _)| *shard != usize::from(home.0));
        others
            .map(|(_, outbox)| {
                outbox
                    .for_groups
                    .push(ForGroup::Mark(GroupRef { number, home }))
            })
            .count()
    }

    /// Nothing comes from one more shard that was routed by the routes of before.
    pub(super) fn marked(&mut self, number: GroupNumber) {
        let resident = self.groups.get(number);
        if let Some(switch) = resident.and_then(|resident| resident.switch.as_mut()) {
            switch.awaited = switch.awaited.saturating_sub(1);
        }
        self.switch_if_due(number);
    }

    fn switch_if_due(&mut self, number: GroupNumber) {
        let Some(resident) = self.groups.get(number) else {
            return;
        };
        let Some(switch) = resident.switch.take_if(|switch| switch.awaited == 0) else {
            return;
        };
        let next = switch.next;
        match &mut resident.state {
            GroupState::Fresh(from) => *from = Some(next),
            GroupState::Active(slot) => {
                let slot = *slot;
                if self.listens(slot) {
                    // At once: what comes next comes from the journal, whenever the actor hears of it.
                    self.listen_group(slot, number, true);
                }
                if let Some(state) = self.slot(slot) {
                    state.tell_group(ToGroup::Durable(next));
                }
            }
            GroupState::Passive | GroupState::Quarantined => {}
        }
        self.answer_askers(number);
    }

    /// Whether all that is published reaches a group, or waits for it. One that is quarantined nobody waits for.
    fn is_in_force(&mut self, number: GroupNumber) -> bool {
        let Some(resident) = self.groups.get(number) else {
            return true;
        };
        if resident.durable {
            return resident.reads_journal();
        }
        match resident.state {
            GroupState::Active(slot) => self.listens(slot),
            GroupState::Fresh(_) | GroupState::Passive => false,
            GroupState::Quarantined => true,
        }
    }

    /// Whether the group in `slot` reads its filter.
    fn listens(&mut self, slot: Slot) -> bool {
        self.slot(slot)
            .is_some_and(|state| !state.filters.is_empty())
    }
}
