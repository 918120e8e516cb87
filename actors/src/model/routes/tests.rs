//! Tests of the routes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::message::QoS;
use super::super::packet::{RetainHandling, SubscriptionOptions};
use super::*;

const SHARD: ShardId = ShardId(3);

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

fn options(qos: u8) -> SubscriptionOptions {
    SubscriptionOptions::of_qos(QoS::from_level(qos).unwrap())
}

/// One shard and the shared routes, changed together.
#[derive(Default)]
struct Both {
    shared: Routes,
    shard: ShardRoutes,
}

impl Both {
    fn change(
        &mut self,
        filter: &Filter,
        change: impl FnOnce(&mut ShardRoutes, FilterNumber) -> Option<RouteEdge>,
    ) -> Option<RouteEdge> {
        let shard = &mut self.shard;
        let mut reported = None;
        let change = |number| {
            reported = change(shard, number);
            reported
        };
        match self.shared.number(filter, SHARD) {
            Some(number) => {
                if let Some(edge) = change(number) {
                    self.shared.apply(filter, SHARD, edge);
                }
            }
            None => {
                let changed = self.shared.change(filter, SHARD, change);
                assert_eq!(changed, reported.is_some());
            }
        }
        reported
    }

    fn subscribe(&mut self, slot: u32, filter: &Filter, qos: u8) -> Option<RouteEdge> {
        self.change(filter, |shard, number| {
            shard.subscribe(Slot(slot), number, &options(qos), true)
        })
    }

    fn unsubscribe(&mut self, slot: u32, filter: &Filter) -> Option<RouteEdge> {
        self.change(filter, |shard, number| {
            shard.unsubscribe(Slot(slot), number)
        })
    }

    fn slots(&self, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        self.shared.lookup(topic, |number| {
            let reader = |slot: Slot, _: &_, _| found.push(slot.0);
            self.shard.for_each_reader(number, reader);
        });
        found.sort_unstable();
        found
    }

    fn filters(&self) -> (usize, usize) {
        (self.shared.filters(), self.shard.filters())
    }

    fn heap_bytes(&self) -> usize {
        self.shared.heap_bytes() + self.shard.heap_bytes()
    }
}

fn set(routes: &mut Routes, text: &str, shard: u8, edge: RouteEdge) -> FilterNumber {
    let mut given = None;
    routes.change(&filter(text), ShardId(shard), |number| {
        given = Some(number);
        Some(edge)
    });
    given.unwrap()
}

#[test]
fn a_route_leaves_room_in_its_line_of_the_cache() {
    assert_eq!(size_of::<Route>(), 20);
}

#[test]
fn a_lookup_unites_the_shards_of_all_matching_filters_and_names_them() {
    let mut routes = Routes::new();
    let numbers = [
        set(&mut routes, "a/b", 0, RouteEdge::Online(true)),
        set(&mut routes, "a/+", 63, RouteEdge::Online(true)),
        set(&mut routes, "#", 5, RouteEdge::Durable(true)),
    ];
    let other = set(&mut routes, "b", 6, RouteEdge::Durable(true));
    let mut found = BTreeSet::new();
    let matched = routes.lookup("a/b", |number| assert!(found.insert(number)));
    assert_eq!(found, BTreeSet::from(numbers));
    assert!(!found.contains(&other));
    assert_eq!(
        matched.online.iter().collect::<Vec<_>>(),
        [ShardId(0), ShardId(63)]
    );
    assert_eq!(matched.durable.iter().collect::<Vec<_>>(), [ShardId(5)]);
    assert!(routes.lookup("$a", |_| panic!("no filter")).is_empty());
}

#[test]
fn a_route_keeps_its_number_until_its_last_shard_goes() {
    let mut routes = Routes::new();
    let number = set(&mut routes, "a/+", 3, RouteEdge::Online(true));
    let other = set(&mut routes, "b", 3, RouteEdge::Online(true));
    assert_ne!(other, number);
    assert_eq!(set(&mut routes, "a/+", 4, RouteEdge::Durable(true)), number);
    assert_eq!(set(&mut routes, "a/+", 3, RouteEdge::Online(false)), number);
    assert_eq!(routes.filters(), 2);
    assert_eq!(
        set(&mut routes, "a/+", 4, RouteEdge::Durable(false)),
        number
    );
    assert_eq!(routes.filters(), 1);
    let next = set(&mut routes, "c/+", 3, RouteEdge::Online(true));
    assert_eq!(next, number, "a free number is taken again");
    set(&mut routes, "b", 3, RouteEdge::Online(false));
    set(&mut routes, "c/+", 3, RouteEdge::Online(false));
    assert_eq!((routes.filters(), routes.heap_bytes()), (0, 0));
}

#[test]
fn a_change_that_comes_to_nothing_leaves_nothing() {
    let mut both = Both::default();
    assert_eq!(both.unsubscribe(1, &filter("a/+")), None);
    assert_eq!(both.change(&filter("a"), ShardRoutes::release), None);
    assert_eq!((both.filters(), both.heap_bytes()), ((0, 0), 0));
}

#[test]
fn options_come_back_as_they_were_given() {
    let mut routes = ShardRoutes::new();
    let a = FilterNumber(7);
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
                routes.subscribe(Slot(1), a, &given, bits & 4 != 0);
                let mut found = Vec::new();
                routes.for_each_reader(a, |slot, options, durable| {
                    found.push((slot, *options, durable));
                });
                assert_eq!(found, [(Slot(1), given, bits & 4 != 0)]);
            }
        }
    }
}

#[test]
fn only_the_first_and_the_last_reader_of_a_shard_change_the_shared_routes() {
    let mut both = Both::default();
    let a = filter("a");
    assert_eq!(both.subscribe(1, &a, 0), Some(RouteEdge::Online(true)));
    assert_eq!(both.subscribe(1, &a, 1), None);
    assert_eq!(both.subscribe(2, &a, 1), None);
    let hold = |both: &mut Both| both.change(&a, ShardRoutes::hold);
    assert_eq!(hold(&mut both), Some(RouteEdge::Durable(true)));
    assert_eq!(hold(&mut both), None);
    assert_eq!(both.unsubscribe(1, &a), None);
    assert_eq!(both.unsubscribe(1, &a), None);
    assert_eq!(both.unsubscribe(2, &a), Some(RouteEdge::Online(false)));
    assert_eq!(both.unsubscribe(2, &a), None);
    let release = |both: &mut Both| both.change(&a, ShardRoutes::release);
    assert_eq!(release(&mut both), None);
    assert_eq!(both.filters(), (1, 1));
    assert_eq!(release(&mut both), Some(RouteEdge::Durable(false)));
    assert_eq!(release(&mut both), None);
    assert_eq!(both.filters(), (0, 0));
}

#[test]
fn ten_thousand_readers_of_one_filter_come_and_go() {
    let mut both = Both::default();
    let a = filter("a/#");
    for slot in 0..10_000 {
        both.subscribe(slot, &a, 0);
    }
    assert_eq!(both.slots("a").len(), 10_000);
    for slot in (0..10_000).filter(|slot| slot % 1_000 != 7) {
        assert_eq!(both.unsubscribe(slot, &a), None);
    }
    assert_eq!(
        both.slots("a"),
        (0..10).map(|n| n * 1_000 + 7).collect::<Vec<_>>()
    );
    for slot in (0..10_000).filter(|slot| slot % 1_000 == 7) {
        both.unsubscribe(slot, &a);
    }
    assert_eq!((both.filters(), both.heap_bytes()), ((0, 0), 0));
}

#[test]
fn a_hundred_thousand_filters_come_and_go() {
    let mut both = Both::default();
    let filters: Vec<_> = (0..100_000).map(|n| filter(&format!("d/{n}/+"))).collect();
    for filter in &filters {
        both.subscribe(1, filter, 0);
    }
    let full = both.heap_bytes();
    for filter in &filters[10..] {
        both.unsubscribe(1, filter);
    }
    assert_eq!(both.slots("d/9/x"), [1]);
    assert!(both.shard.heap_bytes() < full / 100);
    for filter in &filters[..10] {
        both.unsubscribe(1, filter);
    }
    assert_eq!((both.filters(), both.heap_bytes()), ((0, 0), 0));
}

proptest! {
    #[test]
    fn the_shared_routes_follow_from_the_edges_that_shards_report(
        steps in prop::collection::vec((0..4_u8, 0..2_u8, 0..80_u32, 0..3_usize), 1..400),
    ) {
        let filters = [filter("a"), filter("a/#"), filter("+")];
        let mut shards = [ShardRoutes::new(), ShardRoutes::new()];
        let mut routes = Routes::new();
        let mut readers = BTreeSet::new();
        let mut holds = BTreeMap::new();
        for (kind, at, slot, which) in steps {
            let filter = &filters[which];
            let shard = &mut shards[usize::from(at)];
            routes.change(filter, ShardId(at), |number| match kind {
                0 => {
                    readers.insert((at, which, slot));
                    shard.subscribe(Slot(slot), number, &options(1), true)
                }
                1 => {
                    readers.remove(&(at, which, slot));
                    shard.unsubscribe(Slot(slot), number)
                }
                2 => {
                    *holds.entry((at, which)).or_insert(0) += 1;
                    shard.hold(number)
                }
                _ => {
                    let held = holds.entry((at, which)).or_insert(0);
                    *held = i32::max(*held - 1, 0);
                    shard.release(number)
                }
            });
            let mut in_use = BTreeSet::new();
            for (at, shard) in (0..).zip(&shards) {
                let online = |wanted: &[usize]| {
                    readers.iter().any(|(on, which, _)| *on == at && wanted.contains(which))
                };
                let held = |wanted: usize| holds.get(&(at, wanted)).is_some_and(|held| *held > 0);
                let mut found = Vec::new();
                let matched = routes.lookup("a", |number| {
                    shard.for_each_reader(number, |slot, _, _| found.push(slot.0));
                });
                prop_assert_eq!(matched.online.contains(ShardId(at)), online(&[0, 1, 2]));
                prop_assert_eq!(matched.durable.contains(ShardId(at)), (0..3).any(held));
                let below = routes.lookup("a/b", |_| {}).online;
                prop_assert_eq!(below.contains(ShardId(at)), online(&[1]));
                let known = (0..3).filter(|which| online(&[*which]) || held(*which));
                in_use.extend(known.clone());
                prop_assert_eq!(shard.filters(), known.count());
                let mut expected: Vec<u32> = readers
                    .iter()
                    .filter_map(|(on, _, slot)| (*on == at).then_some(*slot))
                    .collect();
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(routes.filters(), in_use.len());
        }
    }
}
