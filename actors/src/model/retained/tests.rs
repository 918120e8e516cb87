//! Tests of what is retained, and of what a filter finds of it.

use proptest::prelude::*;

use super::super::ids::SessionNumber;
use super::super::message::{MessageParts, QoS};
use super::super::tenant::Tenant;
use super::super::topic::Filter;
use super::*;

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

fn at(offset: u64) -> RetainedAt {
    RetainedAt {
        offset: Offset(offset),
        bytes: 10,
        expires_at: None,
    }
}

fn retained(topics: &[&str]) -> Retained {
    let mut retained = Retained::new();
    for (topic, offset) in topics.iter().zip(0..) {
        retained.set(topic, at(offset));
    }
    retained
}

fn topics_of(found: &[(Box<str>, Offset)]) -> Vec<&str> {
    found.iter().map(|(topic, _)| &**topic).collect()
}

/// Names around `/` in byte order (`-`, `.`, `0`) and prefixes of each other.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "a-", "a.b", "a0", "aa", "b", "$s", "é", "!"])
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("empty", |topic| !topic.is_empty())
}

fn filters() -> impl Strategy<Value = Filter> {
    let level = prop_oneof![2 => level(), 1 => Just("+")];
    (prop::collection::vec(level, 0..5), any::<bool>()).prop_filter_map(
        "empty",
        |(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            Filter::new(&levels.join("/"))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn pages_together_are_what_a_linear_scan_finds(
        topics in prop::collection::btree_map(topics(), any::<u64>().prop_map(Offset), 0..60),
        filter in filters(),
        found_max in 1..5_usize,
        visited_max in 1..9_usize,
    ) {
        let mut retained = Retained::new();
        for (topic, offset) in &topics {
            retained.set(topic, at(offset.0));
        }
        let expected: Vec<(Box<str>, Offset)> = topics
            .iter()
            .filter(|(topic, _)| filter.matches(topic))
            .map(|(topic, offset)| (Box::from(topic.as_str()), *offset))
            .collect();
        prop_assert_eq!(&retained.matching(&filter, None, usize::MAX), &expected);
        let mut found = Vec::new();
        let mut after: Option<Box<str>> = None;
        loop {
            let page = retained.page(&filter, after.as_deref(), found_max, visited_max);
            prop_assert!(page.found.len() <= found_max);
            found.extend(page.found);
            match page.resume {
                Some(resume) => {
                    prop_assert!(after.is_none_or(|after| after < resume), "a page makes headway");
                    after = Some(resume);
                }
                None => break,
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_counts_follow_what_is_set_and_cleared(
        steps in prop::collection::vec((topics(), any::<bool>(), any::<u32>()), 0..60),
    ) {
        let mut retained = Retained::new();
        let mut model = BTreeMap::new();
        for (topic, set, bytes) in steps {
            if set {
                retained.set(&topic, RetainedAt { bytes, ..at(u64::from(bytes)) });
                model.insert(topic, bytes);
            } else {
                retained.clear(&topic);
                model.remove(&topic);
            }
            prop_assert_eq!(retained.len(), model.len());
            let bytes = model.values().copied().map(u64::from).sum();
            let expected = Amount { count: model.len() as u64, bytes };
            prop_assert_eq!(retained.tally().all(), expected);
        }
        let all: Vec<_> = model
            .iter()
            .map(|(topic, bytes)| (topic.as_str(), Offset(u64::from(*bytes))))
            .collect();
        prop_assert_eq!(retained.iter().collect::<Vec<_>>(), all);
    }
}

#[test]
fn a_leading_wildcard_passes_over_topics_of_the_broker() {
    let retained = retained(&["!", "$SYS/a", "$SYS/b", "a/a"]);
    let all = retained.matching(&filter("#"), None, 9);
    assert_eq!(topics_of(&all), ["!", "a/a"]);
    let system = retained.matching(&filter("$SYS/+"), None, 9);
    assert_eq!(topics_of(&system), ["$SYS/a", "$SYS/b"]);
    let level = retained.matching(&filter("+/a"), None, 9);
    assert_eq!(topics_of(&level), ["a/a"]);
}

#[test]
fn a_replay_goes_on_after_the_last_topic_even_if_that_was_cleared() {
    let mut retained = retained(&["a", "a/1", "a/2", "a/3", "b"]);
    let first = retained.matching(&filter("a/#"), None, 2);
    assert_eq!(topics_of(&first), ["a", "a/1"]);
    retained.clear("a/1");
    let second = retained.matching(&filter("a/#"), Some("a/1"), 2);
    assert_eq!(topics_of(&second), ["a/2", "a/3"]);
    assert!(retained.matching(&filter("a/#"), Some("a/3"), 2).is_empty());
}

fn message(topic: &str, payload_bytes: usize) -> Message {
    Message::new(MessageParts {
        topic,
        payload: &vec![b'x'; payload_bytes],
        properties: b"",
        qos: QoS::AtLeastOnce,
        retain: true,
        published_at: Timestamp(0),
        expires_at: None,
        publisher: SessionNumber(1),
    })
}

#[test]
fn at_a_limit_what_is_retained_may_be_replaced_but_nothing_more_comes_in() {
    let mut retained = retained(&["a", "b"]);
    let mut has_room = |topic, payload_bytes, (count, bytes)| {
        retained.limit = Amount { count, bytes };
        let room = retained.room_for(&message(topic, payload_bytes));
        assert!(matches!(room, Ok(()) | Err(Refusal::RetainedQuota)));
        room.is_ok()
    };
    assert!(!has_room("c", 1, (2, 0)));
    assert!(has_room("c", 1, (3, 0)));
    assert!(has_room("c", 1, (0, 0)));
    assert!(has_room("a", 1000, (2, 0)));
    // "b" takes 10 bytes.
    assert!(has_room("c", 0, (0, 21)));
    assert!(!has_room("c", 1, (0, 21)));
    assert!(has_room("b", 10, (0, 21)));
    assert!(!has_room("b", 11, (0, 21)));
    // A limit that was lowered does not keep a message from becoming smaller.
    assert!(has_room("b", 8, (0, 5)));
    retained.clear("a");
    assert_eq!(
        retained.room_for(&message("c", 1)),
        Err(Refusal::RetainedQuota)
    );
    retained.limit = Amount::of(2);
    assert_eq!(retained.room_for(&message("c", 1)), Ok(()));
}

#[test]
fn a_tenant_at_its_limit_is_refused_and_nobody_else() {
    let mut retained = Retained::new();
    retained.limit(Amount::of(4));
    let at_most = |count, bytes| TenantLimits {
        retained: Amount { count, bytes },
        ..TenantLimits::default()
    };
    retained.limit_tenants(Arc::new(PerTenant {
        each: at_most(2, 0),
        named: [("b".into(), at_most(0, 9))].into(),
    }));
    let known = |tenant: &str, own: &str| {
        let tenant = Tenant::new(tenant).unwrap();
        format!("{}{own}", tenant.prefix_of(own))
    };
    let fill = |retained: &mut Retained, topic: &str| {
        let room = retained.room_for(&message(topic, 1));
        if room.is_ok() {
            let at = RetainedAt::of(Offset(1), &message(topic, 1));
            retained.set(topic, at.unwrap());
        }
        room
    };
    let [a, other, third] = ["x", "$x", "y"].map(|own| known("a", own));
    assert_eq!(fill(&mut retained, &a), Ok(()));
    assert_eq!(fill(&mut retained, &other), Ok(()));
    assert_eq!(
        fill(&mut retained, &third),
        Err(Refusal::TenantRetainedQuota)
    );
    assert_eq!(fill(&mut retained, &a), Ok(()), "replaced");
    // "b␀/x" and a byte are 5 bytes.
    assert_eq!(fill(&mut retained, &known("b", "x")), Ok(()));
    assert_eq!(
        fill(&mut retained, &known("b", "y")),
        Err(Refusal::TenantRetainedQuota)
    );
    assert_eq!(fill(&mut retained, &known("c", "x")), Ok(()));
    assert_eq!(
        fill(&mut retained, &known("c", "y")),
        Err(Refusal::RetainedQuota)
    );
    assert_eq!(
        fill(&mut retained, &third),
        Err(Refusal::TenantRetainedQuota),
        "the narrower one"
    );
    retained.clear(&other);
    retained.clear(&known("c", "x"));
    assert_eq!(fill(&mut retained, &third), Ok(()));
    let of_tenants: Vec<_> = retained.tally().tenants().collect();
    let has = |count, bytes| Amount { count, bytes };
    assert_eq!(of_tenants, [("a", has(2, 10)), ("b", has(1, 5))]);
}

fn expiring(offset: u64, expires_at: u64) -> RetainedAt {
    RetainedAt {
        expires_at: Some(Timestamp(expires_at)),
        ..at(offset)
    }
}

#[test]
fn only_messages_that_expired_go_the_oldest_first() {
    let mut retained = Retained::new();
    for (topic, at) in [
        ("a", expiring(0, 10)),
        ("b", expiring(1, 20)),
        ("c", at(2)),
        ("d", expiring(3, 10)),
        ("e", expiring(4, 10)),
        ("e", at(5)),
        ("b", expiring(6, 15)),
    ] {
        retained.set(topic, at);
    }
    let gone = |retained: &mut Retained| -> Vec<(String, u64)> {
        let gone = retained.take_gone(9).into_iter();
        gone.map(|(topic, at)| (topic.into(), at.0)).collect()
    };
    assert_eq!(retained.expire(Timestamp(9), 9), 0);
    assert_eq!(retained.expire(Timestamp(10), 1), 1);
    assert_eq!(gone(&mut retained), [("a".to_owned(), 0)]);
    assert_eq!(retained.expire(Timestamp(15), 9), 2);
    assert_eq!(retained.take_gone(1), [("d".into(), Offset(3))]);
    assert_eq!(gone(&mut retained), [("b".to_owned(), 6)]);
    assert_eq!(retained.expire(Timestamp(1_000), 9), 0);
    let left = [("c", Offset(2)), ("e", Offset(5))];
    assert_eq!(retained.iter().collect::<Vec<_>>(), left);
    assert_eq!((retained.expired(), retained.tally().all().bytes), (3, 20));
}

#[test]
fn what_expired_takes_no_room_from_what_has_not() {
    let mut retained = Retained::new();
    retained.limit(Amount::of(3));
    for (topic, at) in [("a", expiring(0, 10)), ("b", expiring(1, 20)), ("c", at(2))] {
        retained.set(topic, at);
    }
    let new = message("d", 1);
    let refused = Err(Refusal::RetainedQuota);
    assert_eq!(retained.make_room_for(&new, Timestamp(9)), refused);
    assert_eq!(retained.len(), 3);
    assert_eq!(retained.make_room_for(&new, Timestamp(10)), Ok(()));
    assert_eq!(retained.take_gone(9), [("a".into(), Offset(0))]);
    // As many go as it takes, however they are ordered.
    let own = |own: &str| format!("{}{own}", Tenant::new("t").unwrap().prefix_of(own));
    retained.limit(Amount::default());
    retained.limit_tenants(Arc::new(PerTenant {
        each: TenantLimits {
            retained: Amount::of(1),
            ..TenantLimits::default()
        },
        ..PerTenant::default()
    }));
    for number in 0..3_000 {
        retained.set(&format!("x/{number}"), expiring(10 + number, 30));
    }
    retained.set(&own("a"), expiring(9_000, 31));
    let new = message(&own("b"), 1);
    let refused = Err(Refusal::TenantRetainedQuota);
    assert_eq!(retained.make_room_for(&new, Timestamp(30)), refused);
    assert_eq!(retained.make_room_for(&new, Timestamp(31)), Ok(()));
}

#[test]
fn a_wildcard_lookup_looks_at_few_of_many_topics() {
    let mut retained = Retained::new();
    for site in 0..100 {
        for device in 0..100 {
            retained.set(
                &format!("site/{site:02}/device/{device:02}"),
                at(site * 100 + device),
            );
        }
    }
    for (text, found, visited) in [
        ("site/50/device/50", 1, 2),
        ("site/50/#", 100, 101),
        // Per site: its first topic, the match, and the one after it.
        ("site/+/device/50", 100, 300),
        ("site/+/nothing", 0, 200),
        ("other/#", 0, 1),
    ] {
        let page = retained.page(&filter(text), None, usize::MAX, visited);
        assert_eq!(
            (page.found.len(), page.resume.is_none()),
            (found, true),
            "{text}"
        );
    }
}

#[test]
fn messages_whose_records_are_gone_go_and_their_room_with_them() {
    let mut retained = retained(&["a", "b", "c", "d", "e"]);
    retained.limit(Amount::of(5));
    let parts = [Offset(1)..Offset(2), Offset(3)..Offset(4)];
    let lost = retained.outside(&parts);
    let expected = [("a", 0), ("c", 2), ("e", 4)].map(|(topic, at)| (topic.into(), Offset(at)));
    assert_eq!(lost, expected);
    // One was replaced meanwhile.
    retained.set("c", at(7));
    retained.lose(lost);
    let left = [("b", 1), ("c", 7), ("d", 3)].map(|(topic, at)| (topic, Offset(at)));
    assert_eq!(retained.iter().collect::<Vec<_>>(), left);
    assert_eq!((retained.lost(), retained.tally().all().bytes), (2, 30));
    assert_eq!(retained.room_for(&message("f", 1)), Ok(()));
    let gone = [("a", 0), ("e", 4)].map(|(topic, at)| (topic.into(), Offset(at)));
    assert_eq!(retained.take_gone(9), gone);
    assert_eq!(retained.outside(&[]).len(), 3);
}
