//! The configured side of the quota: how many units there are, and for whom.

use std::collections::BTreeMap;

use super::Claim;
use crate::model::ids::{Listener, Principal};

/// How many sessions there may be, in all and of whom. A limit of 0 is none. Sessions that have a tenant are the tenant's
/// here, as if it were their principal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Sessions in all.
    pub sessions_max: u64,
    /// Units of `sessions_max` that only some may use. The first reserve that fits a session is its own.
    pub reserved: Vec<Reserve>,
    /// Sessions of each principal that `principals` does not name; the anonymous principal has no such limit.
    pub principal_sessions_max: u64,
    /// Sessions of single principals.
    pub principals: BTreeMap<Principal, u64>,
    /// Sessions that began on single listeners.
    pub listeners: BTreeMap<Listener, u64>,
    /// What happens at a limit.
    pub policy: QuotaPolicy,
}

/// What happens when a newcomer finds no unit left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaPolicy {
    /// It is refused.
    #[default]
    Reject,
    /// The session that has been offline longest ends and makes room; the newcomer is refused if nobody is offline. For
    /// a newcomer that has a tenant, only sessions of the same tenant make room, whichever limit is reached.
    EvictLongestOffline,
}

/// Units that only the sessions that fit may use. These take units that are free for everybody once theirs are used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// What an operator calls it.
    pub name: Box<str>,
    /// Which client ids fit; `None`: all.
    pub client_id: Option<Pattern>,
    /// Whose sessions fit; `None`: everybody's.
    pub principal: Option<Principal>,
    /// How many units.
    pub units: u64,
}

impl QuotaLimits {
    /// So many sessions in all, and no other limit.
    pub fn of(sessions_max: u64) -> Self {
        Self {
            sessions_max,
            ..Self::default()
        }
    }

    /// Whether sessions that have their unit fit the reserves of `other` as they fit these.
    pub fn has_reserves_of(&self, other: &Self) -> bool {
        self.reserved.len() == other.reserved.len()
            && self.reserved.iter().zip(&other.reserved).all(|(a, b)| {
                (&a.name, &a.client_id, &a.principal) == (&b.name, &b.client_id, &b.principal)
            })
    }

    /// The limit on a principal's sessions; 0 for none.
    pub fn of_principal(&self, principal: &Principal) -> u64 {
        match self.principals.get(principal) {
            Some(limit) => *limit,
            None if principal.as_str().is_empty() => 0,
            None => self.principal_sessions_max,
        }
    }

    /// The limit on sessions that began on a listener; 0 for none.
    pub fn of_listener(&self, listener: &Listener) -> u64 {
        self.listeners.get(listener).copied().unwrap_or(0)
    }

    /// Units that are reserved.
    pub fn reserved_units(&self) -> u64 {
        let units = self.reserved.iter().map(|reserve| reserve.units);
        units.fold(0, u64::saturating_add)
    }

    /// The reserve that a session fits, by number.
    pub(super) fn reserve_of(&self, claim: &Claim<'_>, payer: &Principal) -> Option<u16> {
        let at = self.reserved.iter().position(|reserve| {
            let id_fits = reserve.client_id.as_ref();
            let principal_fits = reserve.principal.as_ref();
            id_fits.is_none_or(|pattern| pattern.matches(claim.client_id.own()))
                && principal_fits.is_none_or(|principal| principal == payer)
        });
        at.and_then(|at| u16::try_from(at).ok())
    }
}

/// A text in which each `*` stands for any text, an empty one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(Box::from(text))
    }
}

impl Pattern {
    /// Whether all of `text` fits. Takes no more steps than the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty(); // no `*` at all
        };
        // Each part at its first place leaves most for those behind it.
        for part in parts {
            let Some((_, behind)) = rest.split_once(part) else {
                return false;
            };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, fits, does_not) in [
            (
                "alarm-*",
                &["alarm-", "alarm-7"][..],
                &["alarm", "my-alarm-7"][..],
            ),
            ("*", &["", "x"], &[]),
            ("", &[""], &["x"]),
            ("door", &["door"], &["door1", "adoor"]),
            (
                "a*b*c",
                &["abc", "a-b-c", "aXbbYcc"],
                &["ab", "acb", "abcd"],
            ),
            ("a**a", &["aa", "aba"], &["a"]),
            ("*é", &["é", "caé"], &["e"]),
        ] {
            let of = Pattern::from(pattern);
            for text in fits {
                assert!(of.matches(text), "{pattern} {text}");
            }
            for text in does_not {
                assert!(!of.matches(text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn principals_without_a_limit_of_their_own_have_the_common_one_but_the_anonymous() {
        let limits = QuotaLimits {
            principal_sessions_max: 5,
            principals: [("big".into(), 100), ("free".into(), 0)].into(),
            ..QuotaLimits::default()
        };
        let of = |name: &str| limits.of_principal(&Principal::from(name));
        assert_eq!((of("small"), of("big"), of("free"), of("")), (5, 100, 0, 0));
    }
}
