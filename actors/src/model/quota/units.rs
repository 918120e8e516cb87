//! The count behind the quota: who holds how many units, and whether there is one more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits::{QuotaLimits, Reserve};
use super::{Claim, HighWater, Interval, QuotaAlarm, QuotaRefusals, Scope, Shortage};
use crate::model::ids::{Listener, Principal, Timestamp};

/// Whom a unit is charged to. Shared by all units of the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account {
    /// The owner; of sessions that have a tenant, the tenant.
    pub(super) principal: Principal,
    pub(super) listener: Listener,
    /// Which of [`QuotaLimits::reserved`] the session fits.
    pub(super) reserve: Option<u16>,
}

/// Units of one account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charged {
    pub(super) used: u64,
    /// The most since the interval began.
    pub(super) high: u64,
}

/// All units.
#[derive(Debug)]
pub(super) struct Units {
    pub(super) limits: QuotaLimits,
    pub(super) used: u64,
    pub(super) high_water: HighWater,
    pub(super) refused: QuotaRefusals,
    pub(super) alarm: QuotaAlarm,
    pub(super) interval: Interval,
    pub(super) accounts: BTreeMap<Arc<Account>, Charged>,
    pub(super) listeners: BTreeMap<Listener, u64>,
    /// By the number of the reserve.
    pub(super) reserves: Vec<u64>,
}

impl Units {
    pub(super) fn new(limits: QuotaLimits) -> Self {
        Self {
            reserves: vec![0; limits.reserved.len()],
            limits,
            used: 0,
            high_water: HighWater::default(),
            refused: QuotaRefusals::default(),
            alarm: QuotaAlarm::default(),
            interval: Interval::default(),
            accounts: BTreeMap::new(),
            listeners: BTreeMap::new(),
        }
    }

    /// Other limits. What is used stays used.
    pub(super) fn put_limits(&mut self, limits: QuotaLimits) {
        self.limits = limits;
        let named = &self.limits.principals;
        self.accounts
            .retain(|account, charged| charged.used > 0 || named.contains_key(&account.principal));
    }

    /// Whose unit it would be.
    pub(super) fn account_of(&self, claim: &Claim<'_>) -> Account {
        let principal = claim.payer();
        Account {
            reserve: self.limits.reserve_of(claim, &principal),
            principal,
            listener: claim.listener.clone(),
        }
    }

    /// Why there is no unit for this account, if so, also once a unit that is charged to `back` came back. The narrowest
    /// limit that is reached says no.
    pub(super) fn shortage(
        &self,
        tenant: Option<&Principal>,
        account: &Account,
        back: Option<&Account>,
    ) -> Option<Shortage> {
        let short = |scope: Scope, used: u64, limit: u64| {
            (used >= limit).then(|| Shortage {
                scope,
                tenant: tenant.cloned(),
                newcomer: account.clone(),
                units: used - limit + 1,
            })
        };
        let less = |it: bool| u64::from(it);
        let limit = self.limits.of_principal(&account.principal);
        if limit > 0 {
            let used = self.of_principal(&account.principal)
                - less(back.is_some_and(|back| back.principal == account.principal));
            let found = short(Scope::Principal(account.principal.clone()), used, limit);
            if found.is_some() {
                return found;
            }
        }
        let limit = self.limits.of_listener(&account.listener);
        if limit > 0 {
            let used = self.listeners.get(&account.listener).copied().unwrap_or(0)
                - less(back.is_some_and(|back| back.listener == account.listener));
            let found = short(Scope::Listener(account.listener.clone()), used, limit);
            if found.is_some() {
                return found;
            }
        }
        let limit = self.limits.sessions_max;
        if limit == 0 {
            return None;
        }
        let used = self.used - less(back.is_some());
        let whole = short(Scope::Sessions, used, limit);
        let mut reserves = self.reserves.iter().zip(&self.limits.reserved).zip(0_u16..);
        let within = |((used, own), at): ((&u64, &Reserve), u16)| {
            let back = back.is_some_and(|back| back.reserve == Some(at));
            (at, used - less(back), own.units)
        };
        let own = account.reserve;
        if reserves
            .clone()
            .map(within)
            .any(|(at, used, units)| own == Some(at) && used < units)
        {
            return whole;
        }
        let common = limit.saturating_sub(self.limits.reserved_units());
        let reserved_and_used: u64 = reserves
            .by_ref()
            .map(within)
            .map(|(_, used, units)| used.min(units))
            .sum();
        // So many must come back that both have one to spare.
        let found = [
            whole,
            short(Scope::Sessions, used - reserved_and_used, common),
        ];
        found.into_iter().flatten().max_by_key(|found| found.units)
    }

    /// Units of a principal, whatever else they are charged to.
    pub(super) fn of_principal(&self, principal: &Principal) -> u64 {
        let charged = self.charged_to(principal);
        charged.map(|(_, charged)| charged.used).sum()
    }

    fn charged_to<'a>(
        &'a self,
        principal: &'a Principal,
    ) -> impl Iterator<Item = (&'a Arc<Account>, &'a Charged)> {
        let first = Account {
            principal: principal.clone(),
            listener: Listener::default(),
            reserve: None,
        };
        let accounts = self.accounts.range(first..);
        accounts.take_while(move |(account, _)| account.principal == *principal)
    }

    /// Takes a unit, whether there is one or not.
    pub(super) fn take(&mut self, account: Account, now: Timestamp) -> Arc<Account> {
        self.used += 1;
        self.interval.max = self.interval.max.max(self.used);
        if self.used > self.high_water.units {
            self.high_water = HighWater {
                units: self.used,
                at: now,
            };
        }
        *self.listeners.entry(account.listener.clone()).or_default() += 1;
        if let Some(reserve) = self.reserve_mut(account.reserve) {
            *reserve += 1;
        }
        let known = self.accounts.get_key_value(&account);
        let account = known.map_or_else(|| Arc::new(account), |(known, _)| Arc::clone(known));
        let charged = self.accounts.entry(Arc::clone(&account)).or_default();
        charged.used += 1;
        charged.high = charged.high.max(charged.used);
        account
    }

    /// Gives a unit back.
    pub(super) fn give_back(&mut self, account: &Account) {
        self.used -= 1;
        self.interval.min = self.interval.min.min(self.used);
        if let Some(used) = self.listeners.get_mut(&account.listener) {
            *used -= 1;
            if *used == 0 {
                self.listeners.remove(&account.listener);
            }
        }
        if let Some(reserve) = self.reserve_mut(account.reserve) {
            *reserve -= 1;
        }
        if let Some(charged) = self.accounts.get_mut(account) {
            charged.used -= 1;
            // Who has a limit of its own is kept for the interval's account even without a session.
            if charged.used == 0 && !self.limits.principals.contains_key(&account.principal) {
                self.accounts.remove(account);
            }
        }
    }

    fn reserve_mut(&mut self, reserve: Option<u16>) -> Option<&mut u64> {
        reserve.and_then(|at| self.reserves.get_mut(usize::from(at)))
    }
}
