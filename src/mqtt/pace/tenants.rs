//! How many CONNECTs per second each tenant may send.
//!
//! Invariant: a tenant is remembered only while it has not got all its credit back, which takes a second. So there are no
//! more of them than had a CONNECT taken within the last second, and at most as many again that wait to be forgotten.

use std::collections::BTreeMap;

use outlive_actors::model::ids::Timestamp;
use outlive_actors::model::limits::PerTenant;
use outlive_actors::model::tenant::Tenant;
use parking_lot::Mutex;
use tracing::warn;

use super::{Notes, nanos, paid_at};

/// So many tenants are remembered without a look at who could be forgotten.
const TENANTS_MIN: usize = 1024;

/// The rates of all tenants, each with a second's worth of credit. Shared by all shards; locked for a look-up with each
/// CONNECT of a client that has a tenant.
#[derive(Debug)]
pub(in crate::mqtt) struct TenantPaces {
    state: Mutex<State>,
    notes: Notes,
}

#[derive(Debug)]
struct State {
    /// 0: no limit.
    per_second: PerTenant<u32>,
    paid_at: BTreeMap<Box<str>, u64>,
    /// With so many it is time to look who can be forgotten.
    look_at: usize,
}

impl TenantPaces {
    pub(in crate::mqtt) fn new(per_second: PerTenant<u32>) -> Self {
        Self {
            state: Mutex::new(State {
                per_second,
                paid_at: BTreeMap::new(),
                look_at: TENANTS_MIN,
            }),
            notes: Notes::default(),
        }
    }

    /// From now on so many per second; 0: no limit.
    pub(in crate::mqtt) fn set(&self, per_second: PerTenant<u32>) {
        self.state.lock().per_second = per_second;
    }

    /// Whether one more of this tenant may come at `now`.
    pub(in crate::mqtt) fn take(&self, tenant: &Tenant, now: Timestamp) -> bool {
        let taken = self.state.lock().take(tenant.name(), now);
        if let Err(connects_per_second_max) = taken
            && self.notes.is_due(now)
        {
            warn!(
                tenant = tenant.name(),
                connects_per_second_max, "connects of a tenant refused: too many per second"
            );
        }
        taken.is_ok()
    }
}

impl State {
    /// Takes one, or gives the rate that has no credit left.
    fn take(&mut self, name: &str, now: Timestamp) -> Result<(), u32> {
        let per_second = self.per_second.of(name);
        if per_second == 0 {
            return Ok(());
        }
        let known = self.paid_at.get_mut(name);
        let before = known.as_deref().copied().unwrap_or(0);
        let next = paid_at(before, now, per_second).ok_or(per_second)?;
        if let Some(known) = known {
            *known = next;
            return Ok(());
        }
        if self.paid_at.len() >= self.look_at {
            self.paid_at.retain(|_, paid_at| *paid_at > nanos(now));
            self.look_at = (2 * self.paid_at.len()).max(TENANTS_MIN);
        }
        self.paid_at.insert(name.into(), next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    fn taken(paces: &TenantPaces, name: &str, at: u64, asked: u32) -> usize {
        let tenant = tenant(name);
        let asked = 0..asked;
        asked.filter(|_| paces.take(&tenant, Timestamp(at))).count()
    }

    #[test]
    fn each_tenant_has_its_own_credit_and_some_have_another_rate() {
        let named = [("big".into(), 50), ("free".into(), 0)].into();
        let paces = TenantPaces::new(PerTenant { each: 10, named });
        for (name, expected) in [("a", 10), ("b", 10), ("big", 50), ("free", 100)] {
            assert_eq!(taken(&paces, name, 5_000, 100), expected, "{name}");
        }
        assert_eq!(taken(&paces, "a", 5_200, 100), 2);
        paces.set(PerTenant {
            each: 100,
            ..PerTenant::default()
        });
        assert_eq!(taken(&paces, "a", 6_200, 1_000), 100);
        paces.set(PerTenant::default());
        assert_eq!(taken(&paces, "a", 6_200, 1_000), 1_000);
    }

    #[test]
    fn tenants_that_have_all_their_credit_are_forgotten_and_no_others() {
        let paces = TenantPaces::new(PerTenant {
            each: 1,
            ..PerTenant::default()
        });
        let many = 3 * TENANTS_MIN;
        let all_at = |at| {
            (0..many)
                .map(|number| taken(&paces, &number.to_string(), at, 2))
                .sum::<usize>()
        };
        assert_eq!(all_at(5_000), many);
        assert_eq!(all_at(5_999), 0, "nobody was forgotten too early");
        assert_eq!(paces.state.lock().paid_at.len(), many);
        assert_eq!(all_at(6_000), many);
        // Somebody new, when all others have their credit again.
        for number in 0..=many {
            assert_eq!(taken(&paces, &format!("new-{number}"), 8_000, 1), 1);
        }
        let remembered = paces.state.lock().paid_at.len();
        assert!(remembered <= 2 * (many + 1), "{remembered}");
        assert!(!paces.state.lock().paid_at.contains_key("0"));
    }
}
