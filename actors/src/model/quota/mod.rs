//! Limits with their use: counted exactly, by permits that give themselves back.
//!
//! Owns: the count of sessions, in all, by principal, by listener and by reserve, the high-water mark, the refusals. Does
//! not know: sessions, or what the peer is told when no unit is left.
//!
//! Invariants: `used` is the number of living permits; [`Quota::try_acquire`] never lifts a count above the limit in
//! force at that moment; a lowered limit takes no permit away. One lock guards all counts, held for a few look-ups and
//! taken when a session begins or ends, never for a message.

mod alarm;
mod change;
mod limits;
mod report;
#[cfg(test)]
mod tests;
mod units;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ids::{ClientId, Listener, Principal, Timestamp};
use super::packet::Connect;
use super::refusal::Refusal;
pub use alarm::{AlarmEdge, QuotaAlarm};
pub use change::{ChangeError, QuotaChange};
pub use limits::{Pattern, QuotaLimits, QuotaPolicy, Reserve};
pub use report::{PrincipalUse, QuotaReport, ReserveUse};
use units::{Account, Units};

/// Limits and their use. Shared by `Arc` between threads.
#[derive(Debug)]
pub struct Quota(Mutex<Units>);

/// One unit of a [`Quota`], released when dropped.
#[derive(Debug)]
#[must_use = "the unit is released at once if the permit is dropped"]
pub struct Permit {
    quota: Arc<Quota>,
    account: Arc<Account>,
    /// The owner of the session, if its unit is charged to a tenant.
    owner: Option<Box<Principal>>,
}

/// Whose session wants a unit.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The client id.
    pub client_id: &'a ClientId,
    /// The owner of the session.
    pub principal: &'a Principal,
    /// Where it began.
    pub listener: &'a Listener,
}

impl Claim<'_> {
    /// Whom the unit is charged to: the tenant, whose name is that of a principal then, or else the owner.
    fn payer(&self) -> Principal {
        self.tenant().unwrap_or_else(|| self.principal.clone())
    }

    /// The tenant, by the name under which its units are charged.
    fn tenant(&self) -> Option<Principal> {
        self.client_id.tenant().map(Principal::from)
    }

    fn owner_beside_payer(&self) -> Option<Box<Principal>> {
        let tenant = self.client_id.tenant();
        tenant.map(|_| Box::new(self.principal.clone()))
    }
}

impl<'a> From<&'a Connect> for Claim<'a> {
    fn from(connect: &'a Connect) -> Self {
        Self {
            client_id: &connect.client_id,
            principal: &connect.principal,
            listener: &connect.listener,
        }
    }
}

/// Why there is no unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shortage {
    /// Which limit is reached.
    pub scope: Scope,
    /// The newcomer's tenant, if it has one: only sessions of the same may be evicted for it.
    pub tenant: Option<Principal>,
    /// Whose unit it would be.
    newcomer: Account,
    /// How many units must come back before one can be taken.
    pub units: u64,
}

/// What newcomers have in common to whom the same units are of use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShortageKind {
    scope: Scope,
    tenant: Option<Principal>,
    listener: Listener,
    reserve: Option<u16>,
}

impl Shortage {
    /// Whose shortages are like this one.
    pub fn kind(&self) -> ShortageKind {
        ShortageKind {
            scope: self.scope.clone(),
            tenant: self.tenant.clone(),
            listener: self.newcomer.listener.clone(),
            reserve: self.newcomer.reserve,
        }
    }
}

/// What a limit is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All sessions; those within a reserve do not count if the newcomer has none.
    Sessions,
    /// The sessions of a principal or tenant.
    Principal(Principal),
    /// The sessions that began on a listener.
    Listener(Listener),
}

impl Shortage {
    /// What the newcomer is told.
    pub fn refusal(&self) -> Refusal {
        match self.scope {
            Scope::Sessions => Refusal::SessionQuota,
            Scope::Principal(_) => Refusal::PrincipalQuota,
            Scope::Listener(_) => Refusal::ListenerQuota,
        }
    }
}

/// The most units that were ever taken at once, and when that was first so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HighWater {
    /// Units.
    pub units: u64,
    /// When.
    pub at: Timestamp,
}

/// The least and the most units in use since some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// How often a unit was asked for and refused, by the limit that was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaRefusals {
    /// `sessions_max`, reserves taken into account.
    pub sessions: u64,
    /// A principal's limit.
    pub principal: u64,
    /// A listener's limit.
    pub listener: u64,
}

/// What the quota shows of itself at no cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaObservation {
    /// Units taken.
    pub used: u64,
    /// The limit on them; 0 for none.
    pub limit: u64,
    /// Units that only some may use.
    pub reserved: u64,
    /// The most ever taken at once.
    pub high_water: HighWater,
    /// Newcomers that got none.
    pub refused: QuotaRefusals,
    /// Whether it is so full that an operator should know.
    pub warning: bool,
}

/// The new limits differ in which sessions fit which reserve: only the units of a reserve can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reserves cannot be added, removed or renamed while sessions hold units of them")]
pub struct ReservesDiffer;

impl Quota {
    /// A quota of which all units are free.
    pub fn new(limits: QuotaLimits) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Units::new(limits))))
    }

    /// Takes a unit.
    ///
    /// # Errors
    /// [`Shortage`] if none is left. It counts as a refusal when [`Quota::refuse`] is told so.
    pub fn try_acquire(
        self: &Arc<Self>,
        claim: Claim<'_>,
        now: Timestamp,
    ) -> Result<Permit, Shortage> {
        let mut units = self.lock();
        let account = units.account_of(&claim);
        if let Some(shortage) = units.shortage(claim.tenant().as_ref(), &account, None) {
            return Err(shortage);
        }
        Ok(self.permit(&claim, units.take(account, now)))
    }

    /// Takes a unit even above the limit: for what is in already, such as a session that survived a restart under a
    /// limit that was lowered meanwhile.
    pub fn adopt(self: &Arc<Self>, claim: Claim<'_>, now: Timestamp) -> Permit {
        let mut units = self.lock();
        let account = units.account_of(&claim);
        self.permit(&claim, units.take(account, now))
    }

    /// Counts a newcomer that got no unit; gives what it is told.
    pub fn refuse(&self, shortage: &Shortage) -> Refusal {
        let refused = &mut self.lock().refused;
        let count = match shortage.scope {
            Scope::Sessions => &mut refused.sessions,
            Scope::Principal(_) => &mut refused.principal,
            Scope::Listener(_) => &mut refused.listener,
        };
        *count += 1;
        shortage.refusal()
    }

    /// Whether the session that holds `permit` may end to make room, and its unit is all that `shortage`'s newcomer needs.
    pub fn helps(&self, permit: &Permit, shortage: &Shortage) -> bool {
        let tenant = shortage.tenant.as_ref();
        if tenant.is_some_and(|tenant| permit.account.principal != *tenant) {
            return false;
        }
        // Several limits may be reached at once, and a unit within a reserve would be free for that reserve only.
        let left = (self.lock()).shortage(tenant, &shortage.newcomer, Some(&permit.account));
        left.is_none()
    }

    /// Units taken.
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// What happens at a limit.
    pub fn policy(&self) -> QuotaPolicy {
        self.lock().limits.policy
    }

    /// The limits in force.
    pub fn limits(&self) -> QuotaLimits {
        self.lock().limits.clone()
    }

    /// Changes the limits. One below the use takes nothing away, it only refuses.
    ///
    /// # Errors
    /// [`ReservesDiffer`]; then nothing changed.
    pub fn set_limits(&self, limits: QuotaLimits) -> Result<(), ReservesDiffer> {
        let mut units = self.lock();
        if !limits.has_reserves_of(&units.limits) {
            return Err(ReservesDiffer);
        }
        units.put_limits(limits);
        Ok(())
    }

    /// Changes some limits and gives all that are in force then. One below the use takes nothing away, it only refuses.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing changed.
    pub fn change_limits(&self, change: QuotaChange) -> Result<QuotaLimits, ChangeError> {
        let mut units = self.lock();
        let limits = change.applied_to(units.limits.clone())?;
        units.put_limits(limits.clone());
        Ok(limits)
    }

    /// Carries on the high-water mark of the starts before.
    pub fn restore_high_water(&self, mark: HighWater) {
        let mut units = self.lock();
        if mark.units > units.high_water.units {
            units.high_water = mark;
        }
    }

    /// Whether it has become so full that an operator should know, or is no longer.
    pub fn watch(&self) -> Option<AlarmEdge> {
        let mut units = self.lock();
        let (used, limit) = (units.used, units.limits.sessions_max);
        units.alarm.observe(used, limit)
    }

    /// What it shows of itself.
    pub fn observe(&self) -> QuotaObservation {
        let units = self.lock();
        QuotaObservation {
            used: units.used,
            limit: units.limits.sessions_max,
            reserved: units.limits.reserved_units(),
            high_water: units.high_water,
            refused: units.refused,
            warning: units.alarm.is_raised(),
        }
    }

    fn permit(self: &Arc<Self>, claim: &Claim<'_>, account: Arc<Account>) -> Permit {
        Permit {
            quota: Arc::clone(self),
            account,
            owner: claim.owner_beside_payer(),
        }
    }

    /// A panic under the lock leaves counts that are off by one at most; to refuse everybody would be worse.
    fn lock(&self) -> MutexGuard<'_, Units> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The owner of the session that holds it.
    pub fn principal(&self) -> &Principal {
        self.owner.as_deref().unwrap_or(&self.account.principal)
    }

    /// Where the session began that holds it.
    pub fn listener(&self) -> &Listener {
        &self.account.listener
    }

    /// The unit of a session that is over goes to another one, begun by whoever comes for the same client id, or for whom
    /// the session was evicted.
    ///
    /// # Errors
    /// [`Shortage`] if a newcomer would have got none; then it stays where it is.
    pub fn pass_on(&mut self, claim: Claim<'_>, now: Timestamp) -> Result<(), Shortage> {
        let mut units = self.quota.lock();
        let account = units.account_of(&claim);
        if account == *self.account {
            self.owner = claim.owner_beside_payer();
            return Ok(());
        }
        let interval = units.interval;
        units.give_back(&self.account);
        let shortage = units.shortage(claim.tenant().as_ref(), &account, None);
        let account = match &shortage {
            None => account,
            Some(_) => Account::clone(&self.account),
        };
        self.account = units.take(account, now);
        units.interval = interval;
        if shortage.is_none() {
            self.owner = claim.owner_beside_payer();
        }
        shortage.map_or(Ok(()), Err)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.quota.lock().give_back(&self.account);
    }
}
