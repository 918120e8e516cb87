//! Who gets a publication: the shards (shared by all) and, within a shard, the attached sessions.
//!
//! [`Routes`] is read by every shard on every publication and written only when a shard gains its first or loses its
//! last reader of a kind; [`ShardRoutes`] counts and says when that is. Does not know: locks, generations, shared
//! subscriptions (a group is one more reader), message contents.
//!
//! Invariants: a filter without readers and holds is not in either map; what a call on [`ShardRoutes`] returns is
//! exactly what must change in [`Routes`] for this shard, and a replay of all returned edges yields the present state.

mod readers;

use std::fmt;

use self::readers::{Reader, Readers};
use super::filter_map::FilterMap;
use super::ids::{ShardId, ShardSet};
use super::packet::SubscriptionOptions;
use super::topic::Filter;

/// What one filter means for all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Route {
    online: ShardSet,
    durable: ShardSet,
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

/// Filter -> shards. Shared by all shards; locking is the caller's.
#[derive(Default)]
pub struct Routes {
    routes: FilterMap<Route>,
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
        self.routes.heap_bytes()
    }

    /// Says whether `shard` has attached readers of `filter`; returns whether that is news.
    pub fn set_online(&mut self, filter: &Filter, shard: ShardId, online: bool) -> bool {
        self.set(filter, shard, online, |route| &mut route.online)
    }

    /// Says whether `shard` has durable readers of `filter`, attached or not; returns whether that is news.
    pub fn set_durable(&mut self, filter: &Filter, shard: ShardId, durable: bool) -> bool {
        self.set(filter, shard, durable, |route| &mut route.durable)
    }

    /// Applies what [`ShardRoutes`] of `shard` reported; returns whether anything changed.
    pub fn apply(&mut self, filter: &Filter, shard: ShardId, edge: RouteEdge) -> bool {
        match edge {
            RouteEdge::Online(online) => self.set_online(filter, shard, online),
            RouteEdge::Durable(durable) => self.set_durable(filter, shard, durable),
        }
    }

    /// The shards of all filters that match `topic`. Allocates nothing.
    pub fn lookup(&self, topic: &str) -> Matched {
        let mut matched = Matched::default();
        self.routes.for_each_match(topic, |route| {
            matched.online = matched.online.union(route.online);
            matched.durable = matched.durable.union(route.durable);
        });
        matched
    }

    fn set(
        &mut self,
        filter: &Filter,
        shard: ShardId,
        member: bool,
        side: impl Fn(&mut Route) -> &mut ShardSet,
    ) -> bool {
        if member {
            let set = side(self.routes.get_or_insert_with(filter, Route::default));
            let news = !set.contains(shard);
            set.insert(shard);
            return news;
        }
        let Some(route) = self.routes.get_mut(filter) else {
            return false;
        };
        let set = side(route);
        let news = set.contains(shard);
        set.remove(shard);
        if route.online.is_empty() && route.durable.is_empty() {
            self.routes.remove(filter);
        }
        news
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("filters", &self.filters())
            .finish_non_exhaustive()
    }
}

/// A session's place in its shard while it is attached; the shard hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Filter -> attached sessions of one shard, and how many durable subscriptions hold each filter. One thread's own.
///
/// Readers and holds are counted apart: a durable subscription is held from SUBSCRIBE to its end ([`Self::hold`],
/// [`Self::release`]), and is a reader besides while its session is attached ([`Self::subscribe`],
/// [`Self::unsubscribe`]).
#[derive(Default)]
pub struct ShardRoutes {
    routes: FilterMap<Readers>,
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

    /// Heap bytes held, without the texts of filters and the lists of filters with more than one reader.
    pub fn heap_bytes(&self) -> usize {
        self.routes.heap_bytes()
    }

    /// Adds an attached session's subscription, or replaces its options. `durable` is handed back with each match and
    /// counts nothing. Returns what changes in [`Routes`].
    pub fn subscribe(
        &mut self,
        slot: Slot,
        filter: &Filter,
        options: &SubscriptionOptions,
        durable: bool,
    ) -> Option<RouteEdge> {
        let readers = self.routes.get_or_insert_with(filter, Readers::default);
        let first = readers.is_empty();
        readers.put(Reader::new(slot, options, durable));
        first.then_some(RouteEdge::Online(true))
    }

    /// Removes a session's subscription: it ended or its session detaches. Nothing happens if there is none. Returns
    /// what changes in [`Routes`].
    pub fn unsubscribe(&mut self, slot: Slot, filter: &Filter) -> Option<RouteEdge> {
        let readers = self.routes.get_mut(filter)?;
        if !readers.take(slot) || !readers.is_empty() {
            return None;
        }
        if readers.durable() == 0 {
            self.routes.remove(filter);
        }
        Some(RouteEdge::Online(false))
    }

    /// Counts one more durable subscription of `filter`, its session attached or not. Returns what changes in
    /// [`Routes`].
    pub fn hold(&mut self, filter: &Filter) -> Option<RouteEdge> {
        let readers = self.routes.get_or_insert_with(filter, Readers::default);
        let durable = readers.durable_mut();
        *durable = durable.saturating_add(1);
        (*durable == 1).then_some(RouteEdge::Durable(true))
    }

    /// Counts one durable subscription of `filter` less. Nothing happens if none is counted. Returns what changes in
    /// [`Routes`].
    pub fn release(&mut self, filter: &Filter) -> Option<RouteEdge> {
        let readers = self.routes.get_mut(filter)?;
        let durable = readers.durable_mut();
        if *durable == 0 {
            return None;
        }
        *durable -= 1;
        if *durable > 0 {
            return None;
        }
        if readers.is_empty() {
            self.routes.remove(filter);
        }
        Some(RouteEdge::Durable(false))
    }

    /// Calls `found` for every subscription of an attached session that matches `topic`: slot, options, durable. A
    /// session with overlapping filters comes once for each. Allocates nothing.
    pub fn for_each_reader(
        &self,
        topic: &str,
        mut found: impl FnMut(Slot, &SubscriptionOptions, bool),
    ) {
        self.routes.for_each_match(topic, |readers| {
            for reader in readers.as_slice() {
                found(reader.slot(), &reader.options(), reader.is_durable());
            }
        });
    }
}

impl fmt::Debug for ShardRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardRoutes")
            .field("filters", &self.filters())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::message::QoS;
    use super::super::packet::RetainHandling;
    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    fn options(qos: u8) -> SubscriptionOptions {
        SubscriptionOptions::of_qos(QoS::from_level(qos).unwrap())
    }

    fn slots(routes: &ShardRoutes, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        routes.for_each_reader(topic, |slot, _, _| found.push(slot.0));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_lookup_unites_the_shards_of_all_matching_filters() {
        let mut routes = Routes::new();
        assert!(routes.set_online(&filter("a/b"), ShardId(0), true));
        assert!(routes.set_online(&filter("a/+"), ShardId(63), true));
        assert!(routes.set_durable(&filter("#"), ShardId(5), true));
        assert!(routes.set_durable(&filter("b"), ShardId(6), true));
        let matched = routes.lookup("a/b");
        assert_eq!(
            matched.online.iter().collect::<Vec<_>>(),
            [ShardId(0), ShardId(63)]
        );
        assert_eq!(matched.durable.iter().collect::<Vec<_>>(), [ShardId(5)]);
        assert!(routes.lookup("$a").is_empty());
    }

    #[test]
    fn a_route_goes_when_its_last_shard_goes_and_only_news_is_reported() {
        let mut routes = Routes::new();
        let a = filter("a/+");
        assert!(!routes.set_online(&a, SHARD, false));
        assert!(routes.set_online(&a, SHARD, true));
        assert!(!routes.set_online(&a, SHARD, true));
        assert!(routes.set_durable(&a, SHARD, true));
        assert!(routes.set_online(&a, SHARD, false));
        assert!(!routes.set_online(&a, SHARD, false));
        assert_eq!(routes.filters(), 1);
        assert!(routes.set_durable(&a, SHARD, false));
        assert_eq!((routes.filters(), routes.heap_bytes()), (0, 0));
    }

    #[test]
    fn options_come_back_as_they_were_given() {
        let mut routes = ShardRoutes::new();
        let a = filter("a");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for retain_handling in [
                RetainHandling::AtSubscribe,
                RetainHandling::IfNew,
                RetainHandling::Never,
            ] {
                for bits in 0..8 {
                    let given = SubscriptionOptions {
                        qos,
                        no_local: bits & 1 != 0,
                        retain_as_published: bits & 2 != 0,
                        retain_handling,
                        id: (bits & 1 == 0).then_some(268_435_455),
                    };
                    routes.subscribe(Slot(1), &a, &given, bits & 4 != 0);
                    let mut found = Vec::new();
                    routes.for_each_reader("a", |slot, options, durable| {
                        found.push((slot, *options, durable));
                    });
                    assert_eq!(found, [(Slot(1), given, bits & 4 != 0)]);
                }
            }
        }
    }

    #[test]
    fn only_the_first_and_the_last_reader_of_a_shard_change_the_shared_routes() {
        let mut routes = ShardRoutes::new();
        let a = filter("a");
        let subscribe = |routes: &mut ShardRoutes, slot, qos| {
            routes.subscribe(Slot(slot), &a, &options(qos), false)
        };
        assert_eq!(subscribe(&mut routes, 1, 0), Some(RouteEdge::Online(true)));
        assert_eq!(subscribe(&mut routes, 1, 1), None);
        assert_eq!(subscribe(&mut routes, 2, 1), None);
        assert_eq!(routes.hold(&a), Some(RouteEdge::Durable(true)));
        assert_eq!(routes.hold(&a), None);
        assert_eq!(routes.unsubscribe(Slot(1), &a), None);
        assert_eq!(routes.unsubscribe(Slot(1), &a), None);
        assert_eq!(
            routes.unsubscribe(Slot(2), &a),
            Some(RouteEdge::Online(false))
        );
        assert_eq!(routes.unsubscribe(Slot(2), &a), None);
        assert_eq!(routes.release(&a), None);
        assert_eq!(routes.filters(), 1);
        assert_eq!(routes.release(&a), Some(RouteEdge::Durable(false)));
        assert_eq!(routes.release(&a), None);
        assert_eq!(routes.filters(), 0);
    }

    #[test]
    fn ten_thousand_readers_of_one_filter_come_and_go() {
        let mut routes = ShardRoutes::new();
        let a = filter("a/#");
        for slot in 0..10_000 {
            routes.subscribe(Slot(slot), &a, &options(0), false);
        }
        assert_eq!(slots(&routes, "a").len(), 10_000);
        for slot in (0..10_000).filter(|slot| slot % 1_000 != 7) {
            assert_eq!(routes.unsubscribe(Slot(slot), &a), None);
        }
        assert_eq!(
            slots(&routes, "a"),
            (0..10).map(|n| n * 1_000 + 7).collect::<Vec<_>>()
        );
        for slot in (0..10_000).filter(|slot| slot % 1_000 == 7) {
            routes.unsubscribe(Slot(slot), &a);
        }
        assert_eq!((routes.filters(), routes.heap_bytes()), (0, 0));
    }

    proptest! {
        #[test]
        fn the_shared_routes_follow_from_the_edges_that_a_shard_reports(
            steps in prop::collection::vec((0..4_u8, 0..80_u32, 0..3_usize), 1..400),
        ) {
            let filters = [filter("a"), filter("a/#"), filter("+")];
            let mut shard = ShardRoutes::new();
            let mut routes = Routes::new();
            let mut readers = BTreeSet::new();
            let mut holds = BTreeMap::from([(0, 0), (1, 0), (2, 0)]);
            for (kind, slot, which) in steps {
                let filter = &filters[which];
                let edge = match kind {
                    0 => {
                        readers.insert((which, slot));
                        shard.subscribe(Slot(slot), filter, &options(1), true)
                    }
                    1 => {
                        readers.remove(&(which, slot));
                        shard.unsubscribe(Slot(slot), filter)
                    }
                    2 => {
                        *holds.get_mut(&which).unwrap() += 1;
                        shard.hold(filter)
                    }
                    _ => {
                        let held = holds.get_mut(&which).unwrap();
                        *held = i32::max(*held - 1, 0);
                        shard.release(filter)
                    }
                };
                if let Some(edge) = edge {
                    prop_assert!(routes.apply(filter, SHARD, edge), "an edge is news");
                }
                let online = |wanted: &[usize]| readers.iter().any(|(which, _)| wanted.contains(which));
                let matched = routes.lookup("a");
                prop_assert_eq!(matched.online.contains(SHARD), online(&[0, 1, 2]));
                prop_assert_eq!(matched.durable.contains(SHARD), holds.values().any(|held| *held > 0));
                prop_assert_eq!(routes.lookup("a/b").online.contains(SHARD), online(&[1]));
                prop_assert_eq!(routes.filters(), shard.filters());
                let mut expected: Vec<u32> = readers.iter().map(|(_, slot)| *slot).collect();
                expected.sort_unstable();
                prop_assert_eq!(slots(&shard, "a"), expected);
            }
        }
    }
}
