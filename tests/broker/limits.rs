//! Limits are kept, and the peer is told.

use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Connect, Version, property};

#[test]
fn a_client_that_is_silent_too_long_is_disconnected() {
    let broker = Broker::start();
    for version in Version::ALL {
        let mut client = Client::connect(&broker, &Connect::new(version, "c").keep_alive(1));
        let reason = client.closed(); // [MQTT-3.1.2-24]
        assert_eq!(reason, (version == Version::V5).then_some(0x8D));
    }
}

#[test]
fn at_the_quota_new_clients_are_refused_and_known_ones_get_in() {
    let broker = Broker::start_with(&["quota.sessions_max=2"]);
    let online = Client::transient(&broker, Version::V311, "online");
    Client::kept(&broker, Version::V5, "kept").disconnect();
    for version in Version::ALL {
        let refused = Client::try_connect(&broker, &Connect::new(version, "new"));
        let code = if version == Version::V5 { 0x97 } else { 3 };
        assert_eq!(refused.connack.code, code, "{version:?}");
    }
    let kept = Client::kept(&broker, Version::V5, "kept");
    assert!(kept.connack.present);
    // Taking one's own session over needs no further unit.
    let again = Client::connect(&broker, &Connect::kept(Version::V5, "kept").clean(true));
    assert!(!again.connack.present);
    online.disconnect();
    eventually("the unit of the one that left is free", || {
        Client::try_connect(&broker, &Connect::new(Version::V5, "new"))
            .connack
            .code
            == 0
    });
}

#[test]
fn units_are_reserved_by_client_id_and_limited_by_listener() {
    let broker = Broker::start_with(&[
        "quota.sessions_max=2",
        "quota.reserved=[{ name = 'alarms', client_id_pattern = 'alarm-*', sessions = 1 }]",
    ]);
    let _common = Client::kept(&broker, Version::V5, "meter-1");
    for version in Version::ALL {
        let refused = Client::try_connect(&broker, &Connect::new(version, "meter-2"));
        let code = if version == Version::V5 { 0x97 } else { 3 };
        assert_eq!(refused.connack.code, code, "{version:?}");
    }
    Client::kept(&broker, Version::V311, "alarm-1").disconnect();
    assert_eq!(broker.metric("outlive_session_quota_used "), 2.0);
    let refused = broker.metric("outlive_session_quota_refused_total{limit=\"sessions\"}");
    assert_eq!(refused, 3.0);
}

#[test]
fn connects_above_the_rate_are_refused_in_every_version_and_counted() {
    let broker = Broker::start_with(&["mqtt.connects_per_second_max=1"]);
    for version in Version::ALL {
        let code = if version == Version::V5 { 0x9F } else { 3 };
        eventually("two connects come within a second", || {
            let connect = Connect::new(version, "c");
            let answer = Client::try_connect(&broker, &connect).connack.code;
            assert!(answer == 0 || answer == code, "{version:?}: {answer}");
            answer == code
        });
        eventually("then one is taken again", || {
            Client::try_connect(&broker, &Connect::new(version, "c"))
                .connack
                .code
                == 0
        });
    }
    let refused = broker.metric("outlive_connections_refused_total{reason=\"connect_rate\"}");
    assert!(refused >= 3.0, "{refused}");
}

#[test]
fn at_the_quota_a_newcomer_takes_the_place_of_who_was_offline_longest_if_so_configured() {
    let broker =
        Broker::start_with(&["quota.sessions_max=2", "quota.policy=evict-longest-offline"]);
    Client::kept(&broker, Version::V311, "first").disconnect();
    let _online = Client::kept(&broker, Version::V5, "online");
    let new = Client::try_connect(&broker, &Connect::kept(Version::V311, "new"));
    assert_eq!(new.connack.code, 0);
    assert_eq!(broker.metric("outlive_session_quota_used "), 2.0);
    let refused = Client::try_connect(&broker, &Connect::kept(Version::V5, "first"));
    assert_eq!(refused.connack.code, 0x97, "everybody is online");
    let evicted = broker.metric("outlive_session_events_total{event=\"evicted\"}");
    assert_eq!(evicted, 1.0);
}

#[test]
fn the_quota_holds_after_a_crash() {
    let mut broker = Broker::start_with(&["quota.sessions_max=1"]);
    Client::kept(&broker, Version::V311, "kept").disconnect();
    broker.crash();
    let refused = Client::try_connect(&broker, &Connect::new(Version::V311, "new"));
    assert_eq!(refused.connack.code, 3);
    assert!(Client::kept(&broker, Version::V311, "kept").connack.present);
}

#[test]
fn an_oversize_packet_is_refused_from_its_header() {
    let broker = Broker::start_with(&["mqtt.packet_bytes_max=1024"]);
    let mut watcher = Client::transient(&broker, Version::V5, "watcher");
    assert_eq!(
        watcher
            .connack
            .properties
            .number(property::MAXIMUM_PACKET_SIZE)
            .map(|limit| limit >= 1024),
        Some(true)
    );
    for version in Version::ALL {
        let mut client = Client::transient(&broker, version, "c");
        // A header that announces 100 MB, and nothing of them.
        let mut header = vec![0x30];
        header.extend(crate::wire::variable(100_000_000));
        client.send(&header);
        let reason = client.closed();
        assert_eq!(reason, (version == Version::V5).then_some(0x95));
    }
    watcher.subscribe("t", 1);
    watcher.publish("t", &"x".repeat(900), 1);
    assert_eq!(watcher.message().payload.len(), 900);
}

#[test]
fn a_malformed_packet_ends_that_connection_only() {
    let broker = Broker::start();
    let mut neighbour = Client::transient(&broker, Version::V5, "neighbour");
    for bytes in [
        &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F][..], // a length of five bytes
        &[0x36, 5, 0, 1, b't', 0, 1],              // QoS 3
        &[0x80, 2, 0, 1],                          // SUBSCRIBE with wrong flags
        &[0x30, 3, 0, 9, b't'],                    // a topic longer than its packet
        &[0x30, 4, 0, 1, b'#', b'x'],              // a wildcard in a topic
    ] {
        for version in Version::ALL {
            let mut client = Client::transient(&broker, version, "c");
            client.send(bytes);
            let reason = client.closed();
            assert_eq!(reason.is_some(), version == Version::V5, "{bytes:02x?}");
        }
    }
    neighbour.assert_nothing_waits();
}

/// However long the window is: what a client does not read is bounded in bytes, and it is not cut off for it.
#[test]
fn a_window_of_large_messages_is_more_than_the_write_buffer_and_all_of_it_arrives() {
    const MESSAGES: usize = 200;
    let broker = Broker::start_with(&[
        "mqtt.write_buffer_high_bytes=65536",
        "mqtt.write_buffer_max_bytes=262144",
    ]);
    let mut reader = Client::kept(&broker, Version::V311, "reader");
    reader.subscribe("large", 1);
    reader.disconnect();
    let mut writer = Client::transient(&broker, Version::V311, "writer");
    let payload = "x".repeat(100_000);
    for _ in 0..MESSAGES {
        writer.publish("large", &payload, 1);
    }
    // The second time the window itself is sent again.
    for dup in [false, true] {
        let mut reader = Client::kept(&broker, Version::V311, "reader");
        let window: Vec<_> = (0..MESSAGES).map(|_| reader.message()).collect();
        assert!(window.iter().all(|message| message.duplicate == dup));
        if dup {
            window
                .iter()
                .for_each(|message| reader.acknowledge(message));
            reader.disconnect();
        } else {
            reader.vanish();
        }
    }
    let ended = broker.metric("outlive_connections_ended_total{reason=\"not_reading\"}");
    assert_eq!(ended, 0.0);
    assert_eq!(broker.metric("outlive_messages_redelivered_total"), 200.0);
}

#[test]
fn a_slow_reader_loses_qos_0_and_then_its_connection_while_memory_stays_bounded() {
    const MESSAGES: usize = 3_000;
    let payload = "x".repeat(64 * 1024);
    let broker = Broker::start();
    let mut slow = Client::transient(&broker, Version::V5, "slow");
    slow.subscribe("flood", 0);
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    let before = broker.rss_bytes();
    let mut highest = before;
    for number in 0..MESSAGES {
        writer.send_publish("flood", &payload, 0, false);
        if number % 100 == 99 {
            // Acknowledged when all before it went through.
            writer.publish("mark", "x", 1);
            highest = highest.max(broker.rss_bytes());
        }
    }
    let grown = (highest - before) / 1_000_000;
    assert!(
        grown < 100,
        "{grown} MB for a reader that does not read {} MB",
        MESSAGES * 64 / 1024
    );
    eventually("the slow reader is disconnected", || {
        broker.metric("outlive_connections ") < 2.0
    });
    let mut arrived = 0;
    slow.drain(|_| arrived += 1);
    assert!(arrived < MESSAGES, "all {arrived} arrived");
    writer.assert_nothing_waits();
}
