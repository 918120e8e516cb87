//! The filters without wildcards: one hash table, found by the whole text.

use ahash::RandomState;
use hashbrown::HashTable;

use super::super::topic::Filter;
use super::is_sparse;

/// So many topics are looked up together. The steps through memory that one of them waits for, the others take meanwhile; more
/// than the processor has under way at once gains nothing.
pub(super) const TOGETHER: usize = 16;

/// The map from filters without wildcards to values.
#[derive(Debug)]
pub(super) struct Exact<T> {
    entries: HashTable<(Filter, T)>,
    hasher: RandomState,
}

impl<T> Exact<T> {
    pub(super) fn new(hasher: RandomState) -> Self {
        let entries = HashTable::new();
        Self { entries, hasher }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.allocation_size()
    }

    pub(super) fn get(&self, text: &str) -> Option<&T> {
        self.find(self.hasher.hash_one(text), text)
    }

    pub(super) fn get_mut(&mut self, text: &str) -> Option<&mut T> {
        let hash = self.hasher.hash_one(text);
        let found = self
            .entries
            .find_mut(hash, |(known, _)| known.as_str() == text);
        found.map(|(_, value)| value)
    }

    pub(super) fn get_or_insert_with(
        &mut self,
        filter: &Filter,
        make: impl FnOnce() -> T,
    ) -> &mut T {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(filter.as_str());
        let same = |(known, _): &(Filter, T)| known == filter;
        let rehash = |(known, _): &(Filter, T)| hasher.hash_one(known.as_str());
        let entry = self.entries.entry(hash, same, rehash);
        let entry = entry.or_insert_with(|| (filter.clone(), make()));
        &mut entry.into_mut().1
    }

    pub(super) fn remove(&mut self, text: &str) -> Option<T> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(text);
        let same = |(known, _): &(Filter, T)| known.as_str() == text;
        let ((_, value), _) = self.entries.find_entry(hash, same).ok()?.remove();
        if is_sparse(self.entries.len(), self.entries.capacity()) {
            let rehash = |(known, _): &(Filter, T)| hasher.hash_one(known.as_str());
            self.entries.shrink_to(self.entries.len() * 2, rehash);
        }
        Some(value)
    }

    /// The values of up to [`TOGETHER`] topics, each at the place of its topic.
    ///
    /// Step by step for all of them, so that none waits for another: to the control bytes of the table, to the entry, to its
    /// text.
    pub(super) fn get_all(&self, topics: &[&str]) -> [Option<&T>; TOGETHER] {
        let mut values = [None; TOGETHER];
        if self.entries.is_empty() {
            return values;
        }
        let hashes = topics.iter().map(|topic| self.hasher.hash_one(topic));
        let mut entries = [None; TOGETHER];
        for (entry, hash) in entries.iter_mut().zip(hashes) {
            // Mostly it is the first one whose few bits of the hash in the control bytes fit.
            *entry = self.entries.find(hash, |_| true);
        }
        let texts = entries.map(|entry| entry.map(|(known, _)| known.as_str()));
        for (at, topic) in topics.iter().enumerate() {
            values[at] = match (entries[at], texts[at]) {
                (Some((_, value)), Some(text)) if text == *topic => Some(value),
                (Some(_), _) => self.get(topic),
                (None, _) => None,
            };
        }
        values
    }

    fn find(&self, hash: u64, text: &str) -> Option<&T> {
        let found = self.entries.find(hash, |(known, _)| known.as_str() == text);
        found.map(|(_, value)| value)
    }
}
