//! Some of the limits changed, the others as they are.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{QuotaLimits, QuotaPolicy};
use crate::model::ids::{Listener, Principal};

/// What of [`QuotaLimits`] becomes different; what is `None` stays. It says only what somebody wants changed, and is merged
/// where the limits are, so that of two changes at once neither takes the other back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaChange {
    /// Sessions in all.
    pub sessions_max: Option<u64>,
    /// What happens at a limit.
    pub policy: Option<QuotaPolicy>,
    /// Sessions of each principal without a limit of its own.
    pub principal_sessions_max: Option<u64>,
    /// Sessions of single principals, instead of all that were limited before.
    pub principals: Option<BTreeMap<Principal, u64>>,
    /// Sessions that began on single listeners, instead of all that were limited before.
    pub listeners: Option<BTreeMap<Listener, u64>>,
    /// Units of the reserves of these names.
    pub reserved: BTreeMap<Box<str>, u64>,
}

/// Why limits stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// There is no reserve of this name.
    #[error("reserved: {0:?} is none of quota.reserved")]
    UnknownReserve(Box<str>),
    /// Reserves have their units of the sessions in all.
    #[error("{reserved} units are reserved, more than sessions_max = {sessions_max}")]
    TooManyReserved {
        /// Units of all reserves.
        reserved: u64,
        /// Sessions in all.
        sessions_max: u64,
    },
    /// The broker shuts down.
    #[error("the broker shuts down")]
    Stopped,
}

impl QuotaChange {
    /// `limits` with this change.
    ///
    /// # Errors
    /// [`ChangeError::UnknownReserve`], [`ChangeError::TooManyReserved`].
    pub(super) fn applied_to(self, mut limits: QuotaLimits) -> Result<QuotaLimits, ChangeError> {
        fn put<T>(limit: &mut T, changed: Option<T>) {
            if let Some(changed) = changed {
                *limit = changed;
            }
        }
        put(&mut limits.sessions_max, self.sessions_max);
        put(&mut limits.policy, self.policy);
        put(
            &mut limits.principal_sessions_max,
            self.principal_sessions_max,
        );
        put(&mut limits.principals, self.principals);
        put(&mut limits.listeners, self.listeners);
        for (name, units) in self.reserved {
            let known = limits.reserved.iter_mut().find(|known| known.name == name);
            let Some(reserve) = known else {
                return Err(ChangeError::UnknownReserve(name));
            };
            reserve.units = units;
        }
        let (reserved, sessions_max) = (limits.reserved_units(), limits.sessions_max);
        if !limits.reserved.is_empty() && reserved > sessions_max {
            return Err(ChangeError::TooManyReserved {
                reserved,
                sessions_max,
            });
        }
        Ok(limits)
    }
}
