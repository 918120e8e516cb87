//! The last message of a topic, for those who come later.

use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Ack, Connect, Publish, Value, Version, property};

/// What a new subscriber to everything below `r/` is sent, sorted by topic.
fn retained(broker: &Broker, version: Version) -> Vec<(String, String)> {
    // The topic that sorts last ends the replay. It also follows, in the journal, what was published before.
    let mut marker = Client::transient(broker, version, "retained-marker");
    marker.publish_retained("r/~end", "end", 1);
    let mut reader = Client::transient(broker, version, "retained-reader");
    reader.subscribe("r/#", 1);
    let mut found = Vec::new();
    loop {
        let message = reader.message();
        reader.acknowledge(&message);
        assert!(message.retain, "{message:?}"); // [MQTT-3.3.1-8]
        if message.topic == "r/~end" {
            break;
        }
        found.push((message.topic.clone(), message.text().to_owned()));
    }
    found.sort();
    reader.disconnect();
    found
}

fn pair(topic: &str, text: &str) -> (String, String) {
    (topic.to_owned(), text.to_owned())
}

#[test]
fn a_retained_message_is_set_replaced_and_cleared() {
    // 5.0: [MQTT-3.3.1-5], [MQTT-3.3.1-7].
    // 3.1.1: [MQTT-3.3.1-5], [MQTT-3.3.1-7], [MQTT-3.3.1-8], [MQTT-3.3.1-10], [MQTT-3.3.1-11].
    let broker = Broker::start();
    for version in Version::ALL {
        let mut writer = Client::transient(&broker, version, "writer");
        for qos in 0..=2 {
            writer.publish_retained("r/a", "first", qos);
            writer.publish_retained("r/b/c", "other", 1);
            assert_eq!(
                retained(&broker, version),
                [pair("r/a", "first"), pair("r/b/c", "other")]
            );
            writer.publish_retained("r/a", "second", qos);
            assert_eq!(
                retained(&broker, version),
                [pair("r/a", "second"), pair("r/b/c", "other")]
            );
            writer.publish_retained("r/a", "", qos); // [MQTT-3.3.1-6]
            assert_eq!(retained(&broker, version), [pair("r/b/c", "other")]);
        }
        writer.publish_retained("r/b/c", "", 1);
        assert_eq!(retained(&broker, version), []);
    }
}

#[test]
fn retained_messages_survive_stop_and_crash() {
    let mut broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    writer.publish_retained("r/a", "kept", 1);
    writer.publish_retained("r/b", "cleared", 1);
    writer.publish_retained("r/b", "", 1);
    broker.stop();
    broker.restart();
    assert_eq!(retained(&broker, Version::V5), [pair("r/a", "kept")]);
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    writer.publish_retained("r/a", "replaced", 2);
    broker.crash();
    assert_eq!(retained(&broker, Version::V5), [pair("r/a", "replaced")]);
}

#[test]
fn a_live_subscriber_gets_a_retained_message_without_the_flag() {
    let broker = Broker::start();
    let mut reader = Client::transient(&broker, Version::V311, "reader");
    reader.subscribe("r/a", 1);
    Client::transient(&broker, Version::V311, "writer").publish_retained("r/a", "live", 1);
    assert!(!reader.expect("live").retain); // [MQTT-3.3.1-9]
}

#[test]
fn subscribing_again_sends_retained_messages_again() {
    // 5.0: [MQTT-3.8.4-4].
    // 3.1.1: [MQTT-3.3.1-6].
    let broker = Broker::start();
    Client::transient(&broker, Version::V311, "writer").publish_retained("r/a", "state", 1);
    let mut reader = Client::kept(&broker, Version::V311, "reader");
    for _ in 0..2 {
        reader.subscribe("r/+", 1);
        assert!(reader.expect("state").retain); // [MQTT-3.8.4-3]
    }
    reader.assert_nothing_waits();
}

#[test]
fn a_message_without_the_flag_leaves_the_retained_one_alone() {
    // 5.0: [MQTT-3.3.1-8].
    // 3.1.1: [MQTT-3.3.1-12].
    let broker = Broker::start();
    for version in Version::ALL {
        let mut writer = Client::transient(&broker, version, "writer");
        writer.publish_retained("r/a", "stays", 1);
        for (qos, text) in [(0, "live"), (1, "live"), (2, "live"), (1, "")] {
            writer.publish("r/a", text, qos);
            writer.publish("r/b", text, qos);
            assert_eq!(retained(&broker, version), [pair("r/a", "stays")]);
        }
        writer.publish_retained("r/a", "", 1);
    }
}

#[test]
fn a_cleared_retained_message_is_a_message_like_others_to_who_is_there() {
    // 3.1.1: [MQTT-3.3.1-10].
    let broker = Broker::start();
    for version in Version::ALL {
        let mut writer = Client::transient(&broker, version, "writer");
        writer.publish_retained("r/a", "state", 1);
        let mut reader = Client::transient(&broker, version, "reader");
        reader.subscribe("r/a", 1);
        reader.expect("state");
        writer.publish_retained("r/a", "", 1);
        let arrived = reader.expect("");
        assert!(!arrived.retain);
        reader.disconnect();
    }
}

#[test]
fn a_will_is_retained_and_a_will_clears() {
    // [MQTT-3.1.2-17]
    let broker = Broker::start();
    for version in Version::ALL {
        for (payload, expected) in [("gone", vec![pair("r/state", "gone")]), ("", vec![])] {
            let connect = Connect::new(version, "sensor")
                .will("r/state", payload, 0)
                .with_will(|will| will.retain = true);
            Client::connect(&broker, &connect).vanish();
            eventually("the will is retained or clears", || {
                retained(&broker, version) == expected
            });
        }
    }
}

#[test]
fn retained_messages_of_every_qos_survive_a_crash() {
    let mut broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V311, "writer");
    for qos in 0..=2 {
        writer.publish_retained(&format!("r/{qos}"), "kept", qos);
    }
    broker.crash();
    let expected = ["r/0", "r/1", "r/2"].map(|topic| pair(topic, "kept"));
    assert_eq!(retained(&broker, Version::V311), expected);
}

#[test]
fn topics_that_begin_with_a_dollar_sign_are_retained_for_who_names_them() {
    // [MQTT-4.7.2-1]
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    writer.publish_retained("$own/a", "hidden", 1);
    writer.publish_retained("own/a", "seen", 1);
    for filter in ["#", "+/a", "+/#"] {
        let mut reader = Client::transient(&broker, Version::V5, "reader");
        reader.subscribe(filter, 0);
        reader.expect("seen");
        reader.assert_nothing_waits();
    }
    let mut reader = Client::transient(&broker, Version::V5, "reader");
    reader.subscribe("$own/#", 0);
    reader.expect("hidden");
}

#[test]
fn retain_handling_says_when_retained_messages_are_sent() {
    // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    const IF_NEW: u8 = 0x10;
    const NEVER: u8 = 0x20;
    let broker = Broker::start();
    Client::transient(&broker, Version::V5, "writer").publish_retained("r/a", "state", 1);
    let mut reader = Client::transient(&broker, Version::V5, "reader");
    reader.try_subscribe("r/a", NEVER);
    reader.try_subscribe("r/a", IF_NEW);
    // The message of the last one alone.
    reader.try_subscribe("r/a", 0);
    reader.expect("state");
    reader.unsubscribe("r/a");
    reader.try_subscribe("r/a", IF_NEW);
    reader.expect("state");
    reader.assert_nothing_waits();
}

#[test]
fn retain_as_published_keeps_the_flag_of_live_messages() {
    // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    const AS_PUBLISHED: u8 = 0x08;
    let broker = Broker::start();
    let mut plain = Client::transient(&broker, Version::V5, "plain");
    plain.try_subscribe("r/a", 1);
    let mut bridge = Client::transient(&broker, Version::V5, "bridge");
    bridge.try_subscribe("r/a", 1 | AS_PUBLISHED);
    Client::transient(&broker, Version::V5, "writer").publish_retained("r/a", "live", 1);
    assert!(!plain.expect("live").retain);
    assert!(bridge.expect("live").retain);
}

/// A message that expires in so many seconds.
fn expiring(topic: &str, seconds: u32, id: u16) -> Publish {
    let mut message = Publish {
        topic: topic.to_owned(),
        payload: b"brief".to_vec(),
        qos: 1,
        retain: true,
        duplicate: false,
        id,
        properties: Default::default(),
    };
    let expiry = (property::MESSAGE_EXPIRY, Value::Number(seconds));
    message.properties.0.push(expiry);
    message
}

#[test]
fn a_retained_message_that_expires_goes_without_a_subscriber() {
    let mut broker = Broker::start_with(&["storage.checkpoint_interval_millis=100"]);
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    writer.publish_retained("r/lasting", "state", 1);
    for (topic, seconds, id) in [("r/brief", 1, 100), ("r/long", 1000, 101)] {
        writer.send_message(&expiring(topic, seconds, id));
        writer.wait_ack(Ack::Puback, id);
    }
    eventually("one has expired", || {
        broker.metric("outlive_retained_expired_total") == 1.0
            && broker.metric("outlive_retained_messages") == 2.0
    });
    assert_eq!(broker.metric("outlive_retained_bytes"), 25.0);
    broker.crash();
    // The crash may have come before the checkpoint that let go of it.
    eventually("the expired one is gone", || {
        broker.metric("outlive_retained_messages") == 2.0
    });
    let mut reader = Client::transient(&broker, Version::V5, "reader");
    reader.subscribe("r/+", 0);
    assert_eq!(reader.message().topic, "r/lasting");
    // What is left of the interval goes with the message. [MQTT-3.3.2-6]
    let left = reader.message().properties.number(property::MESSAGE_EXPIRY);
    assert!(
        left.is_some_and(|left| (900..1000).contains(&left)),
        "{left:?}"
    );
}

#[test]
fn at_its_limit_a_message_is_delivered_and_not_retained() {
    let broker = Broker::start_with(&["retained.messages_max=2"]);
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    reader.subscribe("r/#", 2);
    let mut writer = Client::kept(&broker, Version::V5, "writer");
    for topic in ["r/1", "r/2"] {
        writer.publish_retained(topic, "in", 1);
        reader.expect("in");
    }
    for version in Version::ALL {
        let mut writer = Client::transient(&broker, version, "of any version");
        for qos in 0..=2 {
            writer.publish_retained("r/3", "too many", qos);
            reader.expect("too many");
        }
        // A will is no way past it.
        for qos in 0..=2 {
            let dying = Connect::new(version, "dying").will("r/4", "last words", qos);
            let dying = dying.with_will(|will| will.retain = true);
            Client::connect(&broker, &dying).vanish();
            reader.expect("last words");
        }
    }
    let refused = 6.0 * Version::ALL.len() as f64;
    assert_eq!(broker.metric("outlive_retained_refused_total"), refused);
    assert_eq!(broker.metric("outlive_retained_messages"), 2.0);
    // What is retained may be replaced; what is cleared makes room.
    writer.publish_retained("r/1", "replaced", 1);
    writer.publish_retained("r/2", "", 1);
    writer.publish_retained("r/3", "in", 1);
    let mut newcomer = Client::transient(&broker, Version::V5, "newcomer");
    newcomer.subscribe("r/#", 0);
    newcomer.expect("replaced");
    newcomer.expect("in");
    newcomer.assert_nothing_waits();
}

#[test]
fn what_is_not_retained_is_accepted_and_delivered_once() {
    let mut broker = Broker::start_with(&["retained.messages_max=1"]);
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    reader.subscribe("r/#", 2);
    let mut writer = Client::kept(&broker, Version::V5, "writer");
    writer.publish_retained("r/1", "in", 1);
    reader.expect("in");
    let message = |duplicate| Publish {
        topic: "r/2".to_owned(),
        payload: b"once".to_vec(),
        qos: 2,
        retain: true,
        duplicate,
        id: 7,
        properties: Default::default(),
    };
    writer.send_message(&message(false));
    assert_eq!(writer.wait_ack_code(Ack::Pubrec, 7), 0);
    reader.expect("once");
    // The answer may be lost, and the broker die: the retry is the same message. [MQTT-4.3.3-10]
    broker.crash();
    let mut reader = Client::transient(&broker, Version::V5, "other");
    reader.subscribe("r/2", 2);
    let mut writer = Client::kept(&broker, Version::V5, "writer");
    writer.send_message(&message(true));
    assert_eq!(writer.wait_ack_code(Ack::Pubrec, 7), 0);
    writer.send_ack(Ack::Pubrel, 7);
    writer.wait_ack(Ack::Pubcomp, 7);
    writer.publish("r/2", "next", 2);
    reader.expect("next");
}
