//! What members say of what they have, and how the group's progress is recorded.

use super::talk::{FromMember, Online, Place, Said, is_in_memory};
use super::{Group, GroupEffect, LeaseState, Leasing};
use crate::model::counter::Counter;
use crate::model::entry::GroupChange;
use crate::model::ids::{Fence, Now, Offset, SessionNumber};
use crate::model::message::QoS;

impl Group {
    pub(super) fn said(&mut self, now: Now, from: FromMember, effects: &mut Vec<GroupEffect>) {
        let FromMember {
            member,
            place,
            said,
        } = from;
        match said {
            Said::Online(online) => self.online(member, place, &online),
            Said::Offline { fence, keeps } => self.offline(now, member, fence, &keeps, effects),
            Said::Lost => self.lost(member),
            Said::Found { keeps } => self.found(now, member, &keeps, effects),
            Said::Left => self.left(now, member, effects),
            Said::Settled(fence, at) => {
                if self.take_lease(member, fence, at).is_some() {
                    self.members.freed(member, fence);
                    effects.push(GroupEffect::Count(Counter::GroupSettled));
                    self.changed(now, at, effects);
                }
            }
            Said::Taken(fence, at) => {
                if self.take_lease(member, fence, at).is_some() {
                    effects.push(GroupEffect::Count(Counter::GroupSettled));
                    self.changed(now, at, effects);
                }
            }
            Said::Freed(fence) => self.members.freed(member, fence),
            Said::Returned {
                fence,
                at,
                message,
                full,
            } => {
                if self.take_lease(member, fence, at).is_some() {
                    effects.push(GroupEffect::Count(Counter::GroupReturned));
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
    pub(super) fn changed(&mut self, now: Now, at: Offset, effects: &mut Vec<GroupEffect>) {
        if is_in_memory(at) || !self.durable {
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
        if self.durable && self.progress_at.is_none() && (self.listening || self.unrecorded > 0) {
            let millis = if self.unrecorded > 0 {
                self.limits.progress_millis
            } else {
                self.limits.progress_idle_millis
            };
            self.progress_at = Some(now.time.plus_millis(millis));
        }
    }

    /// Records how far the group came, if that is news.
    pub(super) fn record_progress(&mut self, now: Now, effects: &mut Vec<GroupEffect>) {
        if !self.durable {
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

    /// Records of the journal that were handed out by the cursor and are not settled, ascending.
    pub fn unsettled(&self) -> Vec<Offset> {
        let leased = self.leases.keys();
        let mut unsettled: Vec<_> = leased
            .chain(self.front.keys())
            .chain(&self.returned)
            .copied()
            .filter(|at| !is_in_memory(*at))
            .collect();
        unsettled.sort_unstable();
        unsettled
    }

    fn online(&mut self, member: SessionNumber, place: Place, online: &Online) {
        self.awaited.remove(&member);
        self.members.join(member, place, online);
        for at in &online.holds {
            // It was rebuilt and thought that nobody has it.
            self.returned.remove(at);
            self.front.remove(at);
            let lease = self.leases.entry(*at).or_insert(Leasing {
                member,
                fence: online.fence,
                qos: online.qos,
                state: LeaseState::Out,
                message: None,
            });
            if lease.member == member {
                lease.fence = online.fence;
            }
        }
    }

    fn offline(
        &mut self,
        now: Now,
        member: SessionNumber,
        fence: Fence,
        keeps: &[Offset],
        effects: &mut Vec<GroupEffect>,
    ) {
        self.awaited.remove(&member);
        if self.members.get(member, fence).is_some() {
            self.members.leave(member);
        }
        for at in self.leases_of(member, |lease| lease.fence == fence) {
            let Some(lease) = self.leases.get_mut(&at) else {
                continue;
            };
            if keeps.contains(&at) {
                lease.state = LeaseState::Begun;
            } else if let Some(lease) = self.leases.remove(&at) {
                self.give_back(at, lease, effects);
                self.changed(now, at, effects);
            }
        }
    }

    /// A member's actor died: what it has begun with QoS 2 is known when it is back.
    fn lost(&mut self, member: SessionNumber) {
        self.awaited.remove(&member);
        self.members.leave(member);
        for lease in self.leases.values_mut() {
            if lease.member == member {
                lease.state = LeaseState::Lost;
            }
        }
    }

    /// The session of a member whose actor died is back.
    fn found(
        &mut self,
        now: Now,
        member: SessionNumber,
        keeps: &[Offset],
        effects: &mut Vec<GroupEffect>,
    ) {
        for at in self.leases_of(member, |lease| lease.state == LeaseState::Lost) {
            let Some(lease) = self.leases.remove(&at) else {
                continue;
            };
            if keeps.contains(&at) {
                effects.push(GroupEffect::Count(Counter::GroupSettled));
            } else {
                self.give_back(at, lease, effects);
            }
            self.changed(now, at, effects);
        }
    }

    /// It unsubscribed, or its session is over. What it was sent while it is online it finishes; what was begun and never
    /// will be finished nobody else gets ([MQTT-4.8.2-5]).
    fn left(&mut self, now: Now, member: SessionNumber, effects: &mut Vec<GroupEffect>) {
        self.awaited.remove(&member);
        self.members.leave(member);
        for at in self.leases_of(member, |lease| lease.state != LeaseState::Out) {
            let Some(lease) = self.leases.remove(&at) else {
                continue;
            };
            match (lease.state, lease.qos) {
                (LeaseState::Lost, QoS::AtMostOnce | QoS::AtLeastOnce) => {
                    self.give_back(at, lease, effects);
                }
                (LeaseState::Lost, QoS::ExactlyOnce) => {
                    effects.push(GroupEffect::Count(Counter::DroppedSessionEnded));
                }
                // Its session counted it with its window.
                (LeaseState::Begun | LeaseState::Out, _) => {}
            }
            self.changed(now, at, effects);
        }
    }

    fn leases_of(&self, member: SessionNumber, which: impl Fn(&Leasing) -> bool) -> Vec<Offset> {
        let leases = self.leases.iter();
        leases
            .filter(|(_, lease)| lease.member == member && which(lease))
            .map(|(at, _)| *at)
            .collect()
    }

    fn take_lease(&mut self, member: SessionNumber, fence: Fence, at: Offset) -> Option<Leasing> {
        let lease = self.leases.get(&at)?;
        if lease.member != member || lease.fence != fence {
            return None;
        }
        self.leases.remove(&at)
    }

    /// Somebody else gets it.
    fn give_back(&mut self, at: Offset, lease: Leasing, effects: &mut Vec<GroupEffect>) {
        effects.push(GroupEffect::Count(Counter::GroupReturned));
        match lease.message {
            Some(message) => self.hold(at, message),
            None => {
                self.returned.insert(at);
            }
        }
    }
}
