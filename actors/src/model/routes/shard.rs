//! Who reads what within one shard.

use std::fmt;
use std::hint::black_box;

use super::super::packet::SubscriptionOptions;
use super::readers::{Reader, Readers};
use super::sparse::Sparse;
use super::{FilterNumber, RouteEdge};

/// A session's place in its shard while it is attached; the shard hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Number of a filter -> attached sessions of one shard, and how many durable subscriptions hold the filter. One thread's
/// own.
///
/// Readers and holds are counted apart: a durable subscription is held from SUBSCRIBE to its end ([`Self::hold`],
/// [`Self::release`]), and is a reader besides while its session is attached ([`Self::subscribe`],
/// [`Self::unsubscribe`]).
#[derive(Default)]
pub struct ShardRoutes {
    routes: Sparse<Readers>,
}

impl ShardRoutes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many filters have a reader or a hold.
    pub fn filters(&self) -> usize {
        self.routes.len()
    }

    /// Heap bytes held, without the lists of filters with more than one reader.
    pub fn heap_bytes(&self) -> usize {
        self.routes.heap_bytes()
    }

    /// Adds an attached session's subscription, or replaces its options. `durable` is handed back with each match and
    /// counts nothing. Returns what changes in [`Routes`](super::Routes).
    pub fn subscribe(
        &mut self,
        slot: Slot,
        filter: FilterNumber,
        options: &SubscriptionOptions,
        durable: bool,
    ) -> Option<RouteEdge> {
        let readers = self.routes.get_or_default(filter.0);
        let first = readers.is_empty();
        readers.put(Reader::new(slot, options, durable));
        first.then_some(RouteEdge::Online(true))
    }

    /// Removes a session's subscription: it ended or its session detaches. Nothing happens if there is none. Returns
    /// what changes in [`Routes`](super::Routes).
    pub fn unsubscribe(&mut self, slot: Slot, filter: FilterNumber) -> Option<RouteEdge> {
        let readers = self.routes.get_mut(filter.0)?;
        if !readers.take(slot) || !readers.is_empty() {
            return None;
        }
        if readers.durable() == 0 {
            self.routes.remove(filter.0);
        }
        Some(RouteEdge::Online(false))
    }

    /// Counts one more durable subscription of `filter`, its session attached or not. Returns what changes in
    /// [`Routes`](super::Routes).
    pub fn hold(&mut self, filter: FilterNumber) -> Option<RouteEdge> {
        let readers = self.routes.get_or_default(filter.0);
        let durable = readers.durable_mut();
        *durable = durable.saturating_add(1);
        (*durable == 1).then_some(RouteEdge::Durable(true))
    }

    /// Counts one durable subscription of `filter` less. Nothing happens if none is counted. Returns what changes in
    /// [`Routes`](super::Routes).
    pub fn release(&mut self, filter: FilterNumber) -> Option<RouteEdge> {
        let readers = self.routes.get_mut(filter.0)?;
        let durable = readers.durable_mut();
        if *durable == 0 {
            return None;
        }
        *durable -= 1;
        if *durable > 0 {
            return None;
        }
        if readers.is_empty() {
            self.routes.remove(filter.0);
        }
        Some(RouteEdge::Durable(false))
    }

    /// Fetches what [`Self::for_each_reader`] will need of these filters into the processor's cache: for many at once, so that
    /// they wait for memory together.
    pub fn fetch(&self, filters: &[FilterNumber]) {
        for filter in filters {
            black_box(self.routes.get(filter.0).map(Readers::is_empty));
        }
    }

    /// Calls `found` for every subscription of an attached session to `filter`: slot, options, durable. A session with
    /// overlapping filters comes once for each. Allocates nothing.
    pub fn for_each_reader(
        &self,
        filter: FilterNumber,
        mut found: impl FnMut(Slot, &SubscriptionOptions, bool),
    ) {
        let readers = self.routes.get(filter.0).map(Readers::as_slice);
        for reader in readers.into_iter().flatten() {
            found(reader.slot(), &reader.options(), reader.is_durable());
        }
    }
}

impl fmt::Debug for ShardRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardRoutes")
            .field("filters", &self.filters())
            .finish_non_exhaustive()
    }
}
