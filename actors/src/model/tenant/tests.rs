//! What tenants say stays apart, and means among themselves what it means without tenants.

use proptest::prelude::*;

use super::*;
use crate::model::filter_map::FilterMap;
use crate::model::ids::{Offset, SessionNumber, Timestamp};
use crate::model::message::{Message, MessageParts, QoS};
use crate::model::retained::{Retained, RetainedAt};
use crate::model::topic::is_topic_name;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

fn topic(tenant: &Tenant, own: &str) -> String {
    format!("{}{own}", tenant.prefix_of(own))
}

#[test]
fn a_name_is_one_level_of_a_topic() {
    let longest = "a".repeat(TENANT_BYTES_MAX);
    for name in [
        "a",
        "a-b.c",
        "$a",
        "$share",
        "127.0.0.1:1883",
        "é",
        &longest,
    ] {
        assert_eq!(tenant(name).name(), name);
    }
    let longer = "a".repeat(TENANT_BYTES_MAX + 1);
    for name in ["", "a/b", "/", "+", "a#", "a\0b", "\0", &longer] {
        assert!(Tenant::new(name).is_none(), "{name:?}");
    }
}

#[test]
fn what_a_client_says_comes_back_as_it_was() {
    let t = tenant("t");
    for own in ["c", "/c", "t", "t:c", "c/t", "$c"] {
        let known = t.client_id(own);
        assert_eq!((known.tenant(), known.own()), (Some("t"), own));
        assert_eq!(Tenant::of(&known), Some(t.clone()));
        assert_eq!(known.to_string(), format!("t:{own}"));
        let alone = ClientId::from(own);
        assert_eq!((alone.tenant(), alone.own()), (None, own));
        assert_eq!(alone.to_string(), own);
    }
    for own in ["a", "/", "//", "/a", "$", "$x/y", "$share", "a/$b", "t/a"] {
        let known = topic(&t, own);
        assert_eq!(&known[t.prefix_bytes(known.as_bytes())..], own);
    }
}

#[test]
fn filters_and_groups_are_shown_as_their_clients_said_them() {
    for own in [
        "a/+",
        "/a",
        "#",
        "$x/#",
        "$share/g/a/+",
        "$share/g//",
        "$share/g/$x/y",
        "$shared/a",
    ] {
        let own = filter(own);
        let known = tenant("t").filter(&own);
        assert_eq!(known.is_shared(), own.is_shared());
        assert_eq!(known.to_string(), format!("t:{}", own.as_str()));
        assert_eq!(own.to_string(), own.as_str());
    }
    let (group, plain) = ("t\0g", tenant("t").filter(&filter("a")));
    assert_eq!(
        tenant("t").filter(&filter("$share/g/a")).share(),
        Some((group, plain))
    );
}

#[test]
#[should_panic(expected = "another tenant")]
fn a_message_of_another_tenant_is_given_to_nobody() {
    tenant("t").prefix_bytes(topic(&tenant("tt"), "a").as_bytes());
}

/// Few names, so that random filters and topics meet; some try to look like a tenant.
fn topics() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "", "$s", "t", "u", "$share"]);
    prop::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("empty", |text| is_topic_name(text))
}

fn filters() -> impl Strategy<Value = Filter> {
    let level = prop::sample::select(vec!["a", "b", "", "$s", "t", "u", "+", "+"]);
    (prop::collection::vec(level, 0..5), any::<bool>()).prop_filter_map(
        "no filter",
        |(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            Filter::new(&levels.join("/"))
        },
    )
}

fn retained<'a>(topics: impl IntoIterator<Item = &'a String>) -> Retained {
    let mut retained = Retained::new();
    for (at, topic) in (1..).zip(topics) {
        let at = RetainedAt {
            offset: Offset(at),
            bytes: 1,
            expires_at: None,
        };
        retained.set(topic, at);
    }
    retained
}

/// All tenants of a test: the name of one is the beginning of another's, and one begins with `$`.
fn tenants() -> [Tenant; 3] {
    ["t", "tu", "$t"].map(tenant)
}

proptest! {
    #[test]
    fn a_filter_matches_in_its_tenant_what_it_matches_alone_and_nothing_elsewhere(
        filters in prop::collection::btree_set(filters(), 1..20),
        topics in prop::collection::btree_set(topics(), 1..20),
    ) {
        let mut map = FilterMap::new();
        for tenant in &tenants() {
            for own in &filters {
                map.insert(&tenant.filter(own), (tenant.name().to_owned(), own.clone()));
            }
        }
        for tenant in &tenants() {
            for own in &topics {
                let known = topic(tenant, own);
                let mut found = Vec::new();
                map.for_each_match(&known, |of| found.push(of.clone()));
                found.sort_unstable();
                let matching = filters.iter().filter(|filter| filter.matches(own));
                let expected: Vec<_> = matching.map(|of| (tenant.name().to_owned(), of.clone())).collect();
                prop_assert_eq!(found, expected, "{:?}", known);
                for other in &tenants() {
                    for filter in &filters {
                        let expected = other == tenant && filter.matches(own);
                        prop_assert_eq!(other.filter(filter).matches(&known), expected, "{} {}", filter, own);
                    }
                }
            }
        }
    }

    #[test]
    fn a_group_reads_what_its_filter_matches(filter in filters()) {
        let own = Filter::new(&format!("$share/g/{}", filter.as_str())).unwrap();
        for tenant in tenants() {
            let known = tenant.filter(&own);
            let (group, plain) = known.share().unwrap();
            prop_assert_eq!(group, format!("{}\0g", tenant.name()));
            prop_assert_eq!(plain, tenant.filter(&filter));
        }
    }

    #[test]
    fn retained_messages_are_found_as_they_are_alone(
        filter in filters(),
        topics in prop::collection::btree_set(topics(), 1..30),
    ) {
        let all: Vec<String> = tenants().iter().flat_map(|of| topics.iter().map(|own| topic(of, own))).collect();
        let (everybodys, alone) = (retained(&all), retained(&topics));
        let alone = alone.matching(&filter, None, usize::MAX);
        for tenant in &tenants() {
            let found = everybodys.matching(&tenant.filter(&filter), None, usize::MAX);
            let found: Vec<&str> = found.iter().map(|(topic, _)| &**topic).collect();
            let expected: Vec<String> = alone.iter().map(|(own, _)| topic(tenant, own)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_message_of_a_tenant_differs_in_its_topic_only() {
    let own = Message::new(MessageParts {
        topic: "a/b",
        payload: b"p",
        properties: b"\x01\x01",
        qos: QoS::ExactlyOnce,
        retain: true,
        published_at: Timestamp(1),
        expires_at: Some(Timestamp(2)),
        publisher: SessionNumber(3),
    });
    let known = own.of_tenant(&tenant("t"));
    assert_eq!(known.topic(), "t\0/a/b");
    assert_eq!(
        (known.payload(), known.properties()),
        (own.payload(), own.properties())
    );
    assert_eq!(
        (known.qos, known.retain, known.expires_at),
        (own.qos, own.retain, own.expires_at)
    );
}
