//! How connections end, and what is said then.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{self, Ack, Connect, Version};

const EVERY: &[Version] = &Version::ALL;
const ONLY_5: &[Version] = &[Version::V5];

/// Packet, versions in which it is a mistake of this kind, reason code, why.
type Mistake = (&'static [u8], &'static [Version], u8, &'static str);

const MISTAKES: &[Mistake] = &[
    (b"\xc1\x00", EVERY, 0x81, "PINGREQ with flags"),
    (b"\xe1\x00", EVERY, 0x81, "DISCONNECT with flags"),
    (
        b"\x80\x06\x00\x01\x00\x01a\x00",
        EVERY,
        0x81,
        "SUBSCRIBE without its flags",
    ),
    (
        b"\xa0\x05\x00\x01\x00\x01a",
        EVERY,
        0x81,
        "UNSUBSCRIBE without its flags",
    ),
    (b"\x60\x02\x00\x01", EVERY, 0x81, "PUBREL without its flags"),
    (b"\x44\x02\x00\x01", EVERY, 0x81, "PUBACK with flags"),
    (b"\xf1\x00", ONLY_5, 0x81, "AUTH with flags"),
    (b"\x00\x00", EVERY, 0x81, "packet type 0"),
    (
        b"\x82\x06\x00\x00\x00\x01a\x00",
        EVERY,
        0x81,
        "packet identifier 0",
    ),
    (
        b"\xc0\x80\x00",
        ONLY_5,
        0x81,
        "a length that is not the shortest",
    ),
    (
        b"\x30\x80\x80\x80\x80\x01",
        EVERY,
        0x81,
        "a length of five bytes",
    ),
    (b"\x20\x02\x00\x00", EVERY, 0x82, "CONNACK from a client"),
    (b"\xd0\x00", EVERY, 0x82, "PINGRESP from a client"),
    (b"\xf0\x00", ONLY_5, 0x82, "AUTH that nobody began"),
    (
        b"\xf0\x02\x19\x00",
        ONLY_5,
        0x82,
        "re-authentication without a method",
    ),
    (
        b"\x30\x05\x00\x01#\x00x",
        ONLY_5,
        0x90,
        "a wildcard in a topic",
    ),
    (
        b"\x30\x07\x00\x01a\x03\x23\x00\x00",
        ONLY_5,
        0x94,
        "topic alias 0",
    ),
    (b"\x30\xff\x7f", EVERY, 0x95, "a packet above the limit"),
    (
        b"\xe0\x01\x8b",
        ONLY_5,
        0x82,
        "DISCONNECT with a code of servers",
    ),
];

#[test]
fn each_mistake_ends_the_connection_with_its_reason() {
    // 5.0: [MQTT-3.14.2-4] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.12.0-7]
    // 3.1.1: [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-2.3.1-1] [MQTT-3.14.1-1] [MQTT-4.8.0-1]
    // 5.0: [MQTT-1.5.5-1] [MQTT-2.1.3-1] [MQTT-3.14.1-1] [MQTT-3.14.2-1] [MQTT-3.15.1-1] [MQTT-4.13.1-1] [MQTT-4.13.2-1]
    let broker = Broker::start_with(&["mqtt.packet_bytes_max=1024"]);
    let mut neighbour = Client::transient(&broker, Version::V5, "neighbour");
    for (bytes, versions, reason, why) in MISTAKES {
        for version in *versions {
            let mut client = Client::transient(&broker, *version, "c");
            client.send(bytes);
            let said = client.goodbye();
            let code = said.as_ref().map(|(code, _)| *code);
            assert_eq!(
                code,
                (*version == Version::V5).then_some(*reason),
                "{why} {version:?}"
            );
            // [MQTT-3.14.2-2]: no session expiry from a server; but words.
            let properties = said.map(|(_, properties)| properties.0).unwrap_or_default();
            assert!(properties.iter().all(|(id, _)| *id == 0x1F), "{why}");
        }
    }
    neighbour.assert_nothing_waits();
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    // 3.1.1: [MQTT-4.8.0-1]; 5.0: [MQTT-4.13.1-1]
    let broker = Broker::start();
    let wrong = [
        (1, Ack::Pubrec),
        (1, Ack::Pubcomp),
        (2, Ack::Puback),
        (2, Ack::Pubcomp),
    ];
    for version in Version::ALL {
        for (qos, ack) in wrong {
            let mut client = Client::kept(&broker, version, "c");
            client.subscribe("t", qos);
            // Of nothing: it may be late.
            client.send_ack(Ack::Puback, 77);
            Client::transient(&broker, version, "writer").publish("t", "x", qos);
            let message = client.message();
            client.send_ack(ack, message.id);
            let code = client.closed();
            assert_eq!(code, (version == Version::V5).then_some(0x82), "{ack:?}");
            // The delivery is as open as it was.
            let mut client = Client::kept(&broker, version, "c");
            let again = client.message();
            assert_eq!((again.id, again.duplicate), (message.id, true));
            client.acknowledge(&again);
            client.assert_nothing_waits();
            client.disconnect();
        }
    }
    let ended = "outlive_connections_ended_total{reason=\"wrong_ack\"}";
    assert_eq!(broker.metric(ended), 12.0);
}

#[test]
fn nothing_is_done_behind_a_disconnect() {
    // 3.1.1: [MQTT-3.14.4-1] [MQTT-3.14.4-2]; 5.0: [MQTT-3.14.4-1] [MQTT-3.14.4-2]
    let broker = Broker::start();
    for version in Version::ALL {
        let mut watcher = Client::transient(&broker, version, "watcher");
        watcher.subscribe("t", 1);
        let mut client = Client::transient(&broker, version, "c");
        let message = wire::Publish {
            topic: "t".to_owned(),
            payload: b"too late".to_vec(),
            ..wire::Publish::default()
        };
        let mut bytes = wire::disconnect(version, 0, None);
        bytes.extend(wire::publish(version, &message));
        client.send(&bytes);
        client.assert_closed_silently();
        watcher.publish("t", "mark", 1);
        watcher.expect("mark");
        watcher.disconnect();
    }
}

#[test]
fn a_disconnect_is_not_answered_and_the_broker_closes() {
    // 5.0: [MQTT-3.14.4-2]
    // Both: [MQTT-3.14.4-1], if the client does not.
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::transient(&broker, version, "c");
        client.send(&wire::disconnect(version, 0, None));
        client.assert_closed_silently();
    }
}

#[test]
fn an_unfinished_packet_does_not_hold_a_connection_open_beyond_its_keep_alive() {
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, &Connect::new(version, "c").keep_alive(1));
        client.send(b"\x30\x10\x00\x01t");
        let reason = client.closed();
        assert_eq!(reason, (version == Version::V5).then_some(0x8D));
    }
}

#[test]
fn a_connection_that_never_says_connect_is_closed_and_costs_no_session() {
    let broker = Broker::start_with(&["mqtt.connect_timeout_millis=100"]);
    for bytes in [&b""[..], b"\x10", b"\x10\x20\x00\x04MQ"] {
        Client::raw(&broker, Version::V5, bytes).assert_closed_silently();
    }
    assert_eq!(broker.metric("outlive_sessions"), 0.0);
}
