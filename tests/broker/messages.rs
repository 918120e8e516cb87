//! What a message of 5.0 carries, end to end: over the routing pass, the journal, a crash and the retained table.

use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Ack, Connect, Properties, Publish, Value, Version, property};

const RETAIN_AS_PUBLISHED: u8 = 0b1000;
const NO_LOCAL: u8 = 0b100;
const RETAIN_NEVER: u8 = 0b10_0000;

fn pair(key: &str, value: &str) -> (u8, Value) {
    let bytes = |text: &str| text.as_bytes().to_vec();
    (
        property::USER_PROPERTY,
        Value::Pair(bytes(key), bytes(value)),
    )
}

/// One of each, user properties around them and one of these twice.
fn application_properties() -> Properties {
    Properties(vec![
        pair("z", "1"),
        (property::PAYLOAD_FORMAT, Value::Number(1)),
        (property::CONTENT_TYPE, Value::Bytes(b"text/plain".to_vec())),
        pair("a", "2"),
        (
            property::RESPONSE_TOPIC,
            Value::Bytes(b"answers/1".to_vec()),
        ),
        (property::CORRELATION_DATA, Value::Bytes(vec![0, 255, 7])),
        pair("z", "1"),
        pair("", ""),
    ])
}

fn message(topic: &str, qos: u8) -> Publish {
    Publish {
        topic: topic.to_owned(),
        payload: b"text".to_vec(),
        qos,
        id: u16::from(qos > 0),
        ..Publish::default()
    }
}

/// Publishes and goes through the handshake.
fn publish(writer: &mut Client, message: &Publish) {
    writer.send_message(message);
    match message.qos {
        0 => {}
        1 => writer.wait_ack(Ack::Puback, message.id),
        _ => {
            writer.wait_ack(Ack::Pubrec, message.id);
            writer.send_ack(Ack::Pubrel, message.id);
            writer.wait_ack(Ack::Pubcomp, message.id);
        }
    }
}

#[test]
fn every_property_of_a_message_arrives_as_it_was_sent() {
    // 5.0: [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20].
    let mut broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    let mut away = Client::kept(&broker, Version::V5, "away");
    away.subscribe("t/+", 2);
    away.disconnect();
    let mut live = Client::transient(&broker, Version::V5, "live");
    let mut kept = Client::kept(&broker, Version::V5, "kept");
    live.subscribe("t/+", 2);
    kept.subscribe("t/+", 2);
    for qos in 0..=2 {
        let sent = Publish {
            properties: application_properties(),
            retain: true,
            ..message(&format!("t/{qos}"), qos)
        };
        publish(&mut writer, &sent);
        for reader in [&mut live, &mut kept] {
            let arrived = reader.expect("text");
            assert_eq!((arrived.qos, &arrived.topic), (qos, &sent.topic));
            assert_eq!(arrived.properties, sent.properties);
        }
    }
    broker.crash();
    let mut away = Client::kept(&broker, Version::V5, "away");
    for _ in 1..=2 {
        assert_eq!(away.expect("text").properties, application_properties());
    }
    let mut late = Client::transient(&broker, Version::V5, "late");
    late.subscribe("t/+", 2);
    for _ in 0..=2 {
        let arrived = late.expect("text");
        assert!(arrived.retain);
        assert_eq!(arrived.properties, application_properties());
    }
    // Older versions get the message without them.
    let mut old = Client::transient(&broker, Version::V311, "old");
    old.subscribe("t/1", 1);
    old.expect("text");
}

#[test]
fn what_is_left_of_the_message_expiry_arrives_with_the_message() {
    // 5.0: [MQTT-3.3.2-6].
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    reader.subscribe("t", 1);
    reader.disconnect();
    for seconds in [1, 1000] {
        let sent = Publish {
            properties: Properties(vec![(property::MESSAGE_EXPIRY, Value::Number(seconds))]),
            payload: seconds.to_string().into_bytes(),
            ..message("t", 1)
        };
        publish(&mut writer, &sent);
    }
    // A short retained message, and one behind it that stays, show when a second has passed.
    let short = Publish {
        properties: Properties(vec![(property::MESSAGE_EXPIRY, Value::Number(1))]),
        retain: true,
        ..message("probe/1", 1)
    };
    publish(&mut writer, &short);
    writer.publish_retained("probe/2", "x", 1);
    eventually("a second has passed", || {
        let mut probe = Client::transient(&broker, Version::V5, "probe");
        probe.subscribe("probe/+", 1);
        probe.message().topic == "probe/2"
    });
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    let arrived = reader.expect("1000");
    let left = arrived.properties.numbers(property::MESSAGE_EXPIRY);
    assert!(left[0] < 1000 && left[0] > 900, "{left:?}");
    reader.assert_nothing_waits();
}

#[test]
fn the_dup_flag_of_a_publisher_is_not_passed_on() {
    // 5.0: [MQTT-3.3.1-3].
    // 3.1.1: [MQTT-3.3.1-3].
    let broker = Broker::start();
    for version in Version::ALL {
        let mut reader = Client::kept(&broker, version, "reader");
        let mut live = Client::transient(&broker, version, "live");
        reader.subscribe("t", 2);
        live.subscribe("t", 2);
        let mut writer = Client::transient(&broker, version, "writer");
        for qos in 1..=2 {
            let again = Publish {
                duplicate: true,
                ..message("t", qos)
            };
            publish(&mut writer, &again);
            assert!(!reader.expect("text").duplicate);
            assert!(!live.expect("text").duplicate);
        }
        reader.disconnect();
    }
}

#[test]
fn one_delivery_names_every_subscription_that_matches() {
    // 5.0: [MQTT-3.3.4-3], [MQTT-3.3.4-4].
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    for connect in [
        Connect::new(Version::V5, "reader"),
        Connect::kept(Version::V5, "reader"),
    ] {
        let mut reader = Client::connect(&broker, &connect);
        reader.subscribe_as("a/#", 0, 1);
        reader.subscribe_as("a/+", 2, 268_435_455);
        reader.subscribe_as("a/b", 1, 300);
        reader.subscribe("+/b", 1);
        reader.subscribe_as("other", 1, 4);
        for qos in 0..=2 {
            writer.publish("a/b", "x", qos);
            let arrived = reader.expect("x");
            let mut ids = arrived.properties.numbers(property::SUBSCRIPTION_ID);
            ids.sort_unstable();
            assert_eq!((arrived.qos, ids), (qos, vec![1, 300, 268_435_455]));
        }
        writer.publish("a/b/c", "x", 2);
        let arrived = reader.expect("x");
        let ids = arrived.properties.numbers(property::SUBSCRIPTION_ID);
        assert_eq!((arrived.qos, ids), (0, vec![1]));
        reader.unsubscribe("a/+");
        writer.publish("a/b", "x", 2);
        assert_eq!(reader.expect("x").qos, 1);
        reader.assert_nothing_waits();
        reader.disconnect();
    }
}

#[test]
fn overlapping_subscriptions_give_every_version_one_delivery_at_the_highest_qos() {
    // 5.0: [MQTT-3.3.4-2].
    // 3.1.1: [MQTT-3.3.5-1].
    let broker = Broker::start();
    for version in Version::ALL {
        for connect in [
            Connect::new(version, "reader"),
            Connect::kept(version, "reader"),
        ] {
            let mut writer = Client::transient(&broker, Version::V5, "writer");
            let mut reader = Client::connect(&broker, &connect);
            for (filter, qos) in [("a/#", 0), ("a/b", 1), ("+/b", 2), ("#", 0)] {
                reader.subscribe(filter, qos);
            }
            for qos in 0..=2 {
                writer.publish("a/b", "x", qos);
                assert_eq!(reader.expect("x").qos, qos);
                writer.publish("a/c", "y", qos);
                assert_eq!(reader.expect("y").qos, 0);
            }
            reader.assert_nothing_waits();
            reader.disconnect();
        }
    }
}

#[test]
fn options_of_overlapping_subscriptions_each_count_for_their_own_part() {
    let broker = Broker::start();
    for connect in [
        Connect::new(Version::V5, "c"),
        Connect::kept(Version::V5, "c"),
    ] {
        let mut client = Client::connect(&broker, &connect);
        let mut other = Client::transient(&broker, Version::V5, "other");
        client.subscribe_as("t", 1 | NO_LOCAL, 1);
        client.subscribe_as("#", RETAIN_AS_PUBLISHED | RETAIN_NEVER, 2);
        let retained = Publish {
            retain: true,
            ..message("t", 2)
        };
        let seen = |arrived: &Publish| {
            let ids = arrived.properties.numbers(property::SUBSCRIPTION_ID);
            (arrived.qos, arrived.retain, ids)
        };
        // Its own message reaches it by the second one only, at its QoS.
        publish(&mut client, &retained);
        assert_eq!(seen(&client.expect("text")), (0, true, vec![2]));
        publish(&mut other, &retained);
        let (qos, retain, mut ids) = seen(&client.expect("text"));
        ids.sort_unstable();
        assert_eq!((qos, retain, ids), (1, true, vec![1, 2]));
        client.assert_nothing_waits();
        client.publish_retained("t", "", 1);
        client.expect("");
        client.disconnect();
    }
}

#[test]
fn the_retain_flag_stays_as_published_for_who_asks_for_that() {
    // 5.0: [MQTT-3.3.1-12], [MQTT-3.3.1-13].
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    for connect in [
        Connect::new(Version::V5, "reader"),
        Connect::kept(Version::V5, "reader"),
    ] {
        let mut reader = Client::connect(&broker, &connect);
        for (options, expected) in [
            (2 | RETAIN_NEVER, [false, false]),
            (2 | RETAIN_NEVER | RETAIN_AS_PUBLISHED, [false, true]),
        ] {
            reader.try_subscribe("t", options);
            for qos in 0..=2 {
                for (retain, expected) in [false, true].into_iter().zip(expected) {
                    let sent = Publish {
                        retain,
                        ..message("t", qos)
                    };
                    publish(&mut writer, &sent);
                    assert_eq!(reader.expect("text").retain, expected, "{options}");
                }
            }
        }
        reader.assert_nothing_waits();
        reader.disconnect();
    }
}

#[test]
fn subscribing_again_replaces_every_option() {
    // 5.0: [MQTT-3.8.4-3].
    let broker = Broker::start();
    for connect in [
        Connect::new(Version::V5, "c"),
        Connect::kept(Version::V5, "c"),
    ] {
        let mut client = Client::connect(&broker, &connect);
        let mut seen = |options, id| {
            match id {
                Some(id) => client.subscribe_as("t", options | RETAIN_NEVER, id),
                None => assert!(client.try_subscribe("t", options | RETAIN_NEVER) < 3),
            }
            let own = Publish {
                retain: true,
                ..message("t", 2)
            };
            publish(&mut client, &own);
            client.publish("mark", "mark", 1);
            client.subscribe("mark", 1);
            client.publish("mark", "mark", 1);
            let arrived = client.expect_one_of(&["text", "mark"]);
            if arrived.text() == "text" {
                client.expect("mark");
            }
            client.unsubscribe("mark");
            let ids = arrived.properties.numbers(property::SUBSCRIPTION_ID);
            (arrived.text() == "text").then_some((arrived.qos, arrived.retain, ids))
        };
        assert_eq!(seen(2, Some(1)), Some((2, false, vec![1])));
        assert_eq!(
            seen(1 | RETAIN_AS_PUBLISHED, Some(2)),
            Some((1, true, vec![2]))
        );
        assert_eq!(seen(1 | NO_LOCAL, Some(2)), None);
        assert_eq!(seen(0, None), Some((0, false, vec![])));
        assert_eq!(seen(2, Some(3)), Some((2, false, vec![3])));
        client.disconnect();
    }
}

#[test]
fn a_topic_alias_lasts_as_long_as_its_connection() {
    // 5.0: [MQTT-3.3.2-7].
    let broker = Broker::start();
    let mut reader = Client::transient(&broker, Version::V5, "reader");
    reader.subscribe("a/topic", 1);
    let aliased = |topic: &str| Publish {
        properties: Properties(vec![(property::TOPIC_ALIAS, Value::Number(3))]),
        ..message(topic, 1)
    };
    let mut writer = Client::kept(&broker, Version::V5, "writer");
    publish(&mut writer, &aliased("a/topic"));
    publish(&mut writer, &aliased(""));
    for _ in 0..2 {
        let arrived = reader.expect("text");
        assert_eq!(arrived.topic, "a/topic");
        assert!(arrived.properties.0.is_empty(), "aliases go one way");
    }
    let mut writer = Client::kept(&broker, Version::V5, "writer");
    assert!(writer.connack.present);
    writer.send_message(&aliased(""));
    assert_eq!(writer.closed(), Some(0x82));
}

#[test]
fn the_broker_speaks_by_alias_to_a_client_that_allows_it() {
    // 5.0: [MQTT-3.3.2-7], [MQTT-3.3.2-11].
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    let connect = Connect::kept(Version::V5, "reader").property(property::TOPIC_ALIAS_MAXIMUM, 1);
    let said = |message: &Publish| {
        let alias = message.properties.number(property::TOPIC_ALIAS);
        (message.topic.clone(), alias)
    };
    let first = || ("topic/1".to_owned(), Some(1));
    let by_alias = || (String::new(), Some(1));
    let in_full = || ("topic/2".to_owned(), None);
    let mut reader = Client::connect(&broker, &connect);
    reader.subscribe("topic/+", 1);
    for expected in [first(), by_alias(), by_alias()] {
        writer.publish("topic/1", "x", 1);
        assert_eq!(said(&reader.expect("x")), expected);
    }
    for _ in 0..2 {
        writer.publish("topic/2", "x", 1);
        assert_eq!(said(&reader.expect("x")), in_full());
    }
    writer.publish("topic/1", "kept back", 1);
    assert_eq!(said(&reader.message()), by_alias());
    reader.vanish();
    // Sent again over another connection, where no alias was set.
    let mut reader = Client::connect(&broker, &connect);
    assert_eq!(said(&reader.expect("kept back")), first());
    writer.publish("topic/1", "x", 1);
    assert_eq!(said(&reader.expect("x")), by_alias());
    // Who allows none is sent none.
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    writer.publish("topic/1", "x", 1);
    assert_eq!(said(&reader.expect("x")), ("topic/1".to_owned(), None));
}

#[test]
fn a_message_too_large_for_a_client_costs_it_nothing_but_that_message() {
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    for (kept, client_id) in [(false, "transient"), (true, "kept")] {
        let connect = if kept {
            Connect::kept(Version::V5, client_id)
        } else {
            Connect::new(Version::V5, client_id)
        };
        let connect = connect
            .property(property::MAXIMUM_PACKET_SIZE, 100)
            .property(property::RECEIVE_MAXIMUM, 1);
        let mut reader = Client::connect(&broker, &connect);
        reader.subscribe("t", 2);
        for qos in 0..=2 {
            writer.publish("t", &"x".repeat(100), qos);
            writer.publish("t", "small", qos);
            // The window of one is free again.
            reader.expect("small");
        }
        reader.assert_nothing_waits();
        reader.disconnect();
    }
    assert!(broker.metric("outlive_deliveries_dropped_oversized_total") >= 6.0);
}

#[test]
fn text_that_is_none_is_refused_where_that_is_checked() {
    // 5.0: [MQTT-4.3.3-9].
    let broker = Broker::start_with(&["mqtt.check_payload_format=true"]);
    let mut client = Client::transient(&broker, Version::V5, "c");
    client.subscribe("t", 2);
    let bad = |qos| Publish {
        properties: Properties(vec![(property::PAYLOAD_FORMAT, Value::Number(1))]),
        payload: vec![0xFF],
        ..message("t", qos)
    };
    for (qos, ack) in [(1, Ack::Puback), (2, Ack::Pubrec)] {
        client.send_message(&bad(qos));
        assert_eq!(client.wait_ack_code(ack, 1), 0x99);
    }
    client.send_message(&bad(0));
    client.assert_nothing_waits();
    // PUBREC with a failure ended the exchange: the identifier is free.
    publish(&mut client, &message("t", 2));
    client.expect("text");
}

#[test]
fn acknowledgements_say_what_became_of_it() {
    let broker = Broker::start_with(&["session.subscriptions_max=1", "mqtt.topic_levels_max=3"]);
    let mut client = Client::transient(&broker, Version::V5, "c");
    for (qos, ack) in [(1, Ack::Puback), (2, Ack::Pubrec)] {
        client.send_message(&message("nobody", qos));
        assert_eq!(client.wait_ack_code(ack, 1), 0x10);
        let refused = Publish {
            id: 2,
            ..message("a/b/c/d", qos)
        };
        client.send_message(&refused);
        assert_eq!(client.wait_ack_code(ack, 2), 0x90);
    }
    client.send_ack(Ack::Pubrel, 77);
    assert_eq!(client.wait_ack_code(Ack::Pubcomp, 77), 0x92);
    client.send_ack(Ack::Pubrec, 78);
    assert_eq!(client.wait_ack_code(Ack::Pubrel, 78), 0x92);
    assert_eq!(client.unsubscribe("nothing"), [0x11]);
    assert_eq!(client.try_subscribe("a/b/c/d", 1), 0x8F);
    assert_eq!(client.try_subscribe("t", 2), 2);
    assert_eq!(client.try_subscribe("u", 2), 0x97);
    assert_eq!(client.unsubscribe("t"), [0]);
    client.assert_nothing_waits();
}

#[test]
fn a_qos_above_the_maximum_is_refused_to_publishers_and_lowered_for_subscribers() {
    // 5.0: [MQTT-3.2.2-9], [MQTT-3.2.2-10], [MQTT-3.2.2-11], [MQTT-3.2.2-12].
    let broker = Broker::start_with(&["mqtt.qos_max=1"]);
    for version in Version::ALL {
        let v5 = version == Version::V5;
        let mut reader = Client::transient(&broker, version, "reader");
        let told = reader.connack.properties.number(property::MAXIMUM_QOS);
        assert_eq!(told, v5.then_some(1));
        assert_eq!(reader.try_subscribe("t", 2), 1);
        assert_eq!(reader.try_subscribe("u", 0), 0);
        let mut writer = Client::transient(&broker, version, "writer");
        publish(&mut writer, &message("t", 1));
        assert_eq!(reader.expect("text").qos, 1);
        writer.send_message(&message("t", 2));
        assert_eq!(writer.closed(), v5.then_some(0x9B));
        reader.assert_nothing_waits();
    }
    // The test's wills have QoS 1.
    let broker = Broker::start_with(&["mqtt.qos_max=0"]);
    let will = Connect::new(Version::V5, "c").will("w", "x", 0);
    assert_eq!(Client::try_connect(&broker, &will).connack.code, 0x9B);
}

/// What is beyond the limit is refused where the author is told, and ends the connection where it cannot be.
#[test]
fn a_topic_that_is_too_deep_is_never_acknowledged() {
    let broker = Broker::start_with(&["mqtt.topic_levels_max=3"]);
    let mut reader = Client::transient(&broker, Version::V5, "reader");
    reader.subscribe("#", 2);
    let mut ended = 0.0;
    for version in Version::ALL {
        for qos in 0..=2 {
            let mut client = Client::transient(&broker, version, "c");
            client.publish("a/b/c", "deep enough", qos);
            reader.expect("deep enough");
            client.send_publish("a/b/c/d", "too deep", qos, false);
            client.send_publish("a", "behind it", qos, false);
            match (version, qos) {
                (Version::V5, 1) => assert_eq!(client.wait_ack_code(Ack::Puback, 2), 0x90),
                (Version::V5, 2) => assert_eq!(client.wait_ack_code(Ack::Pubrec, 2), 0x90),
                _ => {
                    ended += 1.0;
                    assert_eq!(client.closed(), (version == Version::V5).then_some(0x90));
                    continue;
                }
            }
            reader.expect("behind it");
        }
    }
    reader.assert_nothing_waits();
    let counted = broker.metric("outlive_connections_ended_total{reason=\"topic_levels\"}");
    assert_eq!(counted, ended);
    assert_eq!(
        broker.metric("outlive_publishes_refused_total"),
        ended + 2.0
    );
}
