//! The last word of a client that vanished.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Connect, Version};

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
