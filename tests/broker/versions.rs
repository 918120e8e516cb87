//! Each protocol version does the ordinary things.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Connect, Version};

#[test]
fn every_version_delivers_every_qos_to_every_version() {
    // 3.1.1: [MQTT-7.0.0-2] [MQTT-7.1.1-1]
    // 5.0: [MQTT-4.2.0-1]
    // 5.0: [MQTT-3.3.4-1], [MQTT-4.5.0-1].
    // 3.1.1: [MQTT-3.3.4-1], [MQTT-4.5.0-1].
    let broker = Broker::start();
    for from in Version::ALL {
        for to in Version::ALL {
            let mut reader = Client::transient(&broker, to, "reader");
            reader.subscribe("t/+", 2);
            let mut writer = Client::transient(&broker, from, "writer");
            for qos in 0..=2 {
                writer.publish("t/a", "hello", qos);
                let message = reader.expect("hello");
                assert_eq!((message.qos, message.topic.as_str()), (qos, "t/a"));
                assert!(!message.duplicate && !message.retain);
            }
            reader.assert_nothing_waits();
            reader.disconnect();
            writer.disconnect();
        }
    }
}

#[test]
fn a_message_arrives_with_the_lower_of_published_and_granted_qos() {
    // 5.0: [MQTT-3.8.4-8].
    // 3.1.1: [MQTT-3.8.4-6].
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    for granted in 0..=2 {
        let mut reader = Client::transient(&broker, Version::V311, "reader");
        reader.subscribe("t", granted);
        for qos in 0..=2 {
            writer.publish("t", "x", qos);
            assert_eq!(reader.expect("x").qos, qos.min(granted));
        }
        reader.disconnect();
    }
}

#[test]
fn messages_of_one_publisher_arrive_in_the_order_they_were_sent() {
    // 5.0: [MQTT-4.6.0-5], [MQTT-4.6.0-6].
    // 3.1.1: [MQTT-4.6.0-5], [MQTT-4.6.0-6].
    let broker = Broker::start();
    for version in Version::ALL {
        for qos in 0..=2 {
            let mut reader = Client::transient(&broker, version, "reader");
            reader.subscribe("t", qos);
            let mut writer = Client::transient(&broker, version, "writer");
            for number in 0..200 {
                writer.send_publish("t", &number.to_string(), qos, false);
            }
            for number in 0..200 {
                reader.expect(&number.to_string());
            }
            reader.vanish();
            writer.vanish();
        }
    }
}

#[test]
fn an_empty_client_id_gets_a_session_of_its_own() {
    let broker = Broker::start();
    // [MQTT-3.1.3-6], [MQTT-3.1.3-7]
    for version in [Version::V311, Version::V5] {
        let mut one = Client::connect(&broker, &Connect::new(version, ""));
        let mut other = Client::connect(&broker, &Connect::new(version, ""));
        one.assert_nothing_waits();
        other.assert_nothing_waits();
    }
    // [MQTT-3.1.3-8]
    let kept = Connect::new(Version::V311, "").clean(false);
    assert_eq!(Client::try_connect(&broker, &kept).connack.code, 2);
}

#[test]
fn a_second_connect_ends_the_connection() {
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::transient(&broker, version, "twice");
        client.send(&Connect::new(version, "twice").encode());
        let reason = client.closed(); // [MQTT-3.1.0-2]
        assert_eq!(reason, (version == Version::V5).then_some(0x82));
    }
}
