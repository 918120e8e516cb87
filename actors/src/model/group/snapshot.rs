//! A durable group's state as a plain value: what a checkpoint stores and an actor is rebuilt from.
//!
//! Invariant: a snapshot is the fold of the group's own journal records and of its members' [`Change::Sent`] records,
//! which name the group: from that record on the delivery is the member's alone. So no crash can come between "begun by
//! the member" and "done for the group".
//!
//! [`Change::Sent`]: crate::model::entry::Change::Sent

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::entry::GroupChange;
use crate::model::ids::{GroupNumber, Offset};
use crate::model::topic::Filter;

/// A durable group's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// The group's number.
    pub number: GroupNumber,
    /// The shared subscription, as its members write it.
    pub filter: Filter,
    /// The next offset to read.
    pub next: Offset,
    /// Records below `next` that must be leased again.
    pub unsettled: BTreeSet<Offset>,
    /// Records taken for good by a member that a read from `next` must pass, or that progress recorded meanwhile may
    /// still name.
    pub taken: BTreeSet<Offset>,
    /// The journal offset up to which changes are applied (exclusive).
    pub covers: Offset,
}

impl GroupSnapshot {
    /// The state after a group's first record, at `at`.
    pub fn created(number: GroupNumber, filter: Filter, next: Offset, at: Offset) -> Self {
        Self {
            number,
            filter,
            next,
            unsettled: BTreeSet::new(),
            taken: BTreeSet::new(),
            covers: at.next(),
        }
    }

    /// Applies the change recorded at `at`. A record below `covers` is already in. `Created` and `Ended` are the
    /// caller's: they make and remove snapshots.
    pub fn apply(&mut self, at: Offset, change: &GroupChange) {
        if at < self.covers {
            return;
        }
        self.covers = at.next();
        match change {
            GroupChange::Created { .. } | GroupChange::Ended => {}
            GroupChange::Progress { next, unsettled } => self.progress(*next, unsettled),
            GroupChange::Taken { offset } => self.take(*offset),
        }
    }

    /// A member's session recorded at `at` that it is about to send `offset` with QoS 2.
    pub fn apply_sent(&mut self, at: Offset, offset: Offset) {
        if at >= self.covers {
            self.covers = at.next();
            self.take(offset);
        }
    }

    /// The smallest offset whose record this group may still need.
    pub fn needed_from(&self) -> Offset {
        let unsettled = self.unsettled.first().copied();
        unsettled.map_or(self.next, |first| first.min(self.next))
    }

    fn take(&mut self, offset: Offset) {
        self.unsettled.remove(&offset);
        self.taken.insert(offset);
    }

    /// The group may not have known yet what its members took: that stays taken.
    fn progress(&mut self, next: Offset, unsettled: &[Offset]) {
        self.next = next;
        self.unsettled = unsettled.iter().copied().collect();
        self.taken
            .retain(|offset| *offset >= next || self.unsettled.contains(offset));
        for offset in &self.taken {
            self.unsettled.remove(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(set: &BTreeSet<Offset>) -> Vec<u64> {
        set.iter().map(|offset| offset.0).collect()
    }

    fn progress(next: u64, unsettled: &[u64]) -> GroupChange {
        GroupChange::Progress {
            next: Offset(next),
            unsettled: unsettled.iter().copied().map(Offset).collect(),
        }
    }

    fn group() -> GroupSnapshot {
        let filter = Filter::new("$share/g/a").unwrap();
        GroupSnapshot::created(GroupNumber(1), filter, Offset(10), Offset(9))
    }

    #[test]
    fn what_a_member_took_stays_taken_though_older_progress_names_it() {
        let mut group = group();
        group.apply_sent(Offset(20), Offset(12));
        group.apply(Offset(21), &progress(15, &[11, 12]));
        assert_eq!(offsets(&group.unsettled), [11]);
        group.apply(Offset(22), &progress(16, &[11, 12, 15]));
        assert_eq!(offsets(&group.unsettled), [11, 15]);
        group.apply(Offset(23), &progress(16, &[11]));
        assert_eq!(
            offsets(&group.taken),
            [] as [u64; 0],
            "nobody will name it again"
        );
        assert_eq!(group.needed_from(), Offset(11));
    }

    #[test]
    fn what_was_taken_behind_the_cursor_is_passed_by_the_next_read() {
        let mut group = group();
        group.apply(Offset(20), &GroupChange::Taken { offset: Offset(14) });
        group.apply(Offset(21), &progress(12, &[]));
        assert_eq!(offsets(&group.taken), [14]);
        group.apply(Offset(21), &progress(99, &[]));
        assert_eq!(
            group.next,
            Offset(12),
            "a record that is already in changes nothing"
        );
        group.apply(Offset(22), &progress(15, &[]));
        assert_eq!(offsets(&group.taken), [] as [u64; 0]);
    }
}
