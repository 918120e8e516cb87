//! Limits of groups: who is refused and why, and that a refusal leaves no trace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use outlive_actors::model::effect::{Effect, Input};
use outlive_actors::model::group::directory::name_of;
use outlive_actors::model::ids::{SessionNumber, Timestamp};
use outlive_actors::model::packet::{Inbound, Outbound};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::topic::Filter;

use super::Groups;
use crate::rng::Rng;
use crate::seen::Seen;
use crate::world::{Actor, World};

/// Changes are counted over so many milliseconds.
const WINDOW_MILLIS: u64 = 1000;

/// Joins and leaves of a name.
#[derive(Default)]
pub(super) struct Changes {
    all: VecDeque<Timestamp>,
    joins: VecDeque<Timestamp>,
}

impl Changes {
    /// Changes and joins of the last second.
    fn recent(&mut self, now: Timestamp) -> (usize, usize) {
        for known in [&mut self.all, &mut self.joins] {
            while known
                .front()
                .is_some_and(|at| now.millis_since(*at) >= WINDOW_MILLIS)
            {
                known.pop_front();
            }
        }
        (self.all.len(), self.joins.len())
    }
}

/// What became of the shared subscriptions of a SUBSCRIBE before its session decided.
#[derive(Default)]
pub(crate) struct Joining {
    joined: Vec<Filter>,
    /// Those that were refused, and whether the session had them.
    refused: Vec<(Filter, bool)>,
}

/// A limit that often is none.
pub(super) fn some_limit(rng: &mut Rng, limits: &[u32]) -> u32 {
    if rng.permille(850) {
        0
    } else {
        *rng.pick(limits)
    }
}

impl Groups {
    /// Why nobody may join, as far as counts say; `None` if they allow it.
    fn over_count(&self, filter: &Filter, session: SessionNumber) -> Option<Seen> {
        let reached = |count: usize, max: u32| max > 0 && count >= max as usize;
        let name = name_of(filter);
        let all: Vec<_> = self.directory.iter().collect();
        let names: BTreeSet<_> = all.iter().map(|(known, _)| name_of(known)).collect();
        let mine = all.iter().filter(|(known, _)| name_of(known) == name);
        let members: usize = mine.clone().map(|(_, standing)| standing.members).sum();
        let is_new = !all.iter().any(|(known, _)| *known == filter);
        let is_member = self.directory.filters_of(session).contains(filter);
        let limits = &self.limits;
        if !names.contains(name) && reached(names.len(), limits.groups_max) {
            Some(Seen::GroupRefused)
        } else if is_new && reached(mine.count(), limits.filters_per_group_max) {
            Some(Seen::FilterRefused)
        } else if !is_member && reached(members, limits.members_per_group_max) {
            Some(Seen::MemberRefused)
        } else {
            None
        }
    }

    fn changes_of(&mut self, filter: &Filter) -> &mut Changes {
        self.changes.entry(name_of(filter).into()).or_default()
    }

    /// A session left, or its subscription was not granted.
    pub(super) fn noted_leave(&mut self, filter: &Filter, now: Timestamp) {
        self.changes_of(filter).all.push_back(now);
    }

    /// A session asks to join: gives the refusal, if that is right.
    fn try_join(
        &mut self,
        filter: &Filter,
        session: SessionNumber,
        now: Timestamp,
    ) -> Result<(), Seen> {
        let over = self.over_count(filter, session);
        let max = self.limits.changes_per_second_max as usize;
        let (changes, joins) = self.changes_of(filter).recent(now);
        let before = (
            self.directory.get(filter),
            self.directory.tally().all().count,
        );
        let filters = self.directory.filters_of(session);
        match self.directory.join(filter, session, now) {
            Ok(()) => {
                assert_eq!(over, None, "{filter} has no room for {session:?}");
                assert!(
                    max == 0 || joins < 2 * max,
                    "{joins} joins of {filter} in a second"
                );
                let changes = self.changes_of(filter);
                changes.all.push_back(now);
                changes.joins.push_back(now);
                Ok(())
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::SharedQuota);
                let too_fast = max > 0 && changes >= max;
                assert!(over.is_some() || too_fast, "{session:?} may join {filter}");
                let after = (
                    self.directory.get(filter),
                    self.directory.tally().all().count,
                );
                assert_eq!(before, after, "{filter}: a refused join leaves a trace");
                assert_eq!(filters, self.directory.filters_of(session), "{filter}");
                Err(over.unwrap_or(Seen::ChangeRefused))
            }
        }
    }
}

impl World {
    /// Enters the session into the directory before it decides on a SUBSCRIBE; a refusal stands in the packet.
    pub(crate) fn join_groups(&mut self, actor: &Actor, input: &mut Input) -> Joining {
        let mut joining = Joining::default();
        let Input::Packet {
            fence,
            packet: Inbound::Subscribe { filters, .. },
        } = input
        else {
            return joining;
        };
        let session = &actor.session;
        if *fence != session.fence() || !session.is_attached() {
            return joining;
        }
        for (filter, _, refusal) in filters.iter_mut().filter(|(filter, ..)| filter.is_shared()) {
            match self.groups.try_join(filter, session.number(), self.time) {
                Ok(()) => joining.joined.push(filter.clone()),
                Err(why) => {
                    *refusal = Some(Refusal::SharedQuota);
                    let known = session.subscriptions().get(filter).is_some();
                    joining.refused.push((filter.clone(), known));
                    self.saw(why);
                }
            }
        }
        joining
    }

    /// The session has decided: what is refused is as it was, and its client is told why.
    pub(crate) fn refused_groups(&self, actor: &Actor, joining: &Joining, effects: &[Effect]) {
        let subscriptions = actor.session.subscriptions();
        for (filter, known) in &joining.refused {
            assert_eq!(subscriptions.get(filter).is_some(), *known, "{filter}");
            let joins =
                |effect: &Effect| matches!(effect, Effect::Join { filter: it, .. } if it == filter);
            assert!(!effects.iter().any(joins), "{filter} is refused and joined");
        }
        let told = effects.iter().find_map(|effect| match effect {
            Effect::Send(Outbound::SubAck { results, .. }) => Some(results),
            _ => None,
        });
        let told = told.into_iter().flatten();
        let told = told
            .filter(|result| **result == Err(Refusal::SharedQuota))
            .count();
        assert_eq!(told, joining.refused.len(), "refusals in SUBACK");
    }

    /// Its effects are performed: what it refused it did not join.
    pub(crate) fn joined_groups(&mut self, actor: &Actor, joining: &Joining) {
        for filter in &joining.joined {
            if actor.session.subscriptions().get(filter).is_none() {
                let number = actor.session.number();
                self.groups.directory.leave(filter, number);
                self.groups.noted_leave(filter, self.time);
            }
        }
    }
}

pub(super) type AllChanges = BTreeMap<Box<str>, Changes>;
