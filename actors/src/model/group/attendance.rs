//! Who of a group's members is online, and what was said to the group that no actor of it heard yet: what its home knows
//! of it, whether it has an actor or not.
//!
//! Invariants:
//! - what one word begins a later one ends: once something waits for an actor, all that follows waits too;
//! - while nobody is online and no actor is there, there is nothing that one would have to know.

use std::collections::BTreeMap;

use super::talk::{FromMember, Place, Said};
use crate::model::ids::{Fence, SessionNumber};

/// Who is there.
#[derive(Clone, Debug, Default)]
pub struct Attendance {
    online: BTreeMap<SessionNumber, (Fence, Place)>,
    said: Vec<FromMember>,
}

impl Attendance {
    /// A member said something; `has_actor` says that there is one to hear it. Gives whether something waits.
    pub fn hear(&mut self, from: FromMember, has_actor: bool) -> bool {
        match &from.said {
            Said::Online(online) => {
                let there = (online.fence, from.place);
                self.online.insert(from.member, there);
            }
            Said::Offline { fence, .. } => {
                let online = self.online.get(&from.member);
                if online.is_some_and(|(known, _)| known == fence) {
                    self.online.remove(&from.member);
                }
            }
            Said::Left | Said::Lost => {
                self.online.remove(&from.member);
            }
            Said::Recounted(_)
            | Said::Settled(..)
            | Said::Taken(..)
            | Said::Freed(_)
            | Said::Returned { .. }
            | Said::Room(..) => {}
        }
        if has_actor || !self.online.is_empty() || !self.said.is_empty() {
            self.add(from);
        }
        !self.said.is_empty()
    }

    /// What a member settles one after the other is heard as one word.
    fn add(&mut self, from: FromMember) {
        if let Said::Settled(fence, leases) = &from.said
            && let Some(last) = self.said.last_mut()
            && last.member == from.member
            && let Said::Settled(known, before) = &mut last.said
            && known == fence
        {
            return before.extend_from_slice(leases);
        }
        self.said.push(from);
    }

    /// Takes what waits.
    pub fn take_said(&mut self) -> Vec<FromMember> {
        std::mem::take(&mut self.said)
    }

    /// Whether nothing waits.
    pub fn is_heard(&self) -> bool {
        self.said.is_empty()
    }

    /// The members that are online: whom a rebuilt actor asks what they have.
    pub fn online(&self) -> impl ExactSizeIterator<Item = (SessionNumber, Fence, Place)> {
        let online = self.online.iter();
        online.map(|(member, (fence, place))| (*member, *fence, *place))
    }

    /// The fence under which a member is online.
    pub fn fence_of(&self, member: SessionNumber) -> Option<Fence> {
        self.online.get(&member).map(|(fence, _)| *fence)
    }
}

#[cfg(test)]
mod tests {
    use super::super::talk::Online;
    use super::*;
    use crate::model::ids::{Offset, ShardId};
    use crate::model::message::QoS;
    use crate::model::routes::Slot;

    fn said(said: Said) -> FromMember {
        FromMember {
            member: SessionNumber(1),
            place: Place {
                shard: ShardId(0),
                slot: Slot(0),
            },
            said,
        }
    }

    fn online(fence: u64) -> FromMember {
        said(Said::Online(Box::new(Online {
            by: None,
            fence: Fence(fence),
            max: 10,
            qos: QoS::AtLeastOnce,
            durable: false,
            holds: Vec::new(),
            taken: 0,
        })))
    }

    /// Otherwise the group would lease to it for ever: nobody else will say that it is gone.
    #[test]
    fn who_leaves_before_the_actor_is_there_is_heard_to_leave() {
        let mut attendance = Attendance::default();
        assert!(!attendance.hear(said(Said::Left), false), "nobody was here");
        assert!(attendance.hear(online(7), false));
        let (fence, keeps) = (Fence(7), Vec::new());
        attendance.hear(said(Said::Offline { fence, keeps }), false);
        assert_eq!(attendance.online().len(), 0);
        assert_eq!(attendance.take_said().len(), 2);
        assert!(attendance.is_heard());
    }

    #[test]
    fn what_a_member_settles_in_a_row_is_one_word() {
        let settled = |fence, leases: &[u64]| {
            let leases = leases.iter().map(|at| Offset(*at)).collect();
            said(Said::Settled(Fence(fence), leases))
        };
        let mut other = settled(7, &[4]);
        other.member = SessionNumber(2);
        let mut attendance = Attendance::default();
        for from in [
            settled(7, &[1]),
            settled(7, &[3]),
            settled(7, &[2]),
            other.clone(),
            settled(7, &[5]),
            settled(8, &[6]),
        ] {
            attendance.hear(from, true);
        }
        let expected = [
            settled(7, &[1, 3, 2]),
            other,
            settled(7, &[5]),
            settled(8, &[6]),
        ];
        assert_eq!(attendance.take_said(), expected);
    }

    #[test]
    fn an_older_connection_does_not_take_a_younger_one_along() {
        let mut attendance = Attendance::default();
        attendance.hear(online(7), true);
        attendance.hear(online(8), true);
        let (fence, keeps) = (Fence(7), Vec::new());
        attendance.hear(said(Said::Offline { fence, keeps }), true);
        assert_eq!(attendance.fence_of(SessionNumber(1)), Some(Fence(8)));
    }
}
