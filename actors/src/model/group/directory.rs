//! Who belongs to which group: the one truth about membership, from SUBSCRIBE to the end of the subscription.
//!
//! Owns: members by group, whether a group is durable, which groups are declared, limits. Does not know: who is online, what groups lease. Shared by
//! all shards; locking is the caller's.
//!
//! Invariants:
//! - a member is in the directory before its SUBACK is decided, and never without a session that lives;
//! - a group that lost its last member is gone unless it is declared; the next one of its name has another number;
//! - joining and leaving twice changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Strategy;
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Timestamp};
use crate::model::limits::SharedLimits;
use crate::model::refusal::Refusal;
use crate::model::tenant;
use crate::model::topic::Filter;

/// Milliseconds over which changes are counted together.
const CHANGES_WINDOW_MILLIS: u64 = 1000;

/// All groups and their members.
#[derive(Debug)]
pub struct Directory {
    limits: Arc<SharedLimits>,
    /// Groups that live without members, and their strategy if they have one of their own.
    declared: BTreeMap<Box<str>, Option<Strategy>>,
    names: BTreeMap<Box<str>, Named>,
    /// The last number given.
    last: u64,
}

/// The filters of one group name.
#[derive(Debug, Default)]
struct Named {
    filters: BTreeMap<Filter, Membership>,
    changes: u32,
    changes_since: Timestamp,
}

/// The members of one group.
#[derive(Debug)]
struct Membership {
    number: GroupNumber,
    /// Whether each of them needs the group to be durable.
    members: BTreeMap<SessionNumber, bool>,
    durable_from: Option<Offset>,
}

/// What the directory says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub number: GroupNumber,
    /// Where it began to be durable, if it is.
    pub durable_from: Option<Offset>,
    /// Its members, online or not.
    pub members: usize,
    /// How it chooses the member that gets a message.
    pub strategy: Strategy,
}

impl Named {
    fn members(&self) -> usize {
        let filters = self.filters.values();
        filters.map(|filter| filter.members.len()).sum()
    }
}

impl Directory {
    /// No groups. Numbers follow `last`, which no group has or had.
    pub fn new(limits: Arc<SharedLimits>, last: u64) -> Self {
        Self {
            declared: limits.declared.clone(),
            limits,
            names: BTreeMap::new(),
            last,
        }
    }

    /// How many groups there are, by name.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All members of all groups, a session once for each of its filters.
    pub fn members(&self) -> usize {
        self.names.values().map(Named::members).sum()
    }

    /// A session subscribes to `filter`. One that does already stays.
    ///
    /// # Errors
    /// A limit, or a group that must be declared and is not; nothing changed.
    pub fn join(
        &mut self,
        filter: &Filter,
        session: SessionNumber,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let name = name_of(filter);
        if self.limits.require_declared && !self.is_declared(name) {
            return Err(Refusal::GroupNotDeclared);
        }
        let limits = Arc::clone(&self.limits);
        let Some(named) = self.names.get_mut(name) else {
            if reached(self.names.len(), limits.groups_max) {
                return Err(Refusal::SharedQuota);
            }
            self.names.insert(name.into(), Named::default());
            return self.join(filter, session, now);
        };
        let since = named.changes_since;
        if now.millis_since(since) >= CHANGES_WINDOW_MILLIS || now < since {
            (named.changes, named.changes_since) = (0, now);
        }
        let known = named.filters.get(filter);
        let member = known.is_some_and(|known| known.members.contains_key(&session));
        let refused = reached(named.changes as usize, limits.changes_per_second_max)
            || (known.is_none() && reached(named.filters.len(), limits.filters_per_group_max))
            || (!member && reached(named.members(), limits.members_per_group_max));
        if refused {
            self.tidy(name);
            return Err(Refusal::SharedQuota);
        }
        named.changes += 1;
        let last = &mut self.last;
        let known = named.filters.entry(filter.clone()).or_insert_with(|| {
            *last += 1;
            Membership::new(GroupNumber(*last))
        });
        known.members.entry(session).or_insert(false);
        Ok(())
    }

    /// The options of a member's subscription: `kept` if its session outlives its connection, `queues` if QoS 1 or 2 was
    /// granted. The first that needs it makes the group durable, from `log_end` on.
    pub fn grant(
        &mut self,
        filter: &Filter,
        session: SessionNumber,
        kept: bool,
        queues: bool,
        log_end: Offset,
    ) {
        let name = name_of(filter);
        let durable = queues && (kept || self.is_declared(name));
        let Some(known) = self.membership(filter) else {
            return;
        };
        let Some(member) = known.members.get_mut(&session) else {
            return;
        };
        *member = durable;
        if durable && known.durable_from.is_none() {
            known.durable_from = Some(log_end);
        }
    }

    /// A session does not subscribe to `filter` any more.
    pub fn leave(&mut self, filter: &Filter, session: SessionNumber) {
        let declared = self.is_declared(name_of(filter));
        let Some(named) = self.names.get_mut(name_of(filter)) else {
            return;
        };
        named.changes = named.changes.saturating_add(1);
        let Some(known) = named.filters.get_mut(filter) else {
            return;
        };
        known.members.remove(&session);
        if known.members.is_empty() && !(declared && known.durable_from.is_some()) {
            named.filters.remove(filter);
        }
        self.tidy(name_of(filter));
    }

    /// The shared subscriptions of a session.
    pub fn filters_of(&self, session: SessionNumber) -> Vec<Filter> {
        let filters = self.names.values().flat_map(|named| &named.filters);
        filters
            .filter(|(_, known)| known.members.contains_key(&session))
            .map(|(filter, _)| filter.clone())
            .collect()
    }

    /// A session came back from its snapshot, or is over: it subscribes to these and to no others. Gives those that it left.
    pub fn reconcile(&mut self, session: SessionNumber, subscribed: &[Filter]) -> Vec<Filter> {
        let mut left = self.filters_of(session);
        left.retain(|filter| !subscribed.contains(filter));
        for filter in &left {
            self.leave(filter, session);
        }
        left
    }

    /// A group that survived a restart, durable.
    pub fn inherit_group(&mut self, filter: &Filter, number: GroupNumber, from: Offset) {
        let named = self.names.entry(name_of(filter).into()).or_default();
        let known = Membership {
            durable_from: Some(from),
            ..Membership::new(number)
        };
        named.filters.insert(filter.clone(), known);
    }

    /// A member that survived a restart: no limit keeps it out.
    pub fn inherit_member(
        &mut self,
        filter: &Filter,
        session: SessionNumber,
        queues: bool,
        from: Offset,
    ) {
        let named = self.names.entry(name_of(filter).into()).or_default();
        let last = &mut self.last;
        let known = named.filters.entry(filter.clone()).or_insert_with(|| {
            *last += 1;
            Membership::new(GroupNumber(*last))
        });
        known.members.insert(session, queues);
        if queues {
            let from = known.durable_from.map_or(from, |known| known.min(from));
            known.durable_from = Some(from);
        }
    }

    /// Forgets what survived a restart without a member, unless it is declared; gives what it was.
    pub fn disinherit(&mut self) -> Vec<GroupNumber> {
        let declared = &self.declared;
        let mut gone = Vec::new();
        self.names.retain(|name, named| {
            if !declared.contains_key(tenant::split(name).1) {
                named.filters.retain(|_, known| {
                    let stays = !known.members.is_empty();
                    gone.extend((!stays).then_some(known.number));
                    stays
                });
            }
            !named.filters.is_empty()
        });
        gone
    }

    /// The declared groups, and their strategy if they have one of their own.
    pub fn declared(&self) -> &BTreeMap<Box<str>, Option<Strategy>> {
        &self.declared
    }

    /// From now on only these groups are declared. A group that is not any more and has no members is over. Gives the
    /// shared subscriptions whose standing may be another one now.
    pub fn declare(&mut self, declared: BTreeMap<Box<str>, Option<Strategy>>) -> Vec<Filter> {
        let before = std::mem::replace(&mut self.declared, declared);
        let mut changed = Vec::new();
        let declared = &self.declared;
        self.names.retain(|name, named| {
            let name = tenant::split(name).1;
            if declared.get(name) != before.get(name) {
                changed.extend(named.filters.keys().cloned());
            }
            if !declared.contains_key(name) {
                named.filters.retain(|_, known| !known.members.is_empty());
            }
            !named.filters.is_empty()
        });
        changed
    }

    /// Every group.
    pub fn iter(&self) -> impl Iterator<Item = (&Filter, Standing)> {
        let filters = self.names.iter().flat_map(|(name, named)| {
            let strategy = self.strategy_of(name);
            named.filters.iter().map(move |known| (known, strategy))
        });
        filters.map(|((filter, known), strategy)| (filter, known.standing(strategy)))
    }

    /// What is known of a group; `None` if there is none.
    pub fn get(&self, filter: &Filter) -> Option<Standing> {
        let name = name_of(filter);
        let known = self.names.get(name)?.filters.get(filter)?;
        Some(known.standing(self.strategy_of(name)))
    }

    fn strategy_of(&self, name: &str) -> Strategy {
        let declared = self.declared.get(tenant::split(name).1).copied().flatten();
        declared.unwrap_or(self.limits.strategy)
    }

    /// Each tenant has its own of every declared name.
    fn is_declared(&self, name: &str) -> bool {
        self.declared.contains_key(tenant::split(name).1)
    }

    fn membership(&mut self, filter: &Filter) -> Option<&mut Membership> {
        let named = self.names.get_mut(name_of(filter))?;
        named.filters.get_mut(filter)
    }

    fn tidy(&mut self, name: &str) {
        if let Some(named) = self.names.get(name)
            && named.filters.is_empty()
        {
            self.names.remove(name);
        }
    }
}

impl Membership {
    fn new(number: GroupNumber) -> Self {
        Self {
            number,
            members: BTreeMap::new(),
            durable_from: None,
        }
    }

    fn standing(&self, strategy: Strategy) -> Standing {
        Standing {
            number: self.number,
            durable_from: self.durable_from,
            members: self.members.len(),
            strategy,
        }
    }
}

/// Whether a limit leaves no room; 0 = none.
fn reached(count: usize, max: u32) -> bool {
    max > 0 && count >= max as usize
}

/// Whether a text can name a group ([MQTT-4.8.2-2]).
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', '+', '#', '\0'])
}

/// The name of the group behind a shared subscription.
pub fn name_of(filter: &Filter) -> &str {
    let rest = filter.as_str().strip_prefix("$share/");
    let name = rest.and_then(|rest| rest.split_once('/'));
    name.map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(5000);

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    fn directory(limits: SharedLimits) -> Directory {
        Directory::new(Arc::new(limits), 0)
    }

    #[test]
    fn a_group_goes_with_its_last_member_and_its_successor_has_another_number() {
        let mut groups = directory(SharedLimits::default());
        let a = filter("$share/g/a");
        for session in [1, 2, 1] {
            assert_eq!(groups.join(&a, SessionNumber(session), NOW), Ok(()));
        }
        groups.grant(&a, SessionNumber(1), true, true, Offset(7));
        let first = groups.get(&a).unwrap();
        assert_eq!((first.members, first.durable_from), (2, Some(Offset(7))));
        groups.leave(&a, SessionNumber(1));
        groups.leave(&a, SessionNumber(1));
        assert_eq!(groups.get(&a).map(|group| group.number), Some(first.number));
        groups.leave(&a, SessionNumber(2));
        assert!(groups.get(&a).is_none() && groups.is_empty());
        groups.join(&a, SessionNumber(3), NOW).unwrap();
        let next = groups.get(&a).unwrap();
        assert!(next.number > first.number && next.durable_from.is_none());
    }

    #[test]
    fn a_declared_group_lives_without_members_until_it_is_not_declared_any_more() {
        let mut groups = directory(SharedLimits::default());
        let (a, b) = (filter("$share/g/a"), filter("$share/other/a"));
        let declared = |names: &[(&str, Option<Strategy>)]| {
            let names = names.iter();
            names
                .map(|(name, strategy)| ((*name).into(), *strategy))
                .collect()
        };
        groups.join(&a, SessionNumber(1), NOW).unwrap();
        groups.join(&b, SessionNumber(1), NOW).unwrap();
        let sticky = Some(Strategy::Sticky);
        let changed = groups.declare(declared(&[("g", sticky)]));
        assert_eq!(changed, std::slice::from_ref(&a));
        assert_eq!(groups.get(&a).unwrap().strategy, Strategy::Sticky);
        assert_eq!(groups.get(&b).unwrap().strategy, Strategy::RoundRobin);
        groups.grant(&a, SessionNumber(1), false, true, Offset(3));
        groups.leave(&a, SessionNumber(1));
        assert_eq!(groups.get(&a).map(|group| group.members), Some(0));
        let both = declared(&[("g", sticky), ("other", None)]);
        assert_eq!(groups.declare(both), std::slice::from_ref(&b));
        let none = declared(&[]);
        assert_eq!(groups.declare(none), [a.clone(), b.clone()]);
        assert!(groups.get(&a).is_none(), "it had no members");
        assert!(groups.get(&b).is_some());
    }

    #[test]
    fn changes_beyond_the_limit_of_a_second_are_refused_until_it_is_over() {
        let mut groups = directory(SharedLimits {
            changes_per_second_max: 3,
            ..SharedLimits::default()
        });
        let a = filter("$share/g/a");
        groups.join(&a, SessionNumber(1), NOW).unwrap();
        groups.join(&a, SessionNumber(2), NOW).unwrap();
        groups.leave(&a, SessionNumber(2));
        let refused = groups.join(&a, SessionNumber(3), NOW);
        assert_eq!(refused, Err(Refusal::SharedQuota));
        assert_eq!(groups.get(&a).map(|group| group.members), Some(1));
        let later = NOW.plus_millis(CHANGES_WINDOW_MILLIS);
        assert_eq!(groups.join(&a, SessionNumber(3), later), Ok(()));
    }

    #[test]
    fn a_session_that_came_back_belongs_where_it_subscribes_and_nowhere_else() {
        let mut groups = directory(SharedLimits::default());
        let (a, b) = (filter("$share/g/a"), filter("$share/g/b"));
        groups.join(&a, SessionNumber(1), NOW).unwrap();
        groups.join(&b, SessionNumber(1), NOW).unwrap();
        let left = groups.reconcile(SessionNumber(1), std::slice::from_ref(&b));
        assert_eq!(left, [a]);
        assert_eq!(groups.filters_of(SessionNumber(1)), [b]);
    }
}
