//! What routing costs: filter lookup, shared and shard routes, retained messages under wildcards.
//!
//! Every sample asks a run of different topics, so that the caches are as cold as they are in a broker; the figure to
//! read is the time (or items/s) per topic.

use std::hint::black_box;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use outlive_actors::model::filter_map::FilterMap;
use outlive_actors::model::ids::{Offset, ShardId};
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::SubscriptionOptions;
use outlive_actors::model::retained::{Retained, RetainedAt};
use outlive_actors::model::routes::{FilterNumber, RouteEdge, Routes, ShardRoutes, Slot};
use outlive_actors::model::topic::Filter;

const FILTERS: u32 = 100_000;
const MILLION: u32 = 1_000_000;
/// Topics per sample.
const TOPICS: u32 = 1_000;

#[expect(
    clippy::print_stderr,
    reason = "the memory per filter is part of the result"
)]
fn main() {
    let exact: Vec<Filter> = (0..MILLION).map(exact_filter).collect();
    let mut routes = Routes::new();
    let mut shard = ShardRoutes::new();
    for filter in &exact {
        routes.change(filter, ShardId(0), |number| shard.hold(number));
    }
    let per_filter = |bytes: usize| bytes / exact.len();
    eprintln!(
        "1,000,000 exact filters: {} B each in Routes, {} B each in ShardRoutes, texts not counted",
        per_filter(routes.heap_bytes()),
        per_filter(shard.heap_bytes()),
    );
    drop((routes, shard, exact));
    divan::main();
}

fn filter(text: &str) -> Filter {
    Filter::new(text).expect("a valid filter")
}

fn exact_filter(n: u32) -> Filter {
    filter(&format!("site/{:04}/device/{n:07}", n % 1_000))
}

/// A third exact, a third with `+`, a third with `#`; each topic matches one.
fn mixed_filter(n: u32) -> Filter {
    match n % 3 {
        0 => exact_filter(n),
        1 => filter(&format!("site/{:04}/device/{n:07}/+", n % 1_000)),
        _ => filter(&format!("site/{:04}/device/{n:07}/#", n % 1_000)),
    }
}

fn mixed_topic(n: u32) -> String {
    let suffix = if n.is_multiple_of(3) { "" } else { "/state" };
    format!("site/{:04}/device/{n:07}{suffix}", n % 1_000)
}

/// Topics spread over all `FILTERS`.
fn spread(topic: impl Fn(u32) -> String) -> Vec<String> {
    (0..TOPICS).map(|n| topic(n * 7_919 % FILTERS)).collect()
}

fn map_of(filters: impl Fn(u32) -> Filter) -> FilterMap<u32> {
    let mut map = FilterMap::new();
    for n in 0..FILTERS {
        map.insert(&filters(n), n);
    }
    map
}

fn look_up(bencher: Bencher<'_, '_>, map: &FilterMap<u32>, topics: &[String], expected: usize) {
    bencher.counter(ItemsCount::new(topics.len())).bench(|| {
        let mut found = 0;
        for topic in topics {
            map.for_each_match(black_box(topic), |_| found += 1);
        }
        assert_eq!(found, expected * topics.len());
    });
}

#[divan::bench]
fn filter_map_exact_hit(bencher: Bencher<'_, '_>) {
    let topics = spread(|n| exact_filter(n).to_string());
    look_up(bencher, &map_of(exact_filter), &topics, 1);
}

#[divan::bench]
fn filter_map_exact_miss(bencher: Bencher<'_, '_>) {
    let topics = spread(|n| format!("site/{:04}/absent/{n:07}", n % 1_000));
    look_up(bencher, &map_of(exact_filter), &topics, 0);
}

#[divan::bench]
fn filter_map_mixed_100k(bencher: Bencher<'_, '_>) {
    look_up(bencher, &map_of(mixed_filter), &spread(mixed_topic), 1);
}

#[divan::bench]
fn filter_map_mixed_100k_linear_scan(bencher: Bencher<'_, '_>) {
    let filters: Vec<Filter> = (0..FILTERS).map(mixed_filter).collect();
    let topic = mixed_topic(50_000);
    bencher.counter(ItemsCount::new(1_u32)).bench(|| {
        filters
            .iter()
            .filter(|filter| filter.matches(black_box(&topic)))
            .count()
    });
}

/// Per filter added and removed again, beside `FILTERS` others.
#[divan::bench]
fn filter_map_subscribe_and_unsubscribe(bencher: Bencher<'_, '_>) {
    let mut map = map_of(mixed_filter);
    let passing: Vec<Filter> = (FILTERS..FILTERS + TOPICS).map(mixed_filter).collect();
    bencher
        .counter(ItemsCount::new(passing.len()))
        .bench_local(|| {
            for filter in &passing {
                map.insert(filter, 0);
            }
            for filter in &passing {
                map.remove(filter);
            }
        });
}

#[divan::bench]
fn routes_mixed_100k(bencher: Bencher<'_, '_>) {
    let mut routes = Routes::new();
    for n in 0..FILTERS {
        let online = Some(RouteEdge::Online(true));
        routes.change(&mixed_filter(n), ShardId(0), |_| online);
    }
    let topics = spread(mixed_topic);
    bencher.counter(ItemsCount::new(topics.len())).bench(|| {
        for topic in &topics {
            black_box(routes.lookup(black_box(topic), |number| _ = black_box(number)));
        }
    });
}

/// The broadcast: per reader.
#[divan::bench]
fn shard_routes_fan_out_1000(bencher: Bencher<'_, '_>) {
    let mut routes = ShardRoutes::new();
    let all = FilterNumber(0);
    let options = SubscriptionOptions::of_qos(QoS::AtLeastOnce);
    for slot in 0..1_000 {
        routes.subscribe(Slot(slot), all, &options, false);
    }
    bencher.counter(ItemsCount::new(1_000_u32)).bench(|| {
        routes.for_each_reader(black_box(all), |slot, options, _| {
            black_box((slot, options.qos, options.id));
        });
    });
}

#[divan::bench]
fn shard_routes_10k_readers_come_and_go(bencher: Bencher<'_, '_>) {
    let mut routes = ShardRoutes::new();
    let all = FilterNumber(0);
    let options = SubscriptionOptions::of_qos(QoS::AtLeastOnce);
    bencher
        .counter(ItemsCount::new(10_000_u32))
        .bench_local(|| {
            for slot in 0..10_000 {
                routes.subscribe(Slot(slot), all, &options, false);
            }
            for slot in 0..10_000 {
                routes.unsubscribe(Slot(slot), all);
            }
        });
}

/// 1,000 sites x 250 devices x 4 topics.
static RETAINED: LazyLock<Retained> = LazyLock::new(|| {
    let mut retained = Retained::new();
    for n in 0..MILLION {
        let leaf = ["config", "shadow", "state", "version"][n as usize % 4];
        let (site, device) = (n / 1_000, n / 4 % 250);
        let topic = format!("site/{site:04}/device/{device:03}/{leaf}");
        let at = RetainedAt {
            offset: Offset(u64::from(n)),
            bytes: 100,
            expires_at: None,
        };
        retained.set(&topic, at);
    }
    retained
});

/// A million topics; the first page of 100, from the middle of the set where the filter allows.
#[divan::bench(args = [
    "site/0500/device/125/state",
    "site/0500/device/125/+",
    "site/0500/#",
    "site/+/device/125/state",
    "+/+/+/+/state",
    "#",
])]
fn retained_page_of_100_in_a_million(bencher: Bencher<'_, '_>, text: &str) {
    let (retained, filter) = (&*RETAINED, filter(text));
    bencher.bench(|| retained.page(black_box(&filter), Some("site/0400"), 100, 10_000));
}

/// The whole answer: 1,000 matches in a million topics.
#[divan::bench]
fn retained_plus_finds_1000_in_a_million(bencher: Bencher<'_, '_>) {
    let (retained, filter) = (&*RETAINED, filter("site/+/device/125/state"));
    bencher.counter(ItemsCount::new(1_000_u32)).bench(|| {
        let found = retained.matching(black_box(&filter), None, usize::MAX);
        assert_eq!(found.len(), 1_000);
    });
}

/// The worst that `+` can do to a page: nothing matches, every visit is a leap.
#[divan::bench]
fn retained_page_that_finds_nothing_visits_1000(bencher: Bencher<'_, '_>) {
    let (retained, filter) = (&*RETAINED, filter("+/+/+/+/absent"));
    bencher
        .counter(ItemsCount::new(1_000_u32))
        .bench(|| retained.page(black_box(&filter), Some("site/0400"), 100, 1_000));
}
