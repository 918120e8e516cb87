//! A map from offsets to values whose keys mostly come in order, and mostly leave from near the front: what was leased
//! first is settled first. Its entries lie in a row; a key is searched for, or found by its distance from the first one if
//! all in between are there.
//!
//! Invariants: keys ascend; the first and the last entry have a value; at least half of the entries have one, but for a
//! few.

use std::collections::VecDeque;

use crate::model::ids::Offset;

/// Entries without a value that are not worth moving the others together.
const HOLES_MIN: usize = 32;

/// A sorted map for keys that ascend.
#[derive(Clone, Debug)]
pub(super) struct Ascending<T> {
    entries: VecDeque<(Offset, Option<T>)>,
    len: usize,
}

impl<T> Default for Ascending<T> {
    fn default() -> Self {
        let entries = VecDeque::new();
        Self { entries, len: 0 }
    }
}

impl<T> Ascending<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All keys and values, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Offset, &T)> {
        let entries = self.entries.iter();
        entries.filter_map(|(at, value)| Some((*at, value.as_ref()?)))
    }

    /// All keys, ascending.
    pub(super) fn keys(&self) -> impl Iterator<Item = Offset> {
        self.iter().map(|(at, _)| at)
    }

    /// All values, by ascending keys.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let entries = self.entries.iter_mut();
        entries.filter_map(|(_, value)| value.as_mut())
    }

    pub(super) fn first_key(&self) -> Option<Offset> {
        self.entries.front().map(|(at, _)| *at)
    }

    pub(super) fn contains(&self, at: Offset) -> bool {
        self.get(at).is_some()
    }

    pub(super) fn get(&self, at: Offset) -> Option<&T> {
        let place = self.find(at).ok()?;
        self.entries.get(place)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: Offset) -> Option<&mut T> {
        let place = self.find(at).ok()?;
        self.entries.get_mut(place)?.1.as_mut()
    }

    /// Sets the value of `at`; gives the one that it had.
    pub(super) fn insert(&mut self, at: Offset, value: T) -> Option<T> {
        let before = match self.find(at) {
            Ok(place) => self.entries[place].1.replace(value),
            Err(place) if place == self.entries.len() => {
                self.entries.push_back((at, Some(value)));
                None
            }
            Err(place) => {
                self.entries.insert(place, (at, Some(value)));
                None
            }
        };
        self.len += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, at: Offset) -> Option<T> {
        self.remove_if(at, |_| true)
    }

    /// Removes the value of `at`, if there is one and `goes` says so.
    pub(super) fn remove_if(&mut self, at: Offset, goes: impl FnOnce(&T) -> bool) -> Option<T> {
        let place = self.find(at).ok()?;
        let removed = self
            .entries
            .get_mut(place)?
            .1
            .take_if(|value| goes(value))?;
        self.len -= 1;
        self.tidy();
        Some(removed)
    }

    pub(super) fn pop_first(&mut self) -> Option<(Offset, T)> {
        let (at, value) = self.entries.pop_front()?;
        self.len -= 1;
        self.tidy();
        Some((at, value.expect("the first entry has a value")))
    }

    /// The place of `at`, or where it belongs.
    fn find(&self, at: Offset) -> Result<usize, usize> {
        let end = self.entries.len();
        if self.entries.back().is_none_or(|(last, _)| *last < at) {
            return Err(end);
        }
        let first = self.first_key().unwrap_or_default();
        let distance = at.0.checked_sub(first.0);
        let guess = distance.and_then(|distance| usize::try_from(distance).ok());
        if let Some(guess) = guess
            && self.entries.get(guess).is_some_and(|(key, _)| *key == at)
        {
            return Ok(guess);
        }
        self.entries.binary_search_by_key(&at, |(key, _)| *key)
    }

    fn tidy(&mut self) {
        let is_hole = |entry: Option<&(Offset, Option<T>)>| matches!(entry, Some((_, None)));
        while is_hole(self.entries.front()) {
            self.entries.pop_front();
        }
        while is_hole(self.entries.back()) {
            self.entries.pop_back();
        }
        if self.entries.len() > 2 * self.len + HOLES_MIN {
            self.entries.retain(|(_, value)| value.is_some());
        }
        if self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys near the end and anywhere, and removals from the front and anywhere.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..6_u8, 0..400_u64), 1..800)) {
            let mut ascending = Ascending::default();
            let mut map = BTreeMap::new();
            let mut next = 100;
            for (value, (kind, number)) in steps.into_iter().enumerate() {
                let at = Offset(number);
                match kind {
                    0 | 1 => {
                        next += 1 + u64::from(kind);
                        prop_assert_eq!(ascending.insert(Offset(next), value), map.insert(Offset(next), value));
                    }
                    2 => prop_assert_eq!(ascending.insert(at, value), map.insert(at, value)),
                    3 => prop_assert_eq!(ascending.pop_first(), map.pop_first()),
                    _ => prop_assert_eq!(ascending.remove(at), map.remove(&at)),
                }
                prop_assert_eq!(ascending.get(at), map.get(&at));
                prop_assert_eq!(ascending.get_mut(at), map.get_mut(&at));
                prop_assert_eq!(ascending.len(), map.len());
                prop_assert_eq!(ascending.first_key(), map.keys().next().copied());
                prop_assert!(ascending.entries.len() <= 2 * map.len() + HOLES_MIN);
            }
            prop_assert!(ascending.iter().eq(map.iter().map(|(at, value)| (*at, value))));
            prop_assert!(ascending.values_mut().eq(map.values_mut()));
            for at in map.into_keys() {
                ascending.remove(at);
            }
            prop_assert!(ascending.entries.is_empty());
        }
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let mut ascending = Ascending::default();
        for at in 0..10_000 {
            ascending.insert(Offset(at), at);
        }
        for at in (0..10_000).rev().filter(|at| at % 100 != 7) {
            ascending.remove(Offset(at));
        }
        assert_eq!(ascending.len(), 100);
        assert!(ascending.entries.capacity() < 2_000);
    }
}
