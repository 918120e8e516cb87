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
use super::churn::Churn;
use super::names::{Membership, Named, Names};
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Timestamp};
use crate::model::limits::{PerTenant, SharedLimits, TenantLimits};
use crate::model::refusal::Refusal;
use crate::model::tally::{Amount, Reached, Tally};
use crate::model::tenant;
use crate::model::topic::Filter;

/// All groups and their members.
#[derive(Debug)]
pub struct Directory {
    limits: Arc<SharedLimits>,
    tenants: Arc<PerTenant<TenantLimits>>,
    /// Groups that live without members, and their strategy if they have one of their own.
    declared: BTreeMap<Box<str>, Option<Strategy>>,
    names: Names,
    churn: Churn,
    /// The last number given.
    last: u64,
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

impl Directory {
    /// No groups. Numbers follow `last`, which no group has or had.
    pub fn new(limits: Arc<SharedLimits>, last: u64) -> Self {
        Self {
            declared: limits.declared.clone(),
            limits,
            tenants: Arc::default(),
            names: Names::default(),
            churn: Churn::default(),
            last,
        }
    }

    /// From now on tenants may have so much. What there is stays.
    pub fn limit_tenants(&mut self, tenants: Arc<PerTenant<TenantLimits>>) {
        self.tenants = tenants;
    }

    /// What tenants may have.
    pub fn tenants_limits(&self) -> &Arc<PerTenant<TenantLimits>> {
        &self.tenants
    }

    /// How many groups there are by name, in all and of each tenant.
    pub fn tally(&self) -> &Tally {
        self.names.tally()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tally().all() == Amount::default()
    }

    /// All members of all groups, a session once for each of its filters.
    pub fn members(&self) -> usize {
        self.names.iter().map(|(_, named)| named.members()).sum()
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
        let named = self.names.get(name);
        if named.is_none() {
            self.room_for(name)?;
        }
        let limits = &self.limits;
        let known = named.and_then(|named| named.filters.get(filter));
        let member = known.is_some_and(|known| known.members.contains_key(&session));
        let filters = named.map_or(0, |named| named.filters.len());
        let members = named.map_or(0, Named::members);
        let counts_changes = limits.changes_per_second_max > 0;
        let refused = (known.is_none() && reached(filters, limits.filters_per_group_max))
            || (!member && reached(members, limits.members_per_group_max))
            || (counts_changes && self.churn.of(name, now) >= limits.changes_per_second_max);
        if refused {
            return Err(Refusal::SharedQuota);
        }
        if counts_changes {
            self.churn.joined(name, now);
        }
        let named = self.names.enter(name);
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
        let Some(known) = named.filters.get_mut(filter) else {
            return;
        };
        if known.members.remove(&session).is_some() {
            self.churn.left(name_of(filter));
        }
        if known.members.is_empty() && !(declared && known.durable_from.is_some()) {
            named.filters.remove(filter);
        }
        self.names.tidy(name_of(filter));
    }

    /// The shared subscriptions of a session.
    pub fn filters_of(&self, session: SessionNumber) -> Vec<Filter> {
        let filters = self.names.iter().flat_map(|(_, named)| &named.filters);
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
        let named = self.names.enter(name_of(filter));
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
        let named = self.names.enter(name_of(filter));
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
        self.names.change_each(|name, named| {
            if !declared.contains_key(tenant::split(name).1) {
                named.filters.retain(|_, known| {
                    let stays = !known.members.is_empty();
                    gone.extend((!stays).then_some(known.number));
                    stays
                });
            }
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
        self.names.change_each(|name, named| {
            let name = tenant::split(name).1;
            if declared.get(name) != before.get(name) {
                changed.extend(named.filters.keys().cloned());
            }
            if !declared.contains_key(name) {
                named.filters.retain(|_, known| !known.members.is_empty());
            }
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

    /// Whether there may be one more name.
    fn room_for(&self, name: &str) -> Result<(), Refusal> {
        let total = Amount::of(self.limits.groups_max.into());
        let of_tenant = |tenant: &str| Amount::of(self.tenants.of(tenant).groups_max.into());
        let room = self.tally().room(name, None, 0, total, of_tenant);
        room.map_err(|reached| match reached {
            Reached::Tenant => Refusal::TenantGroupQuota,
            Reached::Total => Refusal::SharedQuota,
        })
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
    use crate::model::group::churn::WINDOW_MILLIS;
    use crate::model::tenant::Tenant;

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
        let later = NOW.plus_millis(WINDOW_MILLIS);
        assert_eq!(groups.join(&a, SessionNumber(3), later), Ok(()));
    }

    /// The count went with the group.
    #[test]
    fn changes_are_counted_though_the_group_ends_with_each() {
        let mut groups = directory(SharedLimits {
            changes_per_second_max: 4,
            ..SharedLimits::default()
        });
        let a = filter("$share/g/a");
        for _ in 0..2 {
            assert_eq!(groups.join(&a, SessionNumber(1), NOW), Ok(()));
            groups.leave(&a, SessionNumber(1));
        }
        let refused = groups.join(&a, SessionNumber(1), NOW);
        assert_eq!(refused, Err(Refusal::SharedQuota));
        assert!(groups.is_empty(), "a refused join leaves nothing");
        let b = filter("$share/other/a");
        assert_eq!(groups.join(&b, SessionNumber(1), NOW), Ok(()));
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

    fn limit_tenants(groups: &mut Directory, each: u32, named: &[(&str, u32)]) {
        let at_most = |groups_max| TenantLimits {
            groups_max,
            ..TenantLimits::default()
        };
        let named = named.iter();
        groups.limit_tenants(Arc::new(PerTenant {
            each: at_most(each),
            named: named
                .map(|(name, max)| ((*name).into(), at_most(*max)))
                .collect(),
        }));
    }

    fn known(tenant: &str, own: &str) -> Filter {
        Tenant::new(tenant).unwrap().filter(&filter(own))
    }

    fn join(groups: &mut Directory, tenant: &str, own: &str, session: u64) -> Result<(), Refusal> {
        groups.join(&known(tenant, own), SessionNumber(session), NOW)
    }

    fn counts(groups: &Directory) -> Vec<(&str, u64)> {
        let tenants = groups.tally().tenants();
        tenants.map(|(name, has)| (name, has.count)).collect()
    }

    const REFUSED: Result<(), Refusal> = Err(Refusal::TenantGroupQuota);

    #[test]
    fn a_tenant_at_its_limit_of_groups_gets_no_other_name_and_others_do() {
        let mut groups = directory(SharedLimits {
            groups_max: 4,
            ..SharedLimits::default()
        });
        limit_tenants(&mut groups, 2, &[("b", 0)]);
        for own in ["$share/g/x", "$share/h/x", "$share/h/y"] {
            assert_eq!(join(&mut groups, "a", own, 1), Ok(()), "{own}");
        }
        assert_eq!(join(&mut groups, "a", "$share/i/x", 1), REFUSED);
        assert_eq!(
            join(&mut groups, "a", "$share/g/x", 2),
            Ok(()),
            "it is there"
        );
        // Others have their own, up to the total; who has no tenant has that alone.
        assert_eq!(join(&mut groups, "b", "$share/g/x", 3), Ok(()));
        let plain = filter("$share/g/x");
        assert_eq!(groups.join(&plain, SessionNumber(4), NOW), Ok(()));
        let total = Err(Refusal::SharedQuota);
        assert_eq!(join(&mut groups, "b", "$share/h/x", 3), total);
        assert_eq!(
            join(&mut groups, "a", "$share/i/x", 3),
            REFUSED,
            "the narrower one"
        );
        assert_eq!(counts(&groups), [("a", 2), ("b", 1)]);
        // A limit below what there is ends nothing.
        limit_tenants(&mut groups, 1, &[]);
        assert_eq!(
            join(&mut groups, "a", "$share/g/y", 5),
            Ok(()),
            "another filter"
        );
        assert_eq!(join(&mut groups, "b", "$share/h/x", 5), REFUSED);
        assert_eq!(groups.tally().all(), Amount::of(4));
    }

    #[test]
    fn a_name_counts_for_its_tenant_until_its_last_group_is_over() {
        let mut groups = directory(SharedLimits::default());
        limit_tenants(&mut groups, 1, &[]);
        for own in ["$share/h/x", "$share/h/y"] {
            assert_eq!(join(&mut groups, "a", own, 1), Ok(()));
        }
        groups.leave(&known("a", "$share/h/x"), SessionNumber(1));
        assert_eq!(join(&mut groups, "a", "$share/i/x", 1), REFUSED);
        for _twice in 0..2 {
            groups.leave(&known("a", "$share/h/y"), SessionNumber(1));
        }
        assert_eq!(join(&mut groups, "a", "$share/i/x", 1), Ok(()));
        // A declared group lives without members, and counts until it is not declared any more.
        groups.declare([("i".into(), None)].into());
        let declared = known("a", "$share/i/x");
        groups.grant(&declared, SessionNumber(1), true, true, Offset(1));
        assert_eq!(groups.reconcile(SessionNumber(1), &[]), [declared]);
        assert_eq!(join(&mut groups, "a", "$share/h/x", 1), REFUSED);
        assert_eq!(counts(&groups), [("a", 1)]);
        groups.declare(BTreeMap::new());
        assert_eq!(counts(&groups), []);
    }

    #[test]
    fn what_survives_a_restart_counts_and_what_does_not_survive_does_not() {
        let mut groups = directory(SharedLimits::default());
        let of_a = |own: &str| Tenant::new("a").unwrap().filter(&filter(own));
        for (number, own) in [(1, "$share/g/x"), (2, "$share/h/x")] {
            groups.inherit_group(&of_a(own), GroupNumber(number), Offset(1));
        }
        for own in ["$share/g/x", "$share/i/x"] {
            groups.inherit_member(&of_a(own), SessionNumber(1), true, Offset(1));
        }
        assert_eq!(groups.disinherit(), [GroupNumber(2)]);
        assert_eq!(counts(&groups), [("a", 2)]);
        groups.reconcile(SessionNumber(1), &[]);
        assert!(groups.is_empty() && counts(&groups).is_empty());
    }
}
