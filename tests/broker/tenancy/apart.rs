//! What is one's own stays one's own, and looks as if nobody else were there.

use super::{TENANTS, connect, expect, kept, publish, start, transient};
use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Connect, Publish, Value, Version, property};

#[test]
fn one_client_id_in_two_tenants_is_two_sessions_that_survive_kill_9() {
    let mut broker = start(&[]);
    for version in Version::ALL {
        let id = format!("{version:?}");
        let says_present = version != Version::V31; // which has no bit for it
        let mut both = TENANTS.map(|tenant| kept(&broker, tenant, version, &id));
        for (tenant, client) in TENANTS.iter().zip(&mut both) {
            assert!(!client.connack.present);
            client.subscribe(&format!("{tenant}/+"), 1);
            client.subscribe("all/#", 2);
        }
        // Nobody was taken over, and to unsubscribe is one's own business.
        assert_eq!(
            both[0].unsubscribe("1/+").len(),
            usize::from(version == Version::V5)
        );
        publish(&broker, 1, "1/a", "second");
        expect(&mut both[1], "1/a", "second");
        both.into_iter().for_each(Client::disconnect);
        publish(&broker, 0, "all", "of first");
        broker.crash();
        publish(&broker, 1, "all/x", "of second");
        let [mut first, mut second] = TENANTS.map(|tenant| kept(&broker, tenant, version, &id));
        for client in [&first, &second] {
            assert_eq!(client.connack.present, says_present);
        }
        expect(&mut first, "all", "of first");
        expect(&mut second, "all/x", "of second");
        // A clean start ends the session of one tenant only.
        second.disconnect();
        connect(&broker, 1, &Connect::new(version, &id)).disconnect();
        first.disconnect();
        let [first, second] = TENANTS.map(|tenant| kept(&broker, tenant, version, &id));
        assert_eq!(first.connack.present, says_present);
        assert!(!second.connack.present);
    }
}

#[test]
fn no_filter_reaches_into_another_tenant_and_each_means_what_it_always_meant() {
    let broker = start(&[]);
    let filters = [
        "#", "+/+", "+/#", "/#", "$x/#", "$x/+", "$SYS/#", "a/b", "\u{1}/#",
    ];
    let topics = ["a/b", "/b", "$x/b", "a", "$x", "/", "127.0.0.1"];
    let matching = [
        ("#", &["a/b", "/b", "a", "/", "127.0.0.1"][..]),
        ("+/+", &["a/b", "/b", "/"]),
        ("+/#", &["a/b", "/b", "a", "/", "127.0.0.1"]),
        ("/#", &["/b", "/"]),
        ("$x/#", &["$x/b", "$x"]),
        ("$x/+", &["$x/b"]),
        ("a/b", &["a/b"]),
    ];
    for (number, version) in Version::ALL.into_iter().enumerate() {
        let readers = |tenant: usize| {
            filters.map(|filter| {
                let id = format!("{}{filter}", tenant + 2 * number);
                let mut reader = transient(&broker, tenant, version, &id);
                reader.subscribe(filter, 1);
                reader
            })
        };
        let (mut own, mut others) = (readers(0), readers(1));
        for topic in topics {
            publish(&broker, 0, topic, topic);
        }
        for (filter, reader) in filters.iter().zip(&mut own) {
            let known = matching.iter().find(|(known, _)| known == filter);
            for topic in known.map_or(&[][..], |(_, topics)| topics) {
                expect(reader, topic, topic);
            }
            reader.assert_nothing_waits();
        }
        publish(&broker, 1, "a/b", "own");
        publish(&broker, 1, "$x/b", "own too");
        for (filter, reader) in filters.iter().zip(&mut others) {
            match *filter {
                "#" | "+/+" | "+/#" | "a/b" => expect(reader, "a/b", "own"),
                "$x/#" | "$x/+" => expect(reader, "$x/b", "own too"),
                _ => {}
            }
            reader.assert_nothing_waits();
        }
        own.into_iter().chain(others).for_each(Client::disconnect);
    }
}

#[test]
fn retained_messages_are_those_of_the_tenant() {
    let mut broker = start(&[]);
    let retain = |broker: &Broker, tenant, topic: &str, payload: &str| {
        let mut writer = transient(broker, tenant, Version::V5, "writer");
        writer.publish_retained(topic, payload, 1);
    };
    retain(&broker, 0, "r/a", "of first");
    retain(&broker, 1, "r/a", "of second");
    retain(&broker, 1, "$r/a", "not for a wildcard");
    broker.crash();
    let replayed = |broker: &Broker, tenant, filter: &str| {
        let mut reader = transient(broker, tenant, Version::V311, "reader");
        reader.subscribe(filter, 1);
        reader
    };
    for filter in ["r/a", "#", "+/a", "r/+"] {
        for (tenant, payload) in [(0, "of first"), (1, "of second")] {
            let mut reader = replayed(&broker, tenant, filter);
            expect(&mut reader, "r/a", payload);
            reader.assert_nothing_waits();
        }
    }
    expect(
        &mut replayed(&broker, 1, "$r/#"),
        "$r/a",
        "not for a wildcard",
    );
    // Cleared for one.
    retain(&broker, 1, "r/a", "");
    replayed(&broker, 1, "#").assert_nothing_waits();
    expect(&mut replayed(&broker, 0, "#"), "r/a", "of first");
}

#[test]
fn a_will_is_for_its_tenant() {
    let broker = start(&[]);
    for version in Version::ALL {
        let mut watchers = TENANTS.map(|tenant| {
            let mut watcher = transient(&broker, tenant, version, "watcher");
            watcher.subscribe("#", 1);
            watcher
        });
        for tenant in TENANTS {
            let will = Connect::new(version, "c").will("will/c", &format!("gone {tenant}"), 0);
            connect(&broker, tenant, &will).vanish();
        }
        for (tenant, watcher) in TENANTS.iter().zip(&mut watchers) {
            expect(watcher, "will/c", &format!("gone {tenant}"));
            watcher.assert_nothing_waits();
        }
    }
    // What belongs to the broker does so for every tenant.
    let will = |topic| Connect::new(Version::V5, "c").will(topic, "gone", 0);
    let state = "$SYS/broker/connection/c/state";
    let mut watchers = TENANTS.map(|tenant| {
        let mut watcher = transient(&broker, tenant, Version::V5, "watcher");
        watcher.subscribe("$SYS/#", 1);
        watcher
    });
    connect(&broker, 0, &will("$SYS/a")).vanish();
    connect(&broker, 0, &will(state)).vanish();
    expect(&mut watchers[0], state, "gone");
    watchers.iter_mut().for_each(Client::assert_nothing_waits);
    assert_eq!(broker.metric("outlive_wills_refused_total"), 1.0);
}

#[test]
fn groups_of_one_name_share_nothing_and_have_limits_of_their_own() {
    let mut broker = start(&[
        "shared.members_per_group_max=2",
        "shared.filters_per_group_max=1",
        "shared.groups=[\"g\"]",
        "shared.require_declared_groups=true",
    ]);
    for (tenant, version) in [(0, Version::V31), (1, Version::V5)] {
        for id in ["m1", "m2"] {
            let mut member = kept(&broker, tenant, version, id);
            member.subscribe("$share/g/+/b", 1);
            member.disconnect();
        }
        let mut third = kept(&broker, tenant, Version::V5, "m3");
        assert_eq!(third.try_subscribe("$share/g/+/b", 1), 0x97, "members");
        assert_eq!(third.try_subscribe("$share/g/a/b", 1), 0x97, "filters");
        assert_eq!(third.try_subscribe("$share/h/a/b", 1), 0x87, "not declared");
    }
    publish(&broker, 0, "a/b", "first");
    publish(&broker, 0, "$a/b", "not for a wildcard");
    publish(&broker, 1, "a/b", "second");
    broker.crash();
    for (tenant, version, payload) in [(0, Version::V31, "first"), (1, Version::V5, "second")] {
        let mut member = kept(&broker, tenant, version, "m2");
        expect(&mut member, "a/b", payload);
        member.assert_nothing_waits();
    }
    // 5.0 section 3.8.3.1: still one's own.
    let mut member = kept(&broker, 1, Version::V5, "m1");
    member.send(&crate::wire::subscribe(
        Version::V5,
        9,
        "$share/g/+/b",
        0b101,
    ));
    assert_eq!(member.closed(), Some(0x82), "no-local on a group");
}

#[test]
fn aliases_response_topics_and_assigned_ids_are_the_clients_own() {
    let broker = start(&["mqtt.response_information=reply/{client_id}"]);
    let asks = Connect::new(Version::V5, "")
        .property(property::TOPIC_ALIAS_MAXIMUM, 1)
        .property(0x19, 1);
    let mut client = connect(&broker, 1, &asks);
    let assigned = client.connack.properties.text(property::ASSIGNED_CLIENT_ID);
    let assigned = assigned.unwrap().to_owned();
    assert!(assigned.starts_with("outlive-"), "{assigned:?}");
    let information = client
        .connack
        .properties
        .text(property::RESPONSE_INFORMATION);
    assert_eq!(information, Some(&*format!("reply/{assigned}")));
    client.subscribe("long/topic/#", 1);
    let mut publisher = transient(&broker, 1, Version::V5, "publisher");
    let alias = (property::TOPIC_ALIAS, Value::Number(1));
    let response = (
        property::RESPONSE_TOPIC,
        Value::Bytes(b"reply/here".to_vec()),
    );
    for topic in ["long/topic/a", "", ""] {
        publisher.send_message(&Publish {
            topic: topic.to_owned(),
            payload: b"m".to_vec(),
            properties: crate::wire::Properties(vec![alias.clone(), response.clone()]),
            ..Publish::default()
        });
    }
    for topic in ["long/topic/a", "", ""] {
        let message = client.expect("m");
        assert_eq!(
            message.topic, topic,
            "in full, and then by the broker's alias"
        );
        assert_eq!(message.properties.number(property::TOPIC_ALIAS), Some(1));
        let answer = message.properties.text(property::RESPONSE_TOPIC);
        assert_eq!(answer, Some("reply/here"));
    }
}

#[test]
fn the_longest_and_deepest_topic_is_as_long_and_deep_as_without_tenants() {
    let mut broker = start(&[
        "mqtt.topic_levels_max=3",
        "mqtt.topic_bytes_max=65535",
        "mqtt.client_id_bytes_max=65535",
    ]);
    let longest = "a".repeat(65_535);
    let id = "i".repeat(65_535);
    for version in [Version::V311, Version::V5] {
        let mut reader = kept(&broker, 1, version, &id);
        reader.subscribe(&longest, 1);
        reader.subscribe("a/b/#", 1);
        let refused = reader.try_subscribe("a/b/c/#", 1);
        assert!(refused >= 0x80, "{refused:#04x}");
        reader.disconnect();
        publish(&broker, 1, &longest, "long");
        publish(&broker, 1, "a/b/c", "deep");
        broker.crash();
        let mut reader = kept(&broker, 1, version, &id);
        assert!(reader.connack.present);
        expect(&mut reader, &longest, "long");
        expect(&mut reader, "a/b/c", "deep");
        reader.assert_nothing_waits();
    }
    let mut deeper = transient(&broker, 1, Version::V5, "deeper");
    let id = deeper.send_publish("a/b/c/d", "too deep", 1, false);
    assert_eq!(deeper.wait_ack_code(crate::wire::Ack::Puback, id), 0x90);
}
