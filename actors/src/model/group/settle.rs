//! What members say of what they have, and how the group's progress is recorded.

use std::sync::Arc;

use super::talk::{FromMember, Online, Place, Said, is_in_memory};
use super::{Backing, Group, GroupEffect, LeaseState, Leasing};
use crate::model::counter::Counter;
use crate::model::effects::Effects;
use crate::model::entry::GroupChange;
use crate::model::ids::{Fence, Now, Offset, SessionNumber};
use crate::model::message::{Message, QoS};

impl Group {
    pub(super) fn said(&mut self, now: Now, from: FromMember, effects: &mut Effects<GroupEffect>) {
        let FromMember {
            member,
            place,
            said,
        } = from;
        match said {
            Said::Online(online) => self.online(member, place, *online),
            Said::Recounted(online) => {
                self.doubts.answered(member, online.fence);
                self.online(member, place, *online);
            }
            Said::Offline { fence, keeps } => self.offline(now, member, fence, &keeps, effects),
            Said::Lost => self.lost(now, member, effects),
            Said::Left => self.left(now, member, effects),
            Said::Settled(fence, leases) => {
                for at in leases {
                    let had = self.take_lease(member, fence, at).is_some();
                    if had {
                        self.members.freed(member, fence);
                    }
                    self.done(now, at, had, effects);
                }
            }
            Said::Taken(fence, at) => {
                let had = self.take_lease(member, fence, at).is_some();
                self.done(now, at, had, effects);
            }
            Said::Freed(fence) => self.members.freed(member, fence),
            Said::Returned {
                fence,
                at,
                message,
                full,
            } => {
                if self.take_lease(member, fence, at).is_some() {
                    effects.count(Counter::GroupReturned);
                    self.members.freed(member, fence);
                    self.hold(at, message);
                }
                if full {
                    self.members.full(member, fence);
                }
            }
            Said::Room(fence, room) => self.members.room(member, fence, room),
        }
        self.look_around(now, effects);
    }

    /// Progress is recorded soon, if it concerns the journal.
    pub(super) fn changed(&mut self, now: Now, at: Offset, effects: &mut Effects<GroupEffect>) {
        if is_in_memory(at) || !self.is_durable() {
            return;
        }
        self.unrecorded += 1;
        if self.unrecorded == 1 {
            self.progress_at = None;
        }
        if self.unrecorded >= self.limits.progress_acks_max {
            self.record_progress(now, effects);
        } else {
            self.schedule_progress(now);
        }
    }

    pub(super) fn schedule_progress(&mut self, now: Now) {
        let journal = self.backing == Backing::Journal;
        if journal && self.progress_at.is_none() && (self.listening || self.unrecorded > 0) {
            let millis = if self.unrecorded > 0 {
                self.limits.progress_millis
            } else {
                self.limits.progress_idle_millis
            };
            self.progress_at = Some(now.time.plus_millis(millis));
        }
    }

    /// Records how far the group came, if that is news.
    pub(super) fn record_progress(&mut self, now: Now, effects: &mut Effects<GroupEffect>) {
        if self.backing != Backing::Journal {
            return;
        }
        self.progress_at = None;
        self.cursor.advance(now.live_end);
        let next = self.cursor.next();
        if self.unrecorded > 0 || next != self.recorded_next {
            self.unrecorded = 0;
            self.recorded_next = next;
            self.taken.retain(|at| *at >= next);
            let unsettled = self.unsettled();
            effects.push(GroupEffect::Record(GroupChange::Progress {
                next,
                unsettled,
            }));
        }
        self.schedule_progress(now);
    }

    /// Records of the journal that the cursor has passed and that are not settled, ascending.
    pub fn unsettled(&self) -> Vec<Offset> {
        let next = self.cursor.next();
        let leased = self.leases.keys();
        let mut unsettled: Vec<_> = leased
            .chain(self.front.keys())
            .chain(self.returned.iter().copied())
            .chain(self.doubts.records().copied())
            .filter(|at| *at < next)
            .collect();
        unsettled.sort_unstable();
        unsettled
    }

    fn online(&mut self, member: SessionNumber, place: Place, mut online: Online) {
        if online.by != Some(self.number) {
            // It has something of a group that is over.
            (online.holds, online.taken) = (Vec::new(), 0);
        }
        self.members.join(member, place, &online);
        self.requalify(member, online.qos);
        for at in &online.holds {
            // An actor of this group that died leased it.
            self.returned.remove(at);
            self.front.remove(*at);
            if let Some(lease) = self.leases.get_mut(*at) {
                if lease.member == member {
                    lease.fence = online.fence;
                }
                continue;
            }
            let lease = Leasing {
                member,
                fence: online.fence,
                qos: QoS::AtLeastOnce,
                state: LeaseState::Out,
                message: None,
            };
            self.leases.insert(*at, lease);
        }
    }

    /// The member has another QoS: what is on its way to it, it may begin with that.
    fn requalify(&mut self, member: SessionNumber, qos: QoS) {
        for lease in self.leases.values_mut() {
            if lease.member == member {
                let begun = lease.message.as_ref().map_or(qos, |it| qos.min(it.qos));
                lease.qos = lease.qos.max(begun);
            }
        }
    }

    fn offline(
        &mut self,
        now: Now,
        member: SessionNumber,
        fence: Fence,
        keeps: &[Offset],
        effects: &mut Effects<GroupEffect>,
    ) {
        self.doubts.answered(member, fence);
        if self.members.get(member, fence).is_some() {
            self.members.leave(member);
        }
        for at in self.leases_of(member, |lease| lease.fence == fence) {
            let Some(lease) = self.leases.get_mut(at) else {
                continue;
            };
            if keeps.contains(&at) {
                lease.state = LeaseState::Begun;
            } else if let Some(lease) = self.leases.remove(at) {
                self.give_back(at, lease.message, effects);
                self.changed(now, at, effects);
            }
        }
    }

    /// It unsubscribed, or its session is over. What it was sent while it is online it finishes; what was begun and never
    /// will be finished nobody else gets ([MQTT-4.8.2-5]).
    fn left(&mut self, now: Now, member: SessionNumber, effects: &mut Effects<GroupEffect>) {
        self.doubts.gone(member);
        self.members.leave(member);
        for at in self.leases_of(member, |lease| lease.state == LeaseState::Begun) {
            // Its session counted it with its window.
            self.leases.remove(at);
            self.changed(now, at, effects);
        }
    }

    pub(super) fn leases_of(
        &self,
        member: SessionNumber,
        which: impl Fn(&Leasing) -> bool,
    ) -> Vec<Offset> {
        let leases = self.leases.iter();
        leases
            .filter(|(_, lease)| lease.member == member && which(lease))
            .map(|(at, _)| at)
            .collect()
    }

    fn take_lease(&mut self, member: SessionNumber, fence: Fence, at: Offset) -> Option<Leasing> {
        let is_theirs = |lease: &Leasing| lease.member == member && lease.fence == fence;
        self.leases.remove_if(at, is_theirs)
    }

    /// Somebody else gets it.
    pub(super) fn give_back(
        &mut self,
        at: Offset,
        message: Option<Arc<Message>>,
        effects: &mut Effects<GroupEffect>,
    ) {
        effects.count(Counter::GroupReturned);
        match message {
            Some(message) => self.hold(at, message),
            // What is ahead of the cursor it will bring.
            None if self.cursor.has_passed(at) => {
                self.returned.insert(at);
            }
            None => {}
        }
    }

    /// A member has settled or taken a record, by the lease that it `had` or another: nobody else gets it, also if an actor
    /// of this group that died had leased it.
    fn done(&mut self, now: Now, at: Offset, had: bool, effects: &mut Effects<GroupEffect>) {
        if !had && self.leases.contains(at) {
            return; // an older connection's word: somebody else has it by now
        }
        effects.count(Counter::GroupSettled);
        if is_in_memory(at) {
            return;
        }
        self.returned.remove(&at);
        self.front.remove(at);
        self.doubts.settled(at);
        if !self.cursor.has_passed(at) {
            self.taken.insert(at);
        }
        self.changed(now, at, effects);
    }
}
