//! Who gets a publication: the shards (shared by all) and, within a shard, the attached sessions.
//!
//! [`Routes`] is read by every shard on every publication. It gives each filter a number, by which [`ShardRoutes`] keeps
//! the shard's own readers: a topic is matched once. Does not know: locks, generations, shared subscriptions (a group is
//! one more reader), message contents.
//!
//! Invariants:
//! - a filter has a number while some shard has a reader or a hold of it; afterwards another filter may get that number;
//! - a shard has readers or holds under a number if and only if [`Routes`] has it among the shards of that filter. So
//!   what a shard keeps under a number is never of another filter, whatever other shards do.

mod readers;
mod shard;
mod sparse;
#[cfg(test)]
mod tests;

use std::fmt;

use super::filter_map::FilterMap;
use super::ids::{ShardId, ShardSet};
use super::numbers::Numbers;
use super::topic::Filter;

pub use self::shard::{ShardRoutes, Slot};

/// The number of a filter as long as anybody reads or holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterNumber(pub u32);

/// What one filter means for all shards. Packed: so it fits into the line of the processor's cache that its place in the
/// map fills.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
struct Route {
    online: ShardSet,
    durable: ShardSet,
    number: FilterNumber,
}

impl Route {
    fn new(number: FilterNumber) -> Self {
        Self {
            online: ShardSet::default(),
            durable: ShardSet::default(),
            number,
        }
    }

    fn is_empty(self) -> bool {
        let (online, durable) = (self.online, self.durable);
        online.is_empty() && durable.is_empty()
    }

    fn apply(&mut self, shard: ShardId, edge: RouteEdge) {
        match edge {
            RouteEdge::Online(online) => self.online = self.online.with(shard, online),
            RouteEdge::Durable(durable) => self.durable = self.durable.with(shard, durable),
        }
    }
}

/// The shards concerned by one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Shards with attached readers.
    pub online: ShardSet,
    /// Shards with durable readers, attached or not: if any, the publication must be in the journal.
    pub durable: ShardSet,
}

impl Matched {
    /// Both together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            online: self.online.union(other.online),
            durable: self.durable.union(other.durable),
        }
    }

    /// Whether nobody reads the topic.
    pub fn is_empty(self) -> bool {
        self.online.is_empty() && self.durable.is_empty()
    }
}

/// A change of one shard's place in [`Routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteEdge {
    /// The shard has (or no longer has) attached readers of the filter.
    Online(bool),
    /// The shard has (or no longer has) durable readers of the filter.
    Durable(bool),
}

/// Filter -> number and shards. Shared by all shards; locking is the caller's.
#[derive(Default)]
pub struct Routes {
    routes: FilterMap<Route>,
    numbers: Numbers,
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many filters have a route.
    pub fn filters(&self) -> usize {
        self.routes.len()
    }

    /// Heap bytes held, without the texts of filters.
    pub fn heap_bytes(&self) -> usize {
        self.routes.heap_bytes() + self.numbers.heap_bytes()
    }

    /// The number of `filter`, if `shard` is among its shards: then it stays until this shard reports otherwise.
    pub fn number(&self, filter: &Filter, shard: ShardId) -> Option<FilterNumber> {
        let route = self.routes.get(filter)?;
        let (online, durable) = (route.online, route.durable);
        let among = online.contains(shard) || durable.contains(shard);
        among.then_some(route.number)
    }

    /// Lets `shard` change what it keeps under the number of `filter`, and takes over the edge that this reports. Returns
    /// whether there was one.
    pub fn change(
        &mut self,
        filter: &Filter,
        shard: ShardId,
        change: impl FnOnce(FilterNumber) -> Option<RouteEdge>,
    ) -> bool {
        let numbers = &mut self.numbers;
        let new = || Route::new(FilterNumber(numbers.take()));
        let route = self.routes.get_or_insert_with(filter, new);
        let edge = change(route.number);
        if let Some(edge) = edge {
            route.apply(shard, edge);
        }
        let gone = route.is_empty().then_some(route.number);
        self.forget(filter, gone);
        edge.is_some()
    }

    /// Takes over an edge that `shard` reports for a filter of which it had the number ([`Self::number`]).
    pub fn apply(&mut self, filter: &Filter, shard: ShardId, edge: RouteEdge) {
        if let Some(route) = self.routes.get_mut(filter) {
            route.apply(shard, edge);
            let gone = route.is_empty().then_some(route.number);
            self.forget(filter, gone);
        }
    }

    fn forget(&mut self, filter: &Filter, gone: Option<FilterNumber>) {
        if let Some(number) = gone {
            self.routes.remove(filter);
            self.numbers.give_back(number.0);
            if self.routes.is_empty() {
                self.numbers = Numbers::default();
            }
        }
    }

    /// As [`Self::lookup`] for each of `topics` in turn: `found` is told, filter by filter, for which of them it is, whose it
    /// is and its number.
    pub fn lookup_all(&self, topics: &[&str], mut found: impl FnMut(usize, Matched, FilterNumber)) {
        self.routes.for_each_match_of(topics, |place, route| {
            let (online, durable) = (route.online, route.durable);
            found(place, Matched { online, durable }, route.number);
        });
    }

    /// The shards of all filters that match `topic`; their numbers go to `found`. Allocates nothing.
    pub fn lookup(&self, topic: &str, mut found: impl FnMut(FilterNumber)) -> Matched {
        let mut matched = Matched::default();
        self.routes.for_each_match(topic, |route| {
            matched.online = matched.online.union(route.online);
            matched.durable = matched.durable.union(route.durable);
            found(route.number);
        });
        matched
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("filters", &self.filters())
            .finish_non_exhaustive()
    }
}
