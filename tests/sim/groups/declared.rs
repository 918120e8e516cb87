//! Declared groups: an operator declares them and takes them back while members come and go.

use std::collections::BTreeMap;

use outlive_actors::actor::protocol::{ForGroup, GroupBatch};
use outlive_actors::model::group::Strategy;
use outlive_actors::model::group::directory::{Standing, name_of};
use outlive_actors::model::ids::GroupNumber;
use outlive_actors::model::message::Message;
use outlive_actors::model::topic::Filter;

use super::account::counts;
use super::routes::Travels;
use super::{Groups, SHARDS, home_of, plain};
use crate::seen::Seen;
use crate::world::World;

impl Groups {
    fn is_declared(&self, filter: &Filter) -> bool {
        self.directory.declared().contains_key(name_of(filter))
    }

    /// Groups that wait for members.
    fn lonely(&self) -> Vec<(Filter, Standing)> {
        let all = self.directory.iter();
        let lonely = all.filter(|(_, standing)| standing.members == 0);
        lonely
            .map(|(filter, standing)| (filter.clone(), standing))
            .collect()
    }

    /// A member has these options now: a group is durable if a kept member or its declaration wants it.
    pub(super) fn check_granted(&self, filter: &Filter, kept: bool, queues: bool) {
        let standing = self.directory.get(filter);
        let durable = standing.is_some_and(|standing| standing.durable_from.is_some());
        let wanted = kept || (queues && self.is_declared(filter));
        assert!(durable || !wanted, "{filter} is not durable");
    }

    /// A declared group that is durable stays the same one, with members or without; no other lives without any.
    pub(crate) fn check_declared(&mut self) {
        for (filter, standing) in self.lonely() {
            let stays = self.is_declared(&filter) && standing.durable_from.is_some();
            assert!(stays, "{filter} has no members and is not declared");
        }
        for (filter, number) in std::mem::take(&mut self.declared) {
            let now = self.directory.get(&filter).map(|standing| standing.number);
            let taken_back = !self.is_declared(&filter);
            assert!(
                taken_back || now == Some(number),
                "{filter} was {number:?}, is {now:?}"
            );
        }
        let all = self.directory.iter();
        let declared = all.filter(|(filter, standing)| {
            standing.durable_from.is_some() && self.is_declared(filter)
        });
        let declared = declared.map(|(filter, standing)| (filter.clone(), standing.number));
        self.declared = declared.collect();
    }
}

impl World {
    /// An operator declares these groups and no others; their homes hear of it in their own time.
    pub(crate) fn declare_groups(&mut self) {
        let mut declared: BTreeMap<Box<str>, Option<Strategy>> = BTreeMap::new();
        for name in ["declared", "g"] {
            if self.rng.permille(600) {
                let own = self.rng.permille(500);
                let (_, strategy) = *self.rng.pick(&Strategy::ALL);
                declared.insert(name.into(), own.then_some(strategy));
            }
        }
        self.note(|| format!("declared from now on: {declared:?}"));
        let lonely = self.groups.lonely();
        let changed = self.groups.directory.declare(declared);
        for (filter, standing) in lonely {
            let now = self.groups.directory.get(&filter);
            if now.is_none_or(|now| now.number != standing.number) {
                self.saw(Seen::GroupTakenBack);
            }
        }
        for filter in changed {
            let way = (SHARDS, home_of(&filter));
            let asker = None;
            let mut batch = GroupBatch::default();
            batch.for_groups.push(ForGroup::Changed { filter, asker });
            let waiting = self.groups.ways.entry(way).or_default();
            waiting.push_back(Travels::Talk(batch));
        }
    }

    /// A message is in the journal: some group without members may wait with it.
    pub(super) fn watch_waiting(&mut self, message: &Message) {
        let lonely = self.groups.lonely();
        if lonely
            .iter()
            .any(|(filter, _)| counts(&plain(filter), message))
        {
            self.saw(Seen::RecordWaitsForMembers);
        }
    }

    /// Nobody is there: what nobody had waits at the group's cursor, or is named behind it.
    pub(super) fn group_waits(&self, filter: &Filter, number: GroupNumber) {
        let snapshot = self.journal.groups.get(&number);
        let snapshot = snapshot.unwrap_or_else(|| panic!("{filter} has no progress"));
        let account = &self.groups.account;
        let start = account.start(number).unwrap();
        for (at, message) in self.journal.messages(start, self.journal.end) {
            let waits = at >= snapshot.next || snapshot.unsettled.contains(&at);
            let settled = message.is_expired(self.time)
                || account.is_settled((number, at), |member| self.lives(member));
            assert!(
                waits || settled || !counts(&plain(filter), message),
                "{filter}: {at:?} is lost while nobody is there: {snapshot:?}"
            );
        }
    }
}
