//! What a group does not know because an actor died, its own or a member's, and how it finds out.
//!
//! Members say what they have of QoS 1, and that first: whatever the dead actor leased has reached them when they answer.
//! What a member has begun with QoS 2 stands in the journal. So the group recalls its snapshot behind their answers, and
//! behind the word that a member's actor died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::members::Strategy;
use super::snapshot::GroupSnapshot;
use super::talk::{Lease, MEMORY_LEASES_FROM, Place, is_in_memory};
use super::{Backing, Group, GroupEffect};
use crate::model::counter::Counter;
use crate::model::cursor::Cursor;
use crate::model::effects::Effects;
use crate::model::ids::{Fence, GroupNumber, Now, Offset, SessionNumber};
use crate::model::limits::SessionLimits;
use crate::model::message::QoS;
use crate::model::topic::Filter;

/// Leases in memory that one actor of a group can number; a rebuilt one does not use numbers that members may still hold.
const MEMORY_LEASES_EACH: u64 = 1 << 40;

/// What a group does not know.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    /// Members that were online when the group's actor died, and have not said yet what they have.
    awaited: BTreeMap<SessionNumber, Fence>,
    /// Records that a member whose actor died may have begun with QoS 2.
    begun: BTreeSet<Offset>,
    /// Those of them that the recall under way will tell about.
    asked: BTreeSet<Offset>,
    recalling: bool,
}

impl Doubts {
    /// Whether a member has yet to say what it has.
    pub(super) fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// A member said what it has under `fence`, or that it has nothing more.
    pub(super) fn answered(&mut self, member: SessionNumber, fence: Fence) {
        if self.awaited.get(&member) == Some(&fence) {
            self.awaited.remove(&member);
        }
    }

    /// A member will not answer.
    pub(super) fn gone(&mut self, member: SessionNumber) {
        self.awaited.remove(&member);
    }

    /// How many records may be begun.
    pub(super) fn begun(&self) -> usize {
        self.begun.len() + self.asked.len()
    }

    /// The records that may be begun.
    pub(super) fn records(&self) -> impl Iterator<Item = &Offset> {
        self.begun.iter().chain(&self.asked)
    }

    /// Whether a record may be begun.
    pub(super) fn holds(&self, at: Offset) -> bool {
        self.begun.contains(&at) || self.asked.contains(&at)
    }

    /// A record is not in doubt any more.
    pub(super) fn settled(&mut self, at: Offset) {
        self.begun.remove(&at);
        self.asked.remove(&at);
    }
}

impl Group {
    /// A durable group without an actor: how far it came says its snapshot.
    pub fn asleep(
        number: GroupNumber,
        filter: Filter,
        strategy: Strategy,
        limits: Arc<SessionLimits>,
    ) -> Self {
        Self {
            backing: Backing::Unread,
            ..Self::new(number, filter, strategy, limits)
        }
    }

    /// This group's actor died, for the `deaths`th time, while these members were online: they are asked what they have
    /// before anything else.
    pub fn recount(
        &mut self,
        deaths: u32,
        online: impl Iterator<Item = (SessionNumber, Fence, Place)>,
        effects: &mut Effects<GroupEffect>,
    ) {
        let first = MEMORY_LEASES_FROM.0 + u64::from(deaths) * MEMORY_LEASES_EACH;
        self.next_memory_lease = Offset(first);
        for (member, fence, place) in online {
            self.doubts.awaited.insert(member, fence);
            effects.push(GroupEffect::Lease {
                member,
                fence,
                place,
                lease: Lease::Recount,
            });
        }
    }

    /// Asks for the snapshot if there is something to learn from it.
    pub(super) fn recall(&mut self, effects: &mut Effects<GroupEffect>) {
        let wanted = self.backing == Backing::Unread || !self.doubts.begun.is_empty();
        if wanted && !self.doubts.recalling {
            self.doubts.recalling = true;
            self.doubts.asked.append(&mut self.doubts.begun);
            effects.push(GroupEffect::Recall);
        }
    }

    /// The snapshot holds what was recorded until it was asked for.
    pub(super) fn recalled(
        &mut self,
        now: Now,
        snapshot: Option<Box<GroupSnapshot>>,
        effects: &mut Effects<GroupEffect>,
    ) {
        self.doubts.recalling = false;
        let mut asked = std::mem::take(&mut self.doubts.asked);
        let Some(snapshot) = snapshot else {
            return self.doubts.begun.append(&mut asked);
        };
        for at in &asked {
            if snapshot.taken.contains(at) {
                effects.count(Counter::GroupSettled);
            } else {
                self.give_back(*at, None, effects);
            }
        }
        // Not before all have their place again: progress names what is unsettled.
        for at in asked {
            self.changed(now, at, effects);
        }
        if self.backing == Backing::Unread {
            self.wake_up(*snapshot);
            self.look_around(now, effects);
        }
    }

    fn wake_up(&mut self, snapshot: GroupSnapshot) {
        self.backing = Backing::Journal;
        self.cursor = Cursor::new(snapshot.next);
        self.recorded_next = snapshot.next;
        self.returned = snapshot.unsettled;
        let (leases, doubts) = (&self.leases, &self.doubts);
        self.returned
            .retain(|at| !self.taken.contains(at) && !leases.contains(*at) && !doubts.holds(*at));
        self.taken.extend(snapshot.taken);
    }

    /// A member's actor died: what it was sent with QoS 1 somebody else may get, what it began with QoS 2 is recorded.
    pub(super) fn lost(
        &mut self,
        now: Now,
        member: SessionNumber,
        effects: &mut Effects<GroupEffect>,
    ) {
        self.doubts.gone(member);
        self.members.leave(member);
        for at in self.leases_of(member, |_| true) {
            let Some(lease) = self.leases.remove(at) else {
                continue;
            };
            match lease.qos {
                QoS::AtMostOnce | QoS::AtLeastOnce => self.give_back(at, lease.message, effects),
                QoS::ExactlyOnce if is_in_memory(at) => {
                    // Nobody knows whether its client had it.
                    effects.count(Counter::DroppedSessionEnded);
                }
                QoS::ExactlyOnce => {
                    self.doubts.begun.insert(at);
                    continue;
                }
            }
            self.changed(now, at, effects);
        }
    }
}
