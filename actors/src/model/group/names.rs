//! The groups of a directory by name, and how many names each tenant has.
//!
//! Invariant: a name is here, and counted, as long as it has a group, and no longer.

use std::collections::BTreeMap;

use super::Strategy;
use super::directory::Standing;
use crate::model::ids::{GroupNumber, Offset, SessionNumber};
use crate::model::tally::Tally;
use crate::model::topic::Filter;

/// All names.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<Box<str>, Named>,
    tally: Tally,
    /// Names that were looked at one after the other.
    #[cfg(test)]
    pub(super) walked: std::cell::Cell<usize>,
}

/// The groups of one name, by filter.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) filters: BTreeMap<Filter, Membership>,
}

/// The members of one group.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) number: GroupNumber,
    /// Whether each of them needs the group to be durable.
    pub(super) members: BTreeMap<SessionNumber, bool>,
    pub(super) durable_from: Option<Offset>,
}

impl Names {
    /// How many there are.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn get(&self, name: &str) -> Option<&Named> {
        self.known.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Named> {
        self.known.get_mut(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Named)> {
        self.known.iter().map(|(name, named)| {
            #[cfg(test)]
            self.walked.update(|walked| walked + 1);
            (&**name, named)
        })
    }

    /// The groups of a name, which the caller gives one if it has none.
    pub(super) fn enter(&mut self, name: &str) -> &mut Named {
        if !self.known.contains_key(name) {
            self.tally.replace(name, None, Some(0));
        }
        self.known.entry(name.into()).or_default()
    }

    /// Drops a name if it has no group.
    pub(super) fn tidy(&mut self, name: &str) {
        if let Some(named) = self.known.get(name)
            && named.filters.is_empty()
        {
            self.known.remove(name);
            self.tally.replace(name, Some(0), None);
        }
    }

    /// Changes the groups of every name; those that have none then are dropped.
    pub(super) fn change_each(&mut self, mut change: impl FnMut(&str, &mut Named)) {
        let tally = &mut self.tally;
        self.known.retain(|name, named| {
            change(name, named);
            let stays = !named.filters.is_empty();
            if !stays {
                tally.replace(name, Some(0), None);
            }
            stays
        });
    }
}

impl Named {
    /// Members of all its groups, a session once for each.
    pub(super) fn members(&self) -> usize {
        let filters = self.filters.values();
        filters.map(|filter| filter.members.len()).sum()
    }
}

impl Membership {
    pub(super) fn new(number: GroupNumber) -> Self {
        Self {
            number,
            members: BTreeMap::new(),
            durable_from: None,
        }
    }

    pub(super) fn standing(&self, strategy: Strategy) -> Standing {
        Standing {
            number: self.number,
            durable_from: self.durable_from,
            members: self.members.len(),
            strategy,
        }
    }
}
