//! Section `tenancy`: whether clients belong to tenants whose ids and topics are apart.

use serde::{Deserialize, Serialize};

use crate::auth::Tenancy;

/// Whose clients are whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenancyConfig {
    /// What names a client's tenant.
    pub by: TenancyKey,
    /// Where the tenant ends in the name of a principal; `""` = nowhere.
    pub separator: String,
}

impl Default for TenancyConfig {
    fn default() -> Self {
        Self {
            by: TenancyKey::Off,
            separator: String::new(),
        }
    }
}

/// What names a client's tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenancyKey {
    /// There are no tenants.
    Off,
    /// The principal's name, or what stands before the separator.
    Principal,
    /// The listener.
    Listener,
}

impl From<&TenancyConfig> for Tenancy {
    fn from(config: &TenancyConfig) -> Self {
        match config.by {
            TenancyKey::Off => Self::Off,
            TenancyKey::Principal => Self::Principal {
                separator: config.separator.as_str().into(),
            },
            TenancyKey::Listener => Self::Listener,
        }
    }
}
