//! How the program ends, and how it starts again.

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Connect, Version};

#[test]
fn sigterm_says_goodbye_keeps_everything_and_exits_with_0() {
    let mut broker = Broker::start();
    let mut v5 = Client::kept(&broker, Version::V5, "five");
    v5.subscribe("t", 1);
    let mut v311 = Client::kept(&broker, Version::V311, "four");
    v311.subscribe("t", 2);
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    writer.publish("t", "waits", 2);
    broker.terminate();
    assert_eq!(v5.closed(), Some(0x8B));
    v311.closed();
    let status = broker.exit_status();
    assert_eq!(status.code(), Some(0), "{}", broker.log());
    broker.restart();
    for (version, id) in [(Version::V5, "five"), (Version::V311, "four")] {
        let mut client = Client::kept(&broker, version, id);
        assert!(client.connack.present);
        client.expect("waits");
        client.assert_nothing_waits();
    }
}

#[test]
fn an_idle_broker_stops_at_once() {
    let mut broker = Broker::start();
    broker.stop();
}

#[test]
fn a_second_process_on_the_same_data_is_told_so() {
    let broker = Broker::start();
    let mut client = Client::transient(&broker, Version::V5, "c");
    let (status, said) = broker.second_process();
    assert!(!status.success());
    let dir = broker.data_dir();
    assert!(said.contains(&dir.display().to_string()), "{said}");
    client.assert_nothing_waits();
}

#[test]
fn a_start_after_a_crash_says_how_many_sessions_it_found() {
    let mut broker = Broker::start();
    for number in 0..5 {
        Client::kept(&broker, Version::V311, &format!("c{number}")).disconnect();
    }
    Client::connect(&broker, &Connect::new(Version::V311, "transient")).disconnect();
    broker.crash();
    broker.assert_logged("recovered");
    assert_eq!(broker.metric("outlive_sessions"), 5.0);
}
