//! The tenants from outside: for whoever runs the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::actor::shared::Shared;
use crate::model::ids::Principal;
use crate::model::limits::{PerTenant, TenantLimits};
use crate::model::tally::Amount;
use crate::model::tenant::Tenant;

/// Observes tenants and limits them; usable from any thread, as long as the system runs and after.
#[derive(Clone, Debug)]
pub struct TenantsHandle {
    pub(super) shared: Arc<Shared>,
    /// Whether clients have tenants.
    pub(super) tenancy: bool,
}

/// What one tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// Its sessions, online and offline.
    pub sessions: u64,
    /// The limit on them; 0 for none.
    pub sessions_max: u64,
    /// Its groups, by name.
    pub groups: u64,
    /// Its retained messages and their bytes.
    pub retained: Amount,
    /// What it may have besides sessions.
    pub limits: TenantLimits,
}

impl TenantsHandle {
    /// From now on tenants may have so much. What there is stays.
    pub fn limit(&self, limits: PerTenant<TenantLimits>) {
        let limits = Arc::new(limits);
        self.shared.groups.lock().limit_tenants(Arc::clone(&limits));
        self.shared.retained.write().limit_tenants(limits);
    }

    /// What each tenant has that has something or is named in a limit, by name; nothing if clients have no tenants. Looks
    /// at one thing after the other, each at one moment.
    pub fn list(&self) -> BTreeMap<Box<str>, TenantUse> {
        let mut all: BTreeMap<Box<str>, TenantUse> = BTreeMap::new();
        if !self.tenancy {
            return all;
        }
        for known in self.shared.quota.report(usize::MAX).principals {
            let tenant = all.entry(known.name.as_str().into()).or_default();
            tenant.sessions = known.used;
        }
        let limits = {
            let groups = self.shared.groups.lock();
            for (name, has) in groups.tally().tenants() {
                all.entry(name.into()).or_default().groups = has.count;
            }
            Arc::clone(groups.tenants_limits())
        };
        for (name, has) in self.shared.retained.read().tally().tenants() {
            all.entry(name.into()).or_default().retained = has;
        }
        for name in limits.named.keys() {
            all.entry(name.clone()).or_default();
        }
        let sessions = self.shared.quota.limits();
        let named = sessions.principals.keys().map(Principal::as_str);
        for name in named.filter(|name| Tenant::new(name).is_some()) {
            all.entry(name.into()).or_default();
        }
        for (name, tenant) in &mut all {
            tenant.limits = limits.of(name);
            tenant.sessions_max = sessions.of_principal(&(&**name).into());
        }
        all
    }
}
