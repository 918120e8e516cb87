//! Who holds sessions at one moment: for operators who want to know what fills the quota, and when it empties.
//!
//! Owns: the sums, the prefixes of client ids, what comes free when. Does not know: where sessions are kept.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::ids::{ClientId, Timestamp};
use super::tenant;

/// How far ahead it is said how many units come free, in milliseconds: an hour, a day.
pub const AHEAD_MILLIS: [u64; 2] = [3_600_000, 86_400_000];

/// Prefixes that are told apart; sessions of further ones count together.
const PREFIXES_MAX: usize = 10_000;

/// Characters of an id without a separator that make its prefix.
const PREFIX_CHARS: usize = 8;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Its client is connected.
    Online,
    /// It waits for its client.
    Offline {
        /// Until then.
        expires_at: Timestamp,
    },
}

/// Sessions, counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    at: Timestamp,
    /// Sessions with a connection.
    pub online: u64,
    /// Sessions without.
    pub offline: u64,
    /// Offline sessions whose client never came back: often made by ids that are made up anew each time.
    pub never_resumed: u64,
    /// Units that come free within [`AHEAD_MILLIS`] if no client comes back: exact, for each session has its deadline.
    pub free_within: [u64; 2],
    prefixes: HashMap<Box<str>, PrefixCount>,
    /// Sessions whose prefix was one too many.
    pub other_prefixes: u64,
}

/// What client ids have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix<'a> {
    /// The clients' tenant, if they have one.
    pub tenant: Option<&'a str>,
    /// How their ids begin.
    pub text: &'a str,
}

/// Sessions whose client ids begin alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixCount {
    /// With a connection.
    pub online: u64,
    /// Without.
    pub offline: u64,
}

impl Census {
    /// Nobody, as of `at`.
    pub fn new(at: Timestamp) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// Counts a session.
    pub fn count(&mut self, client_id: &ClientId, counted: Counted, resumed: bool) {
        let (online, offline) = match counted {
            Counted::Online => (1, 0),
            Counted::Offline { expires_at } => {
                self.never_resumed += u64::from(!resumed);
                for (free, ahead) in self.free_within.iter_mut().zip(AHEAD_MILLIS) {
                    *free += u64::from(expires_at <= self.at.plus_millis(ahead));
                }
                (0, 1)
            }
        };
        self.online += online;
        self.offline += offline;
        self.add(prefix(client_id), PrefixCount { online, offline });
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.online += other.online;
        self.offline += other.offline;
        self.never_resumed += other.never_resumed;
        self.other_prefixes += other.other_prefixes;
        for (sum, more) in self.free_within.iter_mut().zip(other.free_within) {
            *sum += more;
        }
        // In order, so that the same is left out each time.
        let sorted: BTreeMap<_, _> = other.prefixes.into_iter().collect();
        for (prefix, count) in sorted {
            self.add(&prefix, count);
        }
        self
    }

    /// The prefixes with the most sessions, the largest first, with the tenants of their clients.
    pub fn top(&self, count: usize) -> Vec<(Prefix<'_>, PrefixCount)> {
        let mut all: Vec<_> = self
            .prefixes
            .iter()
            .map(|(name, of)| (&**name, *of))
            .collect();
        all.sort_unstable_by(|(a, x), (b, y)| y.sum().cmp(&x.sum()).then_with(|| a.cmp(b)));
        all.truncate(count);
        let shown = all.into_iter().map(|(known, of)| {
            let (tenant, text) = tenant::split(known);
            (Prefix { tenant, text }, of)
        });
        shown.collect()
    }

    fn add(&mut self, prefix: &str, more: PrefixCount) {
        if let Some(known) = self.prefixes.get_mut(prefix) {
            known.online += more.online;
            known.offline += more.offline;
        } else if self.prefixes.len() < PREFIXES_MAX {
            self.prefixes.insert(prefix.into(), more);
        } else {
            self.other_prefixes += more.sum();
        }
    }
}

impl PrefixCount {
    fn sum(self) -> u64 {
        self.online + self.offline
    }
}

/// What ids of one kind and one tenant have in common: the own ones up to the first separator, or the first characters.
fn prefix(client_id: &ClientId) -> &str {
    let (known, own) = (client_id.as_str(), client_id.own());
    let separator = |c: char| matches!(c, '-' | '_' | '/' | ':' | '.' | '@');
    let end = match own.find(separator) {
        Some(at) => at + 1,
        None => {
            let end = own.char_indices().nth(PREFIX_CHARS);
            end.map_or(own.len(), |(at, _)| at)
        }
    };
    &known[..known.len() - own.len() + end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tenant::Tenant;

    #[test]
    fn ids_of_one_kind_have_one_prefix() {
        for (id, expected) in [
            ("meter-7", "meter-"),
            ("a/b/c", "a/"),
            ("0123456789", "01234567"),
            ("äöüäöüäöüäöü", "äöüäöüäö"),
            ("short", "short"),
            ("", ""),
            ("-x", "-"),
        ] {
            assert_eq!(prefix(&id.into()), expected);
            let of_tenant = Tenant::new("t").unwrap().client_id(id);
            assert_eq!(prefix(&of_tenant), format!("t\0{expected}"));
        }
    }

    #[test]
    fn what_comes_free_when_is_exact_to_the_millisecond() {
        let mut census = Census::new(Timestamp(1_000));
        for expires_at in [1_000 + 3_600_000, 1_001 + 3_600_000, 1_001 + 86_400_000] {
            let expires_at = Timestamp(expires_at);
            census.count(&"a-1".into(), Counted::Offline { expires_at }, false);
        }
        census.count(&"b-1".into(), Counted::Online, false);
        assert_eq!(census.free_within, [1, 2]);
        assert_eq!(
            (census.online, census.offline, census.never_resumed),
            (1, 3, 3)
        );
    }

    #[test]
    fn a_sum_counts_everybody_once_and_names_the_largest() {
        let of = |ids: &[&str]| {
            let mut census = Census::new(Timestamp(0));
            for id in ids {
                census.count(&(*id).into(), Counted::Online, true);
            }
            census
        };
        let sum = of(&["a-1", "b-1"]).plus(of(&["b-2", "c-1"]));
        let two = PrefixCount {
            online: 2,
            offline: 0,
        };
        let (tenant, text) = (None, "b-");
        assert_eq!(sum.top(1), [(Prefix { tenant, text }, two)]);
        assert_eq!(sum.online, 4);
        let many: Vec<String> = (0..PREFIXES_MAX + 5).map(|at| format!("{at}-")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(of(&many).other_prefixes, 5);
    }
}
