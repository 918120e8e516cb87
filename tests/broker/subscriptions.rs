//! Subscribing, unsubscribing, and what is refused.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Connect, Version};

#[test]
fn an_unsubscribed_filter_delivers_nothing_more() {
    // 5.0: [MQTT-3.10.4-2].
    // 3.1.1: [MQTT-3.10.4-2].
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::transient(&broker, version, "c");
        client.subscribe("a", 1);
        client.subscribe("b", 1);
        client.unsubscribe("a");
        client.publish("a", "not this", 1);
        client.publish("b", "this", 1);
        client.expect("this");
        client.assert_nothing_waits();
        client.disconnect();
    }
}

#[test]
fn unsubscribing_drops_what_waits_and_subscribing_again_starts_at_the_end() {
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    reader.subscribe("t", 1);
    reader.unsubscribe("t");
    writer.publish("t", "nobody waits", 1);
    reader.subscribe("t", 1);
    writer.publish("t", "for the new one", 1);
    reader.expect("for the new one");
    reader.assert_nothing_waits();
}

#[test]
fn subscribing_on_every_connect_loses_nothing() {
    let broker = Broker::start();
    for version in Version::ALL {
        let mut reader = Client::kept(&broker, version, "reader");
        reader.subscribe("t", 1);
        reader.disconnect();
        Client::transient(&broker, version, "writer").publish("t", "waited", 1);
        let mut reader = Client::kept(&broker, version, "reader");
        reader.try_subscribe("t", 1);
        reader.expect("waited");
        reader.assert_nothing_waits();
        reader.disconnect();
    }
}

#[test]
fn wildcards_match_what_the_standard_says() {
    // 5.0: [MQTT-3.3.2-3].
    // 3.1.1: [MQTT-3.3.2-3].
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    for (filter, topic, matches) in [
        ("a/+", "a/b", true),
        ("a/+", "a", false),
        ("a/+", "a/b/c", false),
        ("a/+", "a/", true),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("#", "a/b", true),
        ("#", "$x/a", false), // [MQTT-4.7.2-1]
        ("+/a", "$x/a", false),
        ("$x/#", "$x/a", true),
        ("+/+", "/a", true),
    ] {
        let mut reader = Client::transient(&broker, Version::V5, "reader");
        reader.subscribe(filter, 1);
        reader.subscribe("mark", 1);
        writer.publish(topic, "topic", 1);
        writer.publish("mark", "mark", 1);
        let first = reader.message();
        assert_eq!(first.text() == "topic", matches, "{filter} {topic}");
    }
}

#[test]
fn no_local_keeps_a_client_from_its_own_messages() {
    let broker = Broker::start();
    let mut client = Client::transient(&broker, Version::V5, "c");
    assert_eq!(client.try_subscribe("t", 1 | 0b100), 1);
    client.publish("t", "own", 1);
    Client::transient(&broker, Version::V5, "other").publish("t", "of another", 1);
    client.expect("of another"); // [MQTT-3.8.3-3]
}

#[test]
fn a_3_x_bridge_is_not_sent_what_it_brought_and_told_what_was_retained() {
    // MQTT 3.1: the bit of bridges.
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    for version in [Version::V31, Version::V311] {
        let connect = Connect::kept(version, "bridge").bridge();
        let mut bridge = Client::connect(&broker, &connect);
        bridge.subscribe("#", 2);
        bridge.publish("t", "own", 2);
        bridge.publish_retained("u", "own, retained", 1);
        writer.publish("t", "of another", 2);
        writer.publish_retained("t", "of another, retained", 1);
        assert!(!bridge.expect("of another").retain);
        assert!(bridge.expect("of another, retained").retain);
        writer.publish_retained("t", "", 1);
        assert!(bridge.expect("").retain);
        bridge.assert_nothing_waits();
        // A client of the same version that is none hears itself.
        let mut client = Client::transient(&broker, version, "bridge");
        client.subscribe("t", 1);
        client.publish_retained("t", "own", 1);
        assert!(!client.expect("own").retain);
        client.publish_retained("t", "", 1);
        client.expect("");
        client.publish_retained("u", "", 1);
    }
}
