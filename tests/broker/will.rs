//! The last word of a client that vanished.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Connect, Packet, Value, Version};

fn watcher(broker: &Broker) -> Client {
    let mut watcher = Client::transient(broker, Version::V5, "watcher");
    watcher.subscribe("will/#", 1);
    watcher
}

/// Nothing came before this mark.
fn assert_silent(broker: &Broker, watcher: &mut Client) {
    Client::transient(broker, Version::V5, "marker").publish("will/mark", "mark", 1);
    watcher.expect("mark");
}

#[test]
fn the_will_of_a_client_that_vanished_is_published() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in Version::ALL {
        Client::connect(
            &broker,
            &Connect::new(version, "c").will("will/c", "gone", 0),
        )
        .vanish();
        watcher.expect("gone");
    }
}

#[test]
fn disconnect_drops_the_will() {
    // 3.1.1: [MQTT-3.1.2-10]
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in Version::ALL {
        let connect = Connect::new(version, "c").will("will/c", "gone", 0);
        Client::connect(&broker, &connect).disconnect();
        assert_silent(&broker, &mut watcher); // [MQTT-3.14.4-3]
    }
}

#[test]
fn disconnect_with_will_message_publishes_it() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let connect = Connect::new(Version::V5, "c").will("will/c", "gone", 0);
    Client::connect(&broker, &connect).disconnect_with(0x04, None);
    watcher.expect("gone");
}

#[test]
fn a_delayed_will_comes_after_its_delay_and_not_if_the_client_is_back() {
    // 5.0: [MQTT-3.1.3-9]
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let connect = |id| Connect::kept(Version::V5, id).will("will/c", id, 2);
    Client::connect(&broker, &connect("returns")).vanish();
    Client::connect(&broker, &connect("stays away")).vanish();
    let back = Client::connect(&broker, &connect("returns"));
    assert!(back.connack.present);
    // The one that returned was due before the other.
    watcher.expect("stays away");
    assert_silent(&broker, &mut watcher);
}

#[test]
fn the_end_of_the_session_does_not_wait_for_the_delay() {
    // 5.0: [MQTT-3.1.2-8]
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let connect = Connect::new(Version::V5, "c").will("will/c", "gone", 3600);
    Client::connect(&broker, &connect).vanish();
    watcher.expect("gone"); // 3.1.3.2.2: whichever happens first
}

#[test]
fn a_takeover_publishes_the_will_unless_the_session_goes_on_within_its_delay() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let old = Connect::kept(Version::V5, "c").will("will/c", "gone", 0);
    let mut first = Client::connect(&broker, &old);
    let second = Client::connect(
        &broker,
        &Connect::kept(Version::V5, "c").will("will/c", "late", 3600),
    );
    watcher.expect("gone");
    assert_eq!(first.closed(), Some(0x8E));
    let third = Client::connect(&broker, &Connect::kept(Version::V5, "c"));
    assert!(third.connack.present);
    assert_silent(&broker, &mut watcher);
    drop((second, third));
}

#[test]
fn the_will_of_a_session_that_is_started_clean_is_published() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let old = Connect::kept(Version::V5, "c").will("will/c", "gone", 3600);
    let _first = Client::connect(&broker, &old);
    let _second = Client::transient(&broker, Version::V5, "c");
    watcher.expect("gone");
}

#[test]
fn a_delayed_will_survives_a_crash_of_the_broker() {
    let mut broker = Broker::start();
    let mut reader = Client::kept(&broker, Version::V5, "watcher");
    reader.subscribe("will/#", 1);
    reader.disconnect();
    let connect = Connect::kept(Version::V5, "c").will("will/c", "gone", 1);
    let client = Client::connect(&broker, &connect);
    broker.crash();
    drop(client);
    let mut reader = Client::kept(&broker, Version::V5, "watcher");
    reader.expect("gone");
}

#[test]
fn a_will_keeps_its_qos_and_its_retain_flag() {
    // 3.1.1: [MQTT-3.1.2-9]
    // 3.1.1: [MQTT-3.1.2-8] [MQTT-3.1.2-14] [MQTT-3.1.2-16] [MQTT-3.1.2-17]
    // 5.0: [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-12] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    let broker = Broker::start();
    let mut watcher = Client::transient(&broker, Version::V5, "watcher");
    watcher.subscribe("will/#", 2);
    for version in Version::ALL {
        for qos in 0..=2 {
            for retain in [false, true] {
                let connect = Connect::new(version, "c").will("will/c", "gone", 0);
                let connect = connect.with_will(|will| (will.qos, will.retain) = (qos, retain));
                Client::connect(&broker, &connect).vanish();
                assert_eq!(watcher.expect("gone").qos, qos);
                // What is retained is so when it is in the journal, and that it is with what comes behind it.
                watcher.publish_retained("mark", "", 1);
                let mut late = Client::transient(&broker, version, "late");
                late.subscribe("will/#", 2);
                if retain {
                    assert!(late.expect("gone").retain);
                    late.publish_retained("will/c", "", 1);
                    watcher.expect("");
                    late.expect("");
                }
                late.assert_nothing_waits();
            }
        }
    }
}

#[test]
fn a_will_keeps_its_properties_and_their_order() {
    // 5.0: [MQTT-3.1.3-10]; section 3.1.3.2.
    let application = b"\x01\x01\x03\x00\x01t\x08\x00\x01r\x09\x00\x02\x00\x01\
        \x26\x00\x01b\x00\x011\x26\x00\x01a\x00\x012\x26\x00\x01b\x00\x013";
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let connect = Connect::new(Version::V5, "c").will("will/c", "gone", 0);
    let expiring = [&application[..], b"\x02\x00\x00\x00\x3c"].concat();
    let connect = connect.with_will(|will| will.properties = expiring);
    Client::connect(&broker, &connect).vanish();
    let mut arrived = watcher.expect("gone").properties.0;
    let left = arrived.iter().position(|(id, _)| *id == 0x02).unwrap();
    assert!(matches!(arrived.remove(left).1, Value::Number(58..=60)));
    let bytes = |text: &str| text.as_bytes().to_vec();
    let pair = |name: &str, value: &str| (0x26, Value::Pair(bytes(name), bytes(value)));
    let expected = [
        (0x01, Value::Number(1)),
        (0x03, Value::Bytes(bytes("t"))),
        (0x08, Value::Bytes(bytes("r"))),
        (0x09, Value::Bytes(vec![0, 1])),
        pair("b", "1"),
        pair("a", "2"),
        pair("b", "3"),
    ];
    assert_eq!(arrived, expected);
}

#[test]
fn a_will_is_published_once() {
    // 3.1.1: [MQTT-3.1.2-10] [MQTT-3.1.2-12]; 5.0: [MQTT-3.1.2-10]
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in Version::ALL {
        let kept = Connect::kept(version, "c");
        Client::connect(&broker, &kept.clone().will("will/c", "gone", 0)).vanish();
        watcher.expect("gone");
        // The session goes on, without a will.
        Client::connect(&broker, &kept).vanish();
        assert_silent(&broker, &mut watcher);
        Client::transient(&broker, version, "c").disconnect();
    }
}

#[test]
fn only_a_normal_disconnect_drops_the_will() {
    // 5.0: [MQTT-3.1.2-8] [MQTT-3.14.4-3]
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for code in [
        0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ] {
        let connect = Connect::new(Version::V5, "c").will("will/c", "gone", 0);
        Client::connect(&broker, &connect).disconnect_with(code, None);
        watcher.expect("gone");
    }
    let connect = Connect::new(Version::V5, "c").will("will/c", "gone", 0);
    Client::connect(&broker, &connect).disconnect();
    assert_silent(&broker, &mut watcher);
}

#[test]
fn a_connection_that_the_broker_ends_publishes_its_will() {
    // Both: [MQTT-3.1.2-8]; 3.1.1: [MQTT-3.1.2-24]; 5.0: [MQTT-3.1.2-22]
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in Version::ALL {
        let connect = Connect::new(version, "c").will("will/c", "gone", 0);
        let mut malformed = Client::connect(&broker, &connect);
        malformed.send(&[0x00, 0x00]);
        malformed.closed();
        watcher.expect("gone");
        let mut twice = Client::connect(&broker, &connect);
        twice.send(&connect.encode());
        twice.closed();
        watcher.expect("gone");
        let mut silent = Client::connect(&broker, &connect.clone().keep_alive(1));
        silent.closed();
        watcher.expect("gone");
        let mut displaced = Client::connect(&broker, &connect);
        let newcomer = Client::transient(&broker, version, "c");
        displaced.closed();
        watcher.expect("gone");
        newcomer.disconnect();
    }
    // A DISCONNECT that is an error drops nothing.
    let connect = Connect::new(Version::V5, "c").will("will/c", "gone", 0);
    let mut client = Client::connect(&broker, &connect);
    client.send(&crate::wire::disconnect(Version::V5, 0, Some(60)));
    assert_eq!(client.closed(), Some(0x82));
    watcher.expect("gone");
    assert_silent(&broker, &mut watcher);
}

#[test]
fn a_shutdown_publishes_wills_to_who_comes_back() {
    let mut broker = Broker::start();
    let mut reader = Client::kept(&broker, Version::V5, "watcher");
    reader.subscribe("will/#", 1);
    let connect = Connect::new(Version::V5, "c").will("will/c", "gone", 0);
    let client = Client::connect(&broker, &connect);
    broker.stop();
    drop(client);
    broker.restart();
    let mut reader = Client::kept(&broker, Version::V5, "watcher");
    reader.expect("gone");
    assert_silent(&broker, &mut reader);
}

#[test]
fn a_will_that_may_not_be_published_is_refused_at_connect() {
    // 3.1.1: [MQTT-3.1.4-1]; 5.0: [MQTT-3.1.4-1]
    let broker = Broker::start();
    for topic in ["will/#", "+", ""] {
        for version in Version::ALL {
            let connect = Connect::new(version, "c").will(topic, "gone", 0);
            let mut client = Client::raw(&broker, version, &connect.encode());
            if version == Version::V5 {
                assert!(matches!(
                    client.receive(),
                    Packet::Connack { code: 0x90, .. }
                ));
            }
            client.assert_closed_silently();
        }
    }
}

/// A topic that belongs to the broker is refused to what is published, not to who connects.
#[test]
fn a_will_on_a_topic_of_the_broker_is_left_out() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    watcher.subscribe("$SYS/#", 1);
    for (count, version) in [1.0, 2.0, 3.0].into_iter().zip(Version::ALL) {
        let connect = Connect::new(version, "c").will("$SYS/broker/uptime", "for ever", 0);
        Client::connect(&broker, &connect).vanish();
        assert_silent(&broker, &mut watcher);
        assert_eq!(broker.metric("outlive_wills_refused_total"), count);
    }
}

/// What a bridge of mosquitto does as it comes and goes, unless it is told not to.
#[test]
fn the_state_of_a_bridge_is_its_will_and_its_retained_message() {
    const STATE: &str = "$SYS/broker/connection/host.bridge/state";
    let broker = Broker::start();
    for version in Version::ALL {
        let mut watcher = Client::transient(&broker, Version::V5, "watcher");
        watcher.subscribe("$SYS/broker/connection/+/state", 1);
        let connect = Connect::kept(version, "host.bridge").will(STATE, "0", 0);
        let connect = connect.with_will(|will| will.retain = true);
        let mut bridge = Client::connect(&broker, &connect);
        bridge.publish_retained(STATE, "1", 1);
        watcher.expect("1");
        bridge.vanish();
        watcher.expect("0");
        let mut late = Client::transient(&broker, version, "late");
        late.subscribe(STATE, 1);
        assert!(late.expect("0").retain);
        watcher.publish_retained(STATE, "", 1);
        watcher.expect("");
    }
}

#[test]
fn a_will_that_is_too_deep_is_refused_at_connect() {
    let broker = Broker::start_with(&["mqtt.topic_levels_max=3"]);
    for version in Version::ALL {
        let deep = Connect::new(version, "c").will("a/b/c/d", "gone", 0);
        let mut client = Client::raw(&broker, version, &deep.encode());
        if version == Version::V5 {
            assert!(matches!(
                client.receive(),
                Packet::Connack { code: 0x90, .. }
            ));
        }
        client.assert_closed_silently();
        Client::connect(&broker, &Connect::new(version, "c").will("a/b/c", "", 0)).disconnect();
    }
    assert_eq!(
        broker.metric("outlive_connections_refused_total{reason=\"topic_levels\"}"),
        3.0
    );
}
