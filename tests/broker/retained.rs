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
    let broker = Broker::start();
    Client::transient(&broker, Version::V311, "writer").publish_retained("r/a", "state", 1);
    let mut reader = Client::kept(&broker, Version::V311, "reader");
    for _ in 0..2 {
        reader.subscribe("r/+", 1);
        assert!(reader.expect("state").retain); // [MQTT-3.8.4-3]
    }
    reader.assert_nothing_waits();
}
