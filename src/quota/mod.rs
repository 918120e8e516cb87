//! The quota as the program sees it: limits made of the configuration, and a record of what was used.

mod recorder;
mod usage;

use outlive_actors::model::ids::{Listener, Principal};
use outlive_actors::model::quota::{Pattern, QuotaLimits, QuotaPolicy, Reserve};

use crate::config::{QuotaConfig, QuotaPolicyKey};

pub use recorder::Recorder;
pub use usage::{PrincipalUsage, UsageFiles, UsageLine};

impl From<&QuotaConfig> for QuotaLimits {
    fn from(config: &QuotaConfig) -> Self {
        let reserved = config.reserved.iter().map(|reserve| Reserve {
            name: reserve.name.as_str().into(),
            client_id: reserve.client_id_pattern.as_deref().map(Pattern::from),
            principal: reserve.principal.as_deref().map(Principal::from),
            units: u64::from(reserve.sessions),
        });
        let principals = config.principals.iter().map(|principal| {
            let name = Principal::from(principal.name.as_str());
            (name, u64::from(principal.sessions_max))
        });
        let listeners = config.listeners.iter().map(|listener| {
            let name = Listener::from(listener.listen.to_string().as_str());
            (name, u64::from(listener.sessions_max))
        });
        Self {
            sessions_max: u64::from(config.sessions_max),
            reserved: reserved.collect(),
            principal_sessions_max: u64::from(config.principal_sessions_max),
            principals: principals.collect(),
            listeners: listeners.collect(),
            policy: config.policy.into(),
        }
    }
}

impl From<QuotaPolicyKey> for QuotaPolicy {
    fn from(key: QuotaPolicyKey) -> Self {
        match key {
            QuotaPolicyKey::Reject => Self::Reject,
            QuotaPolicyKey::EvictLongestOffline => Self::EvictLongestOffline,
        }
    }
}
