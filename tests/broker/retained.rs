//! The last message of a topic, for those who come later.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::Version;

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
