//! A map from topic filters to values, asked by topic.
//!
//! Owns: one value per filter. A filter without wildcards lies in a hash map under its whole text; one with wildcards
//! is a path in a trie of levels. Does not know: what the values mean, or shared subscriptions: give it the part of
//! `$share/{group}/{filter}` that is matched.
//!
//! Filters and topics come from peers, so both tables hash with aHash, keyed from the operating system's randomness:
//! who cannot see the key cannot choose texts that collide.
//!
//! Invariants:
//! - results and their order do not depend on the hash keys;
//! - a lookup allocates nothing and does not recurse, however many levels a topic has;
//! - what a removed filter occupied is used again or given back; an empty map holds no memory.

mod ends;
mod exact;
mod level;
mod trie;

use std::fmt;

use ahash::RandomState;

use self::exact::{Exact, TOGETHER};
use self::trie::Trie;
use super::topic::Filter;

/// Tables below this capacity are not worth shrinking.
const SHRINK_CAPACITY_MIN: usize = 64;

/// A map from filters to values of type `T`.
pub struct FilterMap<T> {
    exact: Exact<T>,
    wild: Trie<T>,
}

impl<T> FilterMap<T> {
    /// An empty map.
    pub fn new() -> Self {
        let hasher = RandomState::new();
        Self {
            exact: Exact::new(hasher.clone()),
            wild: Trie::new(hasher),
        }
    }

    /// How many filters have a value.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wild.len()
    }

    /// Whether no filter has a value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap bytes that the map holds, without the texts of filters (which it shares with its callers) and without
    /// what the values themselves point to.
    pub fn heap_bytes(&self) -> usize {
        self.exact.heap_bytes() + self.wild.heap_bytes()
    }

    /// The value of exactly this filter.
    pub fn get(&self, filter: &Filter) -> Option<&T> {
        if filter.has_wildcard() {
            self.wild.get(filter.as_str())
        } else {
            self.exact.get(filter.as_str())
        }
    }

    /// The value of exactly this filter.
    pub fn get_mut(&mut self, filter: &Filter) -> Option<&mut T> {
        if filter.has_wildcard() {
            self.wild.get_mut(filter.as_str())
        } else {
            self.exact.get_mut(filter.as_str())
        }
    }

    /// The value of exactly this filter, which is `make()` if it had none.
    pub fn get_or_insert_with(&mut self, filter: &Filter, make: impl FnOnce() -> T) -> &mut T {
        if filter.has_wildcard() {
            self.wild.get_or_insert_with(filter.as_str(), make)
        } else {
            self.exact.get_or_insert_with(filter, make)
        }
    }

    /// Sets the value of this filter; returns the one that it had.
    pub fn insert(&mut self, filter: &Filter, value: T) -> Option<T> {
        match self.get_mut(filter) {
            Some(known) => Some(std::mem::replace(known, value)),
            None => {
                self.get_or_insert_with(filter, || value);
                None
            }
        }
    }

    /// Removes the filter; returns the value that it had.
    pub fn remove(&mut self, filter: &Filter) -> Option<T> {
        if filter.has_wildcard() {
            self.wild.remove(filter.as_str())
        } else {
            self.exact.remove(filter.as_str())
        }
    }

    /// Calls `found` with the value of every filter that matches `topic`, as [`Filter::matches`] has it: the exact
    /// filter first, the others in the order of the trie.
    pub fn for_each_match(&self, topic: &str, mut found: impl FnMut(&T)) {
        if self.exact.len() > 0
            && let Some(value) = self.exact.get(topic)
        {
            found(value);
        }
        self.wild.for_each_match(topic, found);
    }

    /// As [`Self::for_each_match`] for each topic in turn, with its place among `topics`; faster than one by one.
    pub fn for_each_match_of(&self, topics: &[&str], mut found: impl FnMut(usize, &T)) {
        for (round, together) in topics.chunks(TOGETHER).enumerate() {
            let exact = self.exact.get_all(together);
            for (at, topic) in together.iter().enumerate() {
                let place = round * TOGETHER + at;
                exact[at].into_iter().for_each(|value| found(place, value));
                self.wild.for_each_match(topic, |value| found(place, value));
            }
        }
    }
}

impl<T> Default for FilterMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for FilterMap<T> {
    /// Says how much, not what: filters are untrusted and may be a million.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterMap")
            .field("exact", &self.exact.len())
            .field("wild", &self.wild.len())
            .finish()
    }
}

/// Whether a table is so empty that half of it should go: the gap to its growth keeps the cost per removal constant.
fn is_sparse(len: usize, capacity: usize) -> bool {
    len == 0 || (capacity > SHRINK_CAPACITY_MIN && len < capacity / 4)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::subscriptions::bytes_of;

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    fn matches(map: &FilterMap<u32>, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        map.for_each_match(topic, |value| found.push(*value));
        found.sort_unstable();
        found
    }

    /// Few names, so that random filters and topics meet.
    fn filters() -> impl Strategy<Value = Filter> {
        let level = prop::sample::select(vec!["a", "b", "", "$s", "+", "+"]);
        (prop::collection::vec(level, 1..6), any::<bool>()).prop_filter_map(
            "empty",
            |(mut levels, hash)| {
                if hash {
                    levels.push("#");
                }
                Filter::new(&levels.join("/"))
            },
        )
    }

    fn topics() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "", "$s", "c"]);
        prop::collection::vec(level, 1..7).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_linear_scan_finds(
            steps in prop::collection::vec((filters(), any::<u32>(), 0..3_u8), 1..120),
            asked in prop::collection::vec(topics(), 1..40),
        ) {
            let mut map = FilterMap::new();
            let mut model = BTreeMap::new();
            for (filter, value, kind) in steps {
                if kind == 0 {
                    prop_assert_eq!(map.remove(&filter), model.remove(&filter));
                } else {
                    prop_assert_eq!(map.insert(&filter, value), model.insert(filter, value));
                }
                prop_assert_eq!(map.len(), model.len());
            }
            for topic in &asked {
                let mut expected: Vec<u32> = model
                    .iter()
                    .filter(|(filter, _)| filter.matches(topic))
                    .map(|(_, value)| *value)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(matches(&map, topic), expected, "{}", topic);
            }
            let topics: Vec<&str> = asked.iter().map(|topic| &**topic).collect();
            let mut together = vec![Vec::new(); topics.len()];
            map.for_each_match_of(&topics, |place, value| together[place].push(*value));
            for (topic, found) in topics.iter().zip(together) {
                let mut alone = Vec::new();
                map.for_each_match(topic, |value| alone.push(*value));
                prop_assert_eq!(found, alone, "{}", topic);
            }
            for (filter, value) in &model {
                prop_assert_eq!(map.get(filter), Some(value));
            }
            for filter in model.keys() {
                map.remove(filter);
            }
            prop_assert_eq!(map.heap_bytes(), 0);
        }
    }

    #[test]
    fn every_kind_of_filter_is_found_by_its_topic() {
        let mut map = FilterMap::new();
        for (value, text) in ["a/b", "a/+", "a/#", "+/b", "#", "$SYS/#", "a", "/"]
            .into_iter()
            .enumerate()
        {
            map.insert(&filter(text), u32::try_from(value).unwrap());
        }
        assert_eq!(matches(&map, "a/b"), [0, 1, 2, 3, 4]);
        assert_eq!(matches(&map, "a"), [2, 4, 6]);
        assert_eq!(matches(&map, "$SYS/b"), [5]);
        assert_eq!(matches(&map, "$SYS"), [5]);
        assert_eq!(matches(&map, "/"), [4, 7]);
    }

    #[test]
    fn a_filter_of_thirty_thousand_levels_is_handled_without_recursion() {
        let mut map = FilterMap::new();
        let deep = filter(&format!("{}#", "+/".repeat(32_000)));
        map.insert(&deep, 1);
        assert_eq!(matches(&map, &"/".repeat(32_000)), [1]);
        assert_eq!(matches(&map, &"/".repeat(31_000)), Vec::<u32>::new());
        assert_eq!(map.remove(&deep), Some(1));
        assert_eq!(map.heap_bytes(), 0);
    }

    #[test]
    fn memory_shrinks_when_most_filters_are_removed() {
        let mut map = FilterMap::new();
        let all: Vec<Filter> = (0..10_000)
            .map(|n| match n % 2 {
                0 => filter(&format!("device/{n}/state")),
                _ => filter(&format!("device/{n}/+/state")),
            })
            .collect();
        for (n, filter) in (0..).zip(&all) {
            map.insert(filter, n);
        }
        let full = map.heap_bytes();
        for filter in &all[100..] {
            map.remove(filter);
        }
        assert!(
            map.heap_bytes() < full / 20,
            "{} of {full}",
            map.heap_bytes()
        );
        assert_eq!(matches(&map, "device/42/state"), [42]);
        assert_eq!(matches(&map, "device/43/x/state"), [43]);
        assert_eq!(matches(&map, "device/143/x/state"), Vec::<u32>::new());
        map.insert(&filter("device/143/+/state"), 7);
        assert_eq!(matches(&map, "device/143/x/state"), [7]);
    }

    /// The worst that a client can choose: levels that no filter shares with another.
    #[test]
    fn filters_take_no_more_than_they_count_for() {
        let slashes = "/".repeat(120);
        let shapes: [fn(usize, &str) -> String; 5] = [
            |n, slashes| format!("{n}{slashes}#"),
            |n, slashes| format!("+/{n}{slashes}"),
            |n, _| format!("device/{n}/+/state"),
            |n, _| format!("{n}/+"),
            |n, slashes| format!("{n}{slashes}"),
        ];
        for shape in shapes {
            let mut map = FilterMap::new();
            let mut counted = 0;
            for n in 0..2_000 {
                let filter = filter(&shape(n, &slashes));
                counted += bytes_of(&filter);
                map.insert(&filter, n);
            }
            // In the session and in the routes.
            let taken = 2 * map.heap_bytes();
            assert!(taken <= counted, "{}: {taken} of {counted}", shape(0, ""));
        }
    }

    #[test]
    fn subscribing_and_unsubscribing_for_ever_does_not_grow_the_map() {
        let mut map = FilterMap::new();
        map.insert(&filter("stays/+"), 0);
        let mut bytes = None;
        for n in 0..2_000 {
            let passing = filter(&format!("passing/{n:04}/+"));
            map.insert(&passing, n);
            assert_eq!(map.remove(&passing), Some(n));
            if n == 10 {
                bytes = Some(map.heap_bytes());
            }
        }
        assert_eq!(Some(map.heap_bytes()), bytes);
    }
}
