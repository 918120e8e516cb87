//! Which tenant a client belongs to: decided once, at CONNECT, when it is known who the client is.

use std::fmt;

use outlive_actors::model::ids::{Listener, Principal};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;

/// What makes clients those of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// There are no tenants: all clients share all topics.
    #[default]
    Off,
    /// The name of the principal.
    Principal {
        /// Only what stands before this text in the name counts; empty: all of it.
        separator: Box<str>,
    },
    /// The listener to which the client came.
    Listener,
}

impl Tenancy {
    /// The tenant of everybody who comes to a listener, if it is the listener that tells: known before anything is known of
    /// the client.
    pub fn of_listener(&self, listener: &Listener) -> Option<Tenant> {
        match self {
            Self::Listener => Tenant::new(listener.as_str()),
            Self::Off | Self::Principal { .. } => None,
        }
    }

    /// The tenant of a client; `None` if there are no tenants.
    ///
    /// # Errors
    /// [`Refusal::NoTenant`] if the client must have one and has none, or one with a name that no tenant can have.
    pub fn tenant(
        &self,
        principal: &Principal,
        listener: &Listener,
    ) -> Result<Option<Tenant>, Refusal> {
        let name = match self {
            Self::Off => return Ok(None),
            Self::Listener => {
                return self
                    .of_listener(listener)
                    .map(Some)
                    .ok_or(Refusal::NoTenant);
            }
            Self::Principal { separator } if separator.is_empty() => Some(principal.as_str()),
            Self::Principal { separator } => {
                let parts = principal.as_str().split_once(&**separator);
                parts.map(|(tenant, _)| tenant)
            }
        };
        let tenant = name.and_then(Tenant::new);
        tenant.map(Some).ok_or(Refusal::NoTenant)
    }
}

/// As a data directory is marked with it, and as an operator reads it.
impl fmt::Display for Tenancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Principal { separator } if separator.is_empty() => f.write_str("principal"),
            Self::Principal { separator } => write!(f, "principal up to {separator:?}"),
            Self::Listener => f.write_str("listener"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_is_the_principal_its_first_part_or_the_listener() {
        let by = |separator: &str| Tenancy::Principal {
            separator: separator.into(),
        };
        for (tenancy, principal, expected) in [
            (Tenancy::Off, "a", Ok(None)),
            (Tenancy::Off, "", Ok(None)),
            (by(""), "a", Ok(Some("a"))),
            (by(""), "", Err(Refusal::NoTenant)),
            (by(""), "a/1", Err(Refusal::NoTenant)), // no name of a tenant
            (by("/"), "a/1", Ok(Some("a"))),
            (by("/"), "a/1/2", Ok(Some("a"))),
            (by("/"), "a", Err(Refusal::NoTenant)),
            (by("/"), "/1", Err(Refusal::NoTenant)),
            (by("::"), "a:b::1", Ok(Some("a:b"))),
            (by("/"), "+/1", Err(Refusal::NoTenant)),
            (by("/"), "#/1", Err(Refusal::NoTenant)),
            (by("/"), "a\0b/1", Err(Refusal::NoTenant)),
            (Tenancy::Listener, "", Ok(Some("[::1]:1883"))),
        ] {
            let listener = Listener::from("[::1]:1883");
            let found = tenancy.tenant(&Principal::from(principal), &listener);
            let found = found.map(|tenant| tenant.map(|tenant| tenant.name().to_owned()));
            let expected = expected.map(|name| name.map(str::to_owned));
            assert_eq!(found, expected, "{tenancy:?} {principal:?}");
        }
    }
}
