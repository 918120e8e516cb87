//! The count behind the quota: who holds how many units, and whether there is one more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits::QuotaLimits;
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

    /// Whose unit it would be.
    pub(super) fn account_of(&self, claim: &Claim<'_>) -> Account {
        let principal = claim.payer();
        Account {
            reserve: self.limits.reserve_of(claim, &principal),
            principal,
            listener: claim.listener.clone(),
        }
    }

    /// Why there is no unit for this account, if so. The narrowest limit that is reached says no.
    pub(super) fn shortage(&self, claim: &Claim<'_>, account: &Account) -> Option<Shortage> {
        let short = |scope: Scope, used: u64, limit: u64| {
            (used >= limit).then(|| Shortage {
                scope,
                tenant: claim.tenant(),
                units: used - limit + 1,
            })
        };
        let limit = self.limits.of_principal(&account.principal);
        if limit > 0 {
            let used = self.of_principal(&account.principal);
            let found = short(Scope::Principal(account.principal.clone()), used, limit);
            if found.is_some() {
                return found;
            }
        }
        let limit = self.limits.of_listener(&account.listener);
        if limit > 0 {
            let used = self.listeners.get(&account.listener).copied().unwrap_or(0);
            let found = short(Scope::Listener(account.listener.clone()), used, limit);
            if found.is_some() {
                return found;
            }
        }
        let limit = self.limits.sessions_max;
        if limit == 0 {
            return None;
        }
        if let Some(found) = short(Scope::Sessions, self.used, limit) {
            return Some(found);
        }
        if self.is_within_reserve(account, 0) {
            return None;
        }
        let common = limit.saturating_sub(self.limits.reserved_units());
        short(
            Scope::Sessions,
            self.used - self.reserved_and_used(),
            common,
        )
    }

    /// Whether the account has a reserve with a unit to spare, once `less` of its units came back.
    pub(super) fn is_within_reserve(&self, account: &Account, less: u64) -> bool {
        account.reserve.is_some_and(|at| {
            let at = usize::from(at);
            let used = self.reserves.get(at).copied().unwrap_or(0);
            let reserved = self.limits.reserved.get(at).map_or(0, |own| own.units);
            used.saturating_sub(less) < reserved
        })
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

    /// Units of reserves in use by those who may.
    fn reserved_and_used(&self) -> u64 {
        let own = self.limits.reserved.iter().zip(&self.reserves);
        own.map(|(reserve, used)| reserve.units.min(*used)).sum()
    }
}
