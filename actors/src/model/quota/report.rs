//! Who uses the quota, for operators and for bills.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::units::{Charged, Units};
use super::{Interval, Quota, Scope};
use crate::model::ids::{Listener, Principal};

/// Who uses how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaReport {
    /// Reserves in the order of the configuration.
    pub reserves: Vec<ReserveUse>,
    /// Listeners with their units and their limit (0 for none), by name.
    pub listeners: Vec<(Listener, u64, u64)>,
    /// Principals: those with a limit of their own, and the largest others; the largest first.
    pub principals: Vec<PrincipalUse>,
    /// Units of principals that `principals` leaves out.
    pub others: u64,
}

/// One reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveUse {
    /// Its name.
    pub name: Box<str>,
    /// Its units.
    pub units: u64,
    /// Sessions that fit it; those above its units hold common ones.
    pub used: u64,
}

/// One principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrincipalUse {
    /// Its units.
    pub used: u64,
    /// The most since the interval began, at least as exact as `used`.
    pub high: u64,
    /// Its limit; 0 for none.
    pub limit: u64,
    /// Its name; the anonymous principal's is empty.
    pub name: Principal,
}

/// Accounts that are looked at under one lock.
const ACCOUNTS_PER_LOCK: usize = 1000;

impl Quota {
    /// Who uses how much, with the `top` largest principals that have no limit of their own.
    pub fn report(&self, top: usize) -> QuotaReport {
        let mut report = {
            let units = self.lock();
            let reserves = units.limits.reserved.iter().zip(&units.reserves);
            QuotaReport {
                reserves: reserves
                    .map(|(reserve, used)| ReserveUse {
                        name: reserve.name.clone(),
                        units: reserve.units,
                        used: *used,
                    })
                    .collect(),
                listeners: listeners(&units),
                ..QuotaReport::default()
            }
        };
        self.principals(top, &mut report);
        report
    }

    /// The least and the most units since this was last called; from now on counted anew.
    pub fn end_interval(&self) -> Interval {
        let mut units = self.lock();
        let now = units.used;
        let next = Interval { min: now, max: now };
        std::mem::replace(&mut units.interval, next)
    }

    /// From now on the most of each principal is counted anew.
    pub fn forget_highs(&self) {
        self.each_account(|_, charged, _| charged.high = charged.used);
    }

    fn principals(&self, top: usize, report: &mut QuotaReport) {
        let mut named = Vec::new();
        let mut largest = BinaryHeap::new();
        let mut current: Option<PrincipalUse> = None;
        let mut others = 0;
        let mut put = |known: PrincipalUse, has_own_limit: bool| {
            if has_own_limit {
                return named.push(known);
            }
            largest.push(Reverse(known));
            if largest.len() > top
                && let Some(Reverse(smallest)) = largest.pop()
            {
                others += smallest.used;
            }
        };
        let mut own = false;
        self.each_account(|principal, charged, limits| match &mut current {
            Some(known) if known.name == *principal => {
                known.used += charged.used;
                known.high += charged.high;
            }
            _ => {
                let next = PrincipalUse {
                    used: charged.used,
                    high: charged.high,
                    limit: limits.of_principal(principal),
                    name: principal.clone(),
                };
                if let Some(before) = current.replace(next) {
                    put(before, own);
                }
                own = limits.principals.contains_key(principal);
            }
        });
        if let Some(last) = current {
            put(last, own);
        }
        named.extend(largest.into_iter().map(|Reverse(known)| known));
        named.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.name.cmp(&b.name)));
        report.principals = named;
        report.others = others;
    }

    /// Looks at all accounts by principal, some under each lock: connects go on in between.
    fn each_account(&self, mut each: impl FnMut(&Principal, &mut Charged, &super::QuotaLimits)) {
        let mut last = None;
        loop {
            let mut units = self.lock();
            let Units {
                limits, accounts, ..
            } = &mut *units;
            let from = match last.take() {
                Some(last) => std::ops::Bound::Excluded(last),
                None => std::ops::Bound::Unbounded,
            };
            let mut seen = 0;
            for (account, charged) in accounts.range_mut((from, std::ops::Bound::Unbounded)) {
                each(&account.principal, charged, limits);
                seen += 1;
                if seen == ACCOUNTS_PER_LOCK {
                    last = Some(std::sync::Arc::clone(account));
                    break;
                }
            }
            if last.is_none() {
                return;
            }
        }
    }
}

/// Those in use and those with a limit.
fn listeners(units: &Units) -> Vec<(Listener, u64, u64)> {
    let mut all: std::collections::BTreeMap<&Listener, u64> = units
        .limits
        .listeners
        .keys()
        .map(|name| (name, 0))
        .collect();
    all.extend(units.listeners.iter().map(|(name, used)| (name, *used)));
    all.into_iter()
        .map(|(name, used)| (name.clone(), used, units.limits.of_listener(name)))
        .collect()
}

impl Scope {
    /// What a log line calls it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Principal(_) => "principal",
            Self::Listener(_) => "listener",
        }
    }
}
