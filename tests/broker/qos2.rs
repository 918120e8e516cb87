//! Exactly once, in both directions, with the broker killed at each step of the handshake.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Ack, Packet, Properties, Publish, Version};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// A session that waits for `t`, so that the broker has to keep what is published.
fn waiting_reader(broker: &Broker, version: Version) {
    let mut reader = Client::kept(broker, version, "reader");
    reader.subscribe("t", 2);
    reader.disconnect();
}

/// The reader finds the message once, and then the end mark.
fn assert_delivered_once(broker: &Broker, version: Version) {
    Client::transient(broker, version, "marker").publish("t", "end", 2);
    let mut reader = Client::kept(broker, version, "reader");
    reader.expect("once");
    reader.expect("end");
    reader.assert_nothing_waits();
    reader.disconnect();
}

fn once(id: u16, duplicate: bool) -> Publish {
    Publish {
        topic: "t".to_owned(),
        payload: b"once".to_vec(),
        qos: 2,
        retain: false,
        duplicate,
        id,
        properties: Properties::default(),
    }
}

#[test]
fn a_publish_repeated_after_a_crash_is_taken_once() {
    for version in VERSIONS {
        let mut broker = Broker::start();
        waiting_reader(&broker, version);
        let mut writer = Client::kept(&broker, version, "writer");
        writer.send_message(&once(7, false));
        writer.wait_ack(Ack::Pubrec, 7);
        broker.crash();
        let mut writer = Client::kept(&broker, version, "writer");
        assert!(writer.connack.present);
        writer.send_message(&once(7, true));
        writer.wait_ack(Ack::Pubrec, 7);
        writer.send_ack(Ack::Pubrel, 7);
        writer.wait_ack(Ack::Pubcomp, 7);
        assert_delivered_once(&broker, version);
    }
}

#[test]
fn a_publish_repeated_on_a_new_connection_is_taken_once() {
    for version in VERSIONS {
        let broker = Broker::start();
        waiting_reader(&broker, version);
        let mut writer = Client::kept(&broker, version, "writer");
        writer.send_message(&once(7, false));
        writer.wait_ack(Ack::Pubrec, 7);
        let mut writer = Client::kept(&broker, version, "writer");
        writer.send_message(&once(7, true));
        writer.wait_ack(Ack::Pubrec, 7);
        writer.send_ack(Ack::Pubrel, 7);
        writer.wait_ack(Ack::Pubcomp, 7);
        assert_delivered_once(&broker, version);
    }
}

#[test]
fn a_release_after_a_crash_completes_the_publish() {
    for version in VERSIONS {
        let mut broker = Broker::start();
        waiting_reader(&broker, version);
        let mut writer = Client::kept(&broker, version, "writer");
        writer.send_message(&once(7, false));
        writer.wait_ack(Ack::Pubrec, 7);
        broker.crash();
        let mut writer = Client::kept(&broker, version, "writer");
        writer.send_ack(Ack::Pubrel, 7);
        writer.wait_ack(Ack::Pubcomp, 7);
        assert_delivered_once(&broker, version);
    }
}

#[test]
fn a_release_repeated_after_a_crash_is_answered_and_frees_the_id() {
    for version in VERSIONS {
        let mut broker = Broker::start();
        waiting_reader(&broker, version);
        let mut writer = Client::kept(&broker, version, "writer");
        writer.send_message(&once(7, false));
        writer.wait_ack(Ack::Pubrec, 7);
        writer.send_ack(Ack::Pubrel, 7);
        writer.wait_ack(Ack::Pubcomp, 7);
        broker.crash();
        let mut writer = Client::kept(&broker, version, "writer");
        writer.send_ack(Ack::Pubrel, 7);
        let code = writer.wait_ack_code(Ack::Pubcomp, 7);
        assert!(matches!(code, 0 | 0x92), "{code:#04x}");
        assert_delivered_once(&broker, version);
        // PUBCOMP was durable: the id belongs to a new message now.
        let next = Publish {
            payload: b"next".to_vec(),
            ..once(7, false)
        };
        writer.send_message(&next);
        writer.wait_ack(Ack::Pubrec, 7);
        writer.send_ack(Ack::Pubrel, 7);
        writer.wait_ack(Ack::Pubcomp, 7);
        Client::kept(&broker, version, "reader").expect("next");
    }
}

/// A reader that is connected and was just sent "once".
fn delivery(broker: &Broker, version: Version) -> (Client, Publish) {
    let mut reader = Client::kept(broker, version, "reader");
    reader.subscribe("t", 2);
    Client::transient(broker, version, "writer").publish("t", "once", 2);
    let message = reader.message();
    assert_eq!((message.text(), message.qos), ("once", 2));
    (reader, message)
}

fn assert_done(broker: &Broker, version: Version, reader: &mut Client) {
    Client::transient(broker, version, "marker").publish("t", "end", 2);
    reader.expect("end");
    reader.assert_nothing_waits();
}

#[test]
fn a_delivery_that_was_not_received_comes_again_with_its_id_after_a_crash() {
    for version in VERSIONS {
        let mut broker = Broker::start();
        let (_reader, message) = delivery(&broker, version);
        broker.crash();
        let mut reader = Client::kept(&broker, version, "reader");
        let again = reader.message();
        assert_eq!(
            (again.text(), again.id, again.duplicate),
            ("once", message.id, true)
        );
        reader.acknowledge(&again);
        assert_done(&broker, version, &mut reader);
    }
}

#[test]
fn a_delivery_that_was_received_is_only_released_after_a_crash() {
    for version in VERSIONS {
        let mut broker = Broker::start();
        let (mut reader, message) = delivery(&broker, version);
        reader.send_ack(Ack::Pubrec, message.id);
        reader.wait_ack(Ack::Pubrel, message.id);
        broker.crash();
        let mut reader = Client::kept(&broker, version, "reader");
        reader.wait_ack(Ack::Pubrel, message.id);
        reader.send_ack(Ack::Pubcomp, message.id);
        assert_done(&broker, version, &mut reader);
    }
}

#[test]
fn a_delivery_that_was_received_is_only_released_on_a_new_connection() {
    for version in VERSIONS {
        let broker = Broker::start();
        let (mut reader, message) = delivery(&broker, version);
        reader.send_ack(Ack::Pubrec, message.id);
        reader.wait_ack(Ack::Pubrel, message.id);
        reader.vanish();
        let mut reader = Client::kept(&broker, version, "reader");
        assert_eq!(
            reader.receive(),
            Packet::Ack {
                kind: Ack::Pubrel,
                id: message.id,
                code: 0
            }
        );
        reader.send_ack(Ack::Pubcomp, message.id);
        assert_done(&broker, version, &mut reader);
    }
}

#[test]
fn a_completed_delivery_never_comes_again() {
    for version in VERSIONS {
        let mut broker = Broker::start();
        let (mut reader, message) = delivery(&broker, version);
        reader.acknowledge(&message);
        reader.assert_nothing_waits();
        broker.crash();
        let mut reader = Client::kept(&broker, version, "reader");
        Client::transient(&broker, version, "marker").publish("t", "end", 2);
        loop {
            match reader.receive() {
                // That PUBCOMP came may be forgotten; the message itself may not be sent again.
                Packet::Ack {
                    kind: Ack::Pubrel,
                    id,
                    ..
                } if id == message.id => {
                    reader.send_ack(Ack::Pubcomp, id);
                }
                Packet::Publish(message) => {
                    assert_eq!(message.text(), "end");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_earlier_connections_left_open_does_not_count_for_the_receive_maximum() {
    // 5.0: [MQTT-3.3.4-7], section 4.9.
    let broker = Broker::start_with(&["mqtt.receive_max=3"]);
    let message = |id| Publish {
        id,
        ..once(id, false)
    };
    let mut writer = Client::kept(&broker, Version::V5, "writer");
    for id in 1..=3 {
        writer.send_message(&message(id));
        writer.wait_ack(Ack::Pubrec, id);
    }
    let mut writer = Client::kept(&broker, Version::V5, "writer");
    for id in 4..=6 {
        writer.send_message(&message(id));
        writer.wait_ack(Ack::Pubrec, id);
    }
    // A release gives back what it took, on whichever connection, and never more than all.
    for id in 1..=6 {
        writer.send_ack(Ack::Pubrel, id);
        writer.wait_ack(Ack::Pubcomp, id);
    }
    for id in 1..=3 {
        writer.send_message(&message(id));
        writer.wait_ack(Ack::Pubrec, id);
    }
    writer.send_message(&message(4));
    assert_eq!(writer.closed(), Some(0x93));
}
