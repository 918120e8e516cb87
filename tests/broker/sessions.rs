//! What a session is, how long it lasts and who holds it.

use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Ack, Connect, Version};

fn present(broker: &Broker, connect: &Connect) -> bool {
    let client = Client::connect(broker, connect);
    let present = client.connack.present;
    client.disconnect();
    present
}

#[test]
fn a_3_1_1_session_is_kept_exactly_without_clean_session() {
    // 3.1.1: [MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-4.1.0-1]
    let broker = Broker::start();
    let clean = Connect::new(Version::V311, "c");
    let kept = Connect::kept(Version::V311, "c");
    assert!(!present(&broker, &clean));
    assert!(!present(&broker, &clean));
    assert!(!present(&broker, &kept), "the first kept one is new");
    assert!(present(&broker, &kept));
    assert!(present(&broker, &kept));
    assert!(!present(&broker, &clean), "a clean session discards it");
    assert!(!present(&broker, &kept));
}

#[test]
fn a_3_1_session_is_kept_though_its_connack_cannot_say_so() {
    // MQTT 3.1: no session-present bit.
    let broker = Broker::start();
    let kept = Connect::kept(Version::V31, "c");
    let mut client = Client::connect(&broker, &kept);
    client.subscribe("t", 1);
    client.disconnect();
    Client::transient(&broker, Version::V31, "writer").publish("t", "waited", 1);
    let mut client = Client::connect(&broker, &kept);
    assert!(!client.connack.present);
    client.expect("waited");
}

#[test]
fn a_5_0_session_is_kept_as_clean_start_and_expiry_say() {
    // 5.0: [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-3.1.4-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    let broker = Broker::start();
    for clean in [true, false] {
        for expiry in [None, Some(0), Some(600)] {
            for again_clean in [true, false] {
                let mut first = Connect::new(Version::V5, "c").clean(clean);
                first.expiry_seconds = expiry;
                // Whatever there was is gone first.
                present(&broker, &Connect::new(Version::V5, "c"));
                assert!(!present(&broker, &first));
                let again = Connect::new(Version::V5, "c").clean(again_clean);
                let expected = expiry == Some(600) && !again_clean;
                assert_eq!(present(&broker, &again), expected, "{first:?} {again:?}");
            }
        }
    }
}

#[test]
fn an_expiry_above_the_cap_is_cut_and_connack_says_so() {
    let broker = Broker::start_with(&["session.expiry_seconds_max=100"]);
    for asked in [101, u32::MAX] {
        let client = Client::connect(&broker, &Connect::new(Version::V5, "c").expiry(asked));
        assert_eq!(client.connack.expiry(), Some(100));
    }
    let client = Client::connect(&broker, &Connect::new(Version::V5, "c").expiry(100));
    assert!(matches!(client.connack.expiry(), None | Some(100)));
}

#[test]
fn disconnect_of_5_0_can_end_a_session_or_change_its_expiry() {
    let broker = Broker::start();
    let kept = Connect::kept(Version::V5, "c");
    Client::connect(&broker, &kept).disconnect_with(0, Some(0));
    assert!(!present(&broker, &kept), "expiry 0 in DISCONNECT ends it");
    Client::connect(&broker, &kept).disconnect_with(0, Some(60));
    assert!(present(&broker, &kept), "another expiry keeps it");
}

#[test]
fn disconnect_cannot_keep_a_session_that_was_not_to_be_kept() {
    let broker = Broker::start();
    let mut client = Client::transient(&broker, Version::V5, "c");
    client.send(&crate::wire::disconnect(Version::V5, 0, Some(60)));
    assert_eq!(client.closed(), Some(0x82)); // 3.14.2.2.2
    assert!(!present(&broker, &Connect::kept(Version::V5, "c")));
}

#[test]
fn an_expired_session_is_gone() {
    // 5.0: [MQTT-4.1.0-2]
    let broker = Broker::start();
    let short = Connect::new(Version::V5, "c").clean(false).expiry(1);
    Client::connect(&broker, &short).disconnect();
    // Asking would resume it: another client sees it go.
    eventually("the session expires", || {
        broker.metric("outlive_sessions") < 1.0
    });
    assert!(!present(&broker, &short));
}

#[test]
fn a_session_moves_between_protocol_versions() {
    let broker = Broker::start();
    let mut client = Client::kept(&broker, Version::V311, "c");
    client.subscribe("t", 2);
    client.disconnect();
    for version in [Version::V5, Version::V31, Version::V311, Version::V5] {
        Client::transient(&broker, Version::V5, "writer").publish("t", "next", 2);
        let mut client = Client::kept(&broker, version, "c");
        assert_eq!(client.connack.present, version != Version::V31);
        client.expect("next");
        client.disconnect();
    }
}

#[test]
fn offline_messages_arrive_in_order_after_reconnect() {
    // 3.1.1: [MQTT-3.1.2-5]
    // 5.0: [MQTT-4.5.0-1].
    // 3.1.1: [MQTT-4.5.0-1].
    let broker = Broker::start();
    for version in Version::ALL {
        let mut reader = Client::kept(&broker, version, "reader");
        reader.subscribe("t", 2);
        reader.disconnect();
        let mut writer = Client::transient(&broker, version, "writer");
        for number in 0..300_u32 {
            let qos = if number % 2 == 0 { 1 } else { 2 };
            writer.publish("t", &number.to_string(), qos);
        }
        writer.publish("t", "not kept for who is away", 0);
        let mut reader = Client::kept(&broker, version, "reader");
        // The protocol orders messages of one QoS; outlive keeps the order of its log.
        for number in 0..300 {
            let message = reader.expect(&number.to_string());
            assert!(!message.duplicate, "{number} was never sent before");
        }
        writer.publish("t", "live again", 1);
        reader.expect("live again");
        reader.assert_nothing_waits();
        present(&broker, &Connect::new(version, "reader"));
    }
}

#[test]
fn a_message_from_before_the_subscription_is_not_delivered() {
    let broker = Broker::start();
    let mut keeper = Client::kept(&broker, Version::V311, "keeper");
    keeper.subscribe("t", 1);
    let mut writer = Client::transient(&broker, Version::V311, "writer");
    writer.publish("t", "early", 1);
    let mut late = Client::kept(&broker, Version::V311, "late");
    late.subscribe("t", 1);
    writer.publish("t", "on time", 1);
    late.expect("on time");
}

#[test]
fn a_takeover_ends_the_old_connection_and_keeps_the_session() {
    // 3.1.1: [MQTT-3.1.4-2]
    let broker = Broker::start();
    for (old, new) in [
        (Version::V5, Version::V5),
        (Version::V5, Version::V311),
        (Version::V311, Version::V5),
    ] {
        let mut first = Client::kept(&broker, old, "c");
        first.subscribe("t", 1);
        let mut second = Client::kept(&broker, new, "c");
        assert!(second.connack.present);
        let reason = first.closed(); // [MQTT-3.1.4-3]
        assert_eq!(reason, (old == Version::V5).then_some(0x8E));
        second.publish("t", "still subscribed", 1);
        second.expect("still subscribed");
        second.vanish();
        present(&broker, &Connect::new(new, "c"));
    }
}

#[test]
fn a_takeover_of_a_transient_session_starts_a_new_one() {
    let broker = Broker::start();
    let mut first = Client::transient(&broker, Version::V5, "c");
    first.subscribe("t", 1);
    let mut second = Client::connect(&broker, &Connect::kept(Version::V5, "c"));
    assert!(!second.connack.present);
    assert_eq!(first.closed(), Some(0x8E));
    second.publish("t", "nobody subscribes", 1);
    second.assert_nothing_waits();
}

#[test]
fn what_was_not_acknowledged_comes_again_with_its_id_and_dup() {
    let mut broker = Broker::start();
    for version in Version::ALL {
        let mut reader = Client::kept(&broker, version, "reader");
        reader.subscribe("t", 1);
        let mut writer = Client::transient(&broker, version, "writer");
        for text in ["a", "b", "c"] {
            writer.publish("t", text, 1);
        }
        let first: Vec<_> = (0..3).map(|_| reader.message()).collect();
        reader.send_ack(Ack::Puback, first[1].id);
        // The broker has handled the ack when it answers what came after it.
        reader.assert_nothing_waits();
        reader.vanish();
        let mut reader = Client::kept(&broker, version, "reader");
        for before in [&first[0], &first[2]] {
            let again = reader.message();
            assert_eq!((&again.payload, again.id), (&before.payload, before.id));
            assert!(again.duplicate);
        }
        reader.assert_nothing_waits();
        broker.crash();
        let mut reader = Client::kept(&broker, version, "reader");
        let mut left = vec![&first[0], &first[2]];
        while !left.is_empty() {
            let again = reader.message();
            reader.acknowledge(&again);
            // The ack of "b" may be forgotten: it is QoS 1.
            if again.payload != first[1].payload {
                let before = left.remove(0);
                assert_eq!((&again.payload, again.id), (&before.payload, before.id));
                assert!(again.duplicate);
            }
        }
        reader.assert_nothing_waits();
        present(&broker, &Connect::new(version, "reader"));
    }
}

#[test]
fn a_connected_client_is_sent_nothing_twice() {
    let broker = Broker::start();
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    reader.subscribe("t", 1);
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    writer.publish("t", "once", 1);
    let message = reader.message();
    for _ in 0..20 {
        reader.assert_nothing_waits(); // [MQTT-4.4.0-1]
    }
    reader.acknowledge(&message);
    reader.assert_nothing_waits();
}

#[test]
fn what_a_session_retained_outlives_it() {
    // 3.1.1: [MQTT-3.1.2-7]; MQTT 3.1: the same.
    let broker = Broker::start();
    for version in Version::ALL {
        let mut writer = Client::transient(&broker, version, "writer");
        writer.publish_retained("t", "stays", 1);
        writer.disconnect();
        assert!(!present(&broker, &Connect::new(version, "writer")));
        let mut reader = Client::transient(&broker, version, "reader");
        reader.subscribe("t", 1);
        assert!(reader.expect("stays").retain);
        reader.disconnect();
    }
}
