//! Section `tenancy`: whether clients belong to tenants whose ids and topics are apart.

use outlive_actors::model::limits::{PerTenant, TenantLimits};
use outlive_actors::model::tally::Amount;
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
    /// Groups of one tenant by name; 0 = none.
    pub groups_max: u32,
    /// Retained messages of one tenant; 0 = none.
    pub retained_messages_max: u64,
    /// Their bytes; 0 = none.
    pub retained_bytes_max: u64,
    /// CONNECTs of one tenant per second; 0 = no limit.
    pub connects_per_second_max: u32,
    /// Limits of single tenants.
    pub tenants: Vec<TenantConfig>,
}

/// The limits of one tenant; those that are not there are as for all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// Its name.
    pub name: String,
    /// In the place of [`TenancyConfig::groups_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_max: Option<u32>,
    /// In the place of [`TenancyConfig::retained_messages_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained_messages_max: Option<u64>,
    /// In the place of [`TenancyConfig::retained_bytes_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained_bytes_max: Option<u64>,
    /// In the place of [`TenancyConfig::connects_per_second_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects_per_second_max: Option<u32>,
}

impl TenancyConfig {
    /// CONNECTs per second of each tenant.
    pub(crate) fn connect_rates(&self) -> PerTenant<u32> {
        let each = self.connects_per_second_max;
        self.per_tenant(each, |tenant| {
            tenant.connects_per_second_max.unwrap_or(each)
        })
    }

    /// Something of all tenants and of each that is named.
    fn per_tenant<T>(&self, each: T, named: impl Fn(&TenantConfig) -> T) -> PerTenant<T> {
        let tenants = self.tenants.iter();
        PerTenant {
            each,
            named: tenants
                .map(|tenant| (tenant.name.as_str().into(), named(tenant)))
                .collect(),
        }
    }
}

impl From<&TenancyConfig> for PerTenant<TenantLimits> {
    fn from(config: &TenancyConfig) -> Self {
        let limits =
            |groups_max: Option<u32>, count: Option<u64>, bytes: Option<u64>| TenantLimits {
                groups_max: groups_max.unwrap_or(config.groups_max),
                retained: Amount {
                    count: count.unwrap_or(config.retained_messages_max),
                    bytes: bytes.unwrap_or(config.retained_bytes_max),
                },
            };
        config.per_tenant(limits(None, None, None), |tenant| {
            limits(
                tenant.groups_max,
                tenant.retained_messages_max,
                tenant.retained_bytes_max,
            )
        })
    }
}

impl Default for TenancyConfig {
    fn default() -> Self {
        Self {
            by: TenancyKey::Off,
            separator: String::new(),
            groups_max: 0,
            retained_messages_max: 0,
            retained_bytes_max: 0,
            connects_per_second_max: 0,
            tenants: Vec::new(),
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
