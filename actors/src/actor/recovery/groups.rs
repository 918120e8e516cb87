//! Which groups survive a start: those with a member session that lives on, and declared ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SessionSummary;
use crate::model::group::directory::Directory;
use crate::model::ids::{GroupNumber, Offset, SessionNumber};
use crate::model::limits::SharedLimits;
use crate::model::topic::Filter;

/// A group that survived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its number.
    pub number: GroupNumber,
    /// The shared subscription.
    pub filter: Filter,
    /// It has a snapshot. Otherwise the crash came between its first member and its own first record, or it is not
    /// durable.
    pub recorded: bool,
}

/// Gathers what recovery finds of groups.
#[derive(Debug, Default)]
pub struct GroupsFound {
    groups: BTreeMap<GroupNumber, (Filter, Offset)>,
    members: Vec<(SessionNumber, Filter, Offset, bool)>,
}

impl GroupsFound {
    /// A session that lives on.
    pub fn session(&mut self, summary: &SessionSummary) {
        for (filter, from, queues) in &summary.shared {
            self.members
                .push((summary.number, filter.clone(), *from, *queues));
        }
    }

    /// A group with a snapshot.
    pub fn group(&mut self, number: GroupNumber, filter: Filter, next: Offset) {
        self.groups.insert(number, (filter, next));
    }

    /// The directory, the groups that survive, and those that are over.
    pub fn settle(
        self,
        limits: Arc<SharedLimits>,
        epoch: u32,
    ) -> (Directory, Vec<GroupSummary>, Vec<GroupNumber>) {
        let mut directory = Directory::new(limits, u64::from(epoch) << 40);
        let mut over = Vec::new();
        // Ascending: of two under one name the younger one counts, the end of the other was not recorded any more.
        for (number, (filter, next)) in &self.groups {
            over.extend(directory.get(filter).map(|before| before.number));
            directory.inherit_group(filter, *number, *next);
        }
        for (session, filter, from, queues) in &self.members {
            directory.inherit_member(filter, *session, *queues, *from);
        }
        over.extend(directory.disinherit());
        let survivors = directory.iter().map(|(filter, standing)| GroupSummary {
            number: standing.number,
            filter: filter.clone(),
            recorded: self.groups.contains_key(&standing.number),
        });
        let survivors = survivors.collect();
        (directory, survivors, over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::recovery::GroupsFound;

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    fn settle(found: GroupsFound, limits: SharedLimits) -> (Vec<(u64, bool)>, Vec<u64>) {
        let (_, survivors, over) = found.settle(Arc::new(limits), 3);
        let survivors = survivors.iter();
        (
            survivors
                .map(|group| (group.number.0, group.recorded))
                .collect(),
            over.iter().map(|number| number.0).collect(),
        )
    }

    #[test]
    fn a_group_without_a_member_is_over_unless_it_is_declared() {
        let found = || {
            let mut found = GroupsFound::default();
            found.group(GroupNumber(1), filter("$share/a/t"), Offset(5));
            found.group(GroupNumber(2), filter("$share/b/t"), Offset(6));
            let member = (SessionNumber(9), filter("$share/b/t"), Offset(2), true);
            found.members.push(member);
            found
        };
        assert_eq!(
            settle(found(), SharedLimits::default()),
            (vec![(2, true)], vec![1])
        );
        let declared = SharedLimits {
            declared: [("a".into(), None)].into(),
            ..SharedLimits::default()
        };
        assert_eq!(
            settle(found(), declared),
            (vec![(1, true), (2, true)], vec![])
        );
    }

    #[test]
    fn of_two_groups_of_one_name_the_younger_one_counts_and_a_member_without_one_makes_one() {
        let mut found = GroupsFound::default();
        found.group(GroupNumber(1), filter("$share/a/t"), Offset(5));
        found.group(GroupNumber(4), filter("$share/a/t"), Offset(6));
        for text in ["$share/a/t", "$share/new/t"] {
            let member = (SessionNumber(9), filter(text), Offset(2), true);
            found.members.push(member);
        }
        assert_eq!(
            settle(found, SharedLimits::default()),
            (vec![(4, true), ((3 << 40) + 1, false)], vec![1])
        );
    }
}
