//! What of a configuration can change while the broker runs.

use super::{Config, layers};

/// Every key whose value can change while the broker runs; of `quota.reserved` the units of those that were there at the
/// start.
pub const RELOADABLE: &[&str] = &[
    "mqtt.connects_per_second_max",
    "shared.groups",
    "tenancy.groups_max",
    "tenancy.retained_messages_max",
    "tenancy.retained_bytes_max",
    "tenancy.connects_per_second_max",
    "tenancy.tenants",
    "quota.sessions_max",
    "quota.policy",
    "quota.reserved",
    "quota.principal_sessions_max",
    "quota.principals",
    "quota.listeners",
    "telemetry.level",
];

/// What became of a configuration that was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What is in force now.
    pub config: Config,
    /// Keys that changed and are in force.
    pub changed: Vec<String>,
    /// Keys that changed and need a start.
    pub needs_start: Vec<String>,
}

impl Config {
    /// This configuration, with those values of `new` that can change while the broker runs.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> Reloaded {
        let (old_table, new_table) = (layers::table_of(self), layers::table_of(new));
        let mut table = old_table.clone();
        let (mut changed, mut needs_start) = (Vec::new(), Vec::new());
        let before: std::collections::BTreeMap<_, _> = layers::leaves(&old_table).collect();
        for (key, value) in layers::leaves(&new_table) {
            if before.get(&key) == Some(&value) {
                continue;
            }
            if RELOADABLE.contains(&key.as_str()) && self.allows(new, &key) {
                layers::set(&mut table, &key, value.clone());
                changed.push(key);
            } else {
                needs_start.push(key);
            }
        }
        let config: Self = table
            .try_into()
            .expect("each value is one that its key can have");
        if config.validate().is_empty() {
            return Reloaded {
                config,
                changed,
                needs_start,
            };
        }
        // Half of it does not go together, for instance a limit on a listener that is not there yet.
        needs_start.append(&mut changed);
        Reloaded {
            config: self.clone(),
            changed,
            needs_start,
        }
    }

    /// Sessions that hold units would have to be sorted anew if reserves came, went or fitted others.
    fn allows(&self, new: &Self, key: &str) -> bool {
        let (old, new) = (&self.quota.reserved, &new.quota.reserved);
        key != "quota.reserved"
            || (old.len() == new.len()
                && old.iter().zip(new).all(|(old, new)| {
                    (&old.name, &old.client_id_pattern, &old.principal)
                        == (&new.name, &new.client_id_pattern, &new.principal)
                }))
    }
}
