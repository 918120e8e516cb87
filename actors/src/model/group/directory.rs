//! Who belongs to which group: the one truth about membership, from SUBSCRIBE to the end of the subscription.
//!
//! Owns: members by group, whether a group is durable, which groups are declared, limits. Does not know: who is online, what groups lease. Shared by
//! all shards; locking is the caller's.
//!
//! Invariants:
//! - a member is in the directory before its SUBACK is decided, and never without a session that lives;
//! - a group that lost its last member is gone unless it is declared; the next one of its name has another number;
//! - joining and leaving twice changes nothing.

mod inherit;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
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
    /// Who is a member of what: a session that comes back costs as much as it has, whatever others have.
    joined: BTreeSet<(SessionNumber, Filter)>,
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
            joined: BTreeSet::new(),
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
        self.joined.len()
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
        if !member {
            self.joined.insert((session, filter.clone()));
        }
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
            self.joined.remove(&(session, filter.clone()));
            self.churn.left(name_of(filter));
        }
        if known.members.is_empty() && !(declared && known.durable_from.is_some()) {
            named.filters.remove(filter);
        }
        self.names.tidy(name_of(filter));
    }

    /// The shared subscriptions of a session.
    pub fn filters_of(&self, session: SessionNumber) -> Vec<Filter> {
        let from = (session, Filter::lowest());
        let joined = self.joined.range(from..);
        joined
            .take_while(|(member, _)| *member == session)
            .map(|(_, filter)| filter.clone())
            .collect()
    }

    /// A session came back from its snapshot, or is over: it subscribes to these and to no others. Gives those that it left.
    pub fn reconcile(&mut self, session: SessionNumber, subscribed: &[Filter]) -> Vec<Filter> {
        let mut left = self.filters_of(session);
        let subscribed: BTreeSet<_> = subscribed.iter().collect();
        left.retain(|filter| !subscribed.contains(filter));
        for filter in &left {
            self.leave(filter, session);
        }
        left
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
