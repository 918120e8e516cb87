//! Many retained messages for one subscription, with everything that can happen while they are sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Ack, Packet, Version};

/// Publications under way at once.
const WINDOW: u32 = 400;

fn topic(number: u32) -> String {
    format!("r/{number:05}")
}

/// Publishes so many retained messages, each to its own topic.
fn fill(broker: &Broker, count: u32, qos: u8, payload: &str) {
    let mut writer = Client::transient(broker, Version::V311, "writer");
    for first in (0..count).step_by(WINDOW as usize) {
        let numbers = first..count.min(first + WINDOW);
        let ids: Vec<_> = numbers
            .map(|number| writer.send_publish(&topic(number), payload, qos, true))
            .collect();
        for id in ids {
            match qos {
                0 => {}
                1 => writer.wait_ack(Ack::Puback, id),
                _ => {
                    writer.wait_ack(Ack::Pubrec, id);
                    writer.send_ack(Ack::Pubrel, id);
                    writer.wait_ack(Ack::Pubcomp, id);
                }
            }
        }
    }
    writer.disconnect();
}

/// What a client knows of what it was sent.
#[derive(Default)]
struct Reader {
    got: BTreeMap<String, u32>,
    /// QoS 2 identifiers not yet released.
    open: BTreeSet<u16>,
}

impl Reader {
    fn take(&mut self, client: &mut Client) {
        match client.receive() {
            Packet::Publish(message) if message.qos == 2 => {
                if self.open.insert(message.id) {
                    *self.got.entry(message.topic).or_default() += 1;
                }
                client.send_ack(Ack::Pubrec, message.id);
            }
            Packet::Publish(message) => {
                assert!(message.retain, "{message:?}");
                client.send_ack(Ack::Puback, message.id);
                *self.got.entry(message.topic).or_default() += 1;
            }
            Packet::Ack {
                kind: Ack::Pubrel,
                id,
                ..
            } => {
                self.open.remove(&id);
                client.send_ack(Ack::Pubcomp, id);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Every message comes, in so many connections as it takes, through disconnects, crashes and passivation.
fn survives_interruptions(qos: u8, count: u32) {
    let mut broker = Broker::start_with(&["session.passivate_after_seconds=0"]);
    fill(&broker, count, qos, "state");
    let mut client = Client::kept(&broker, Version::V5, "reader");
    client.subscribe("r/+", qos);
    let mut reader = Reader::default();
    let part = count as usize / 8;
    for turn in 1.. {
        while reader.got.len() < (part * turn).min(count as usize) {
            reader.take(&mut client);
        }
        if reader.got.len() == count as usize {
            break;
        }
        match turn % 3 {
            0 => client.disconnect(),
            1 => client.vanish(),
            _ => broker.crash(),
        }
        client = Client::kept(&broker, Version::V5, "reader");
        assert!(client.connack.present);
    }
    while !reader.open.is_empty() {
        reader.take(&mut client);
    }
    let numbers: Vec<_> = (0..count).map(topic).collect();
    assert!(reader.got.keys().eq(&numbers));
    if qos == 2 {
        assert!(reader.got.values().all(|times| *times == 1));
    }
    client.disconnect();
    let mut client = Client::kept(&broker, Version::V5, "reader");
    client.assert_nothing_waits();
}

#[test]
fn twenty_thousand_retained_messages_come_through_disconnects_and_crashes() {
    survives_interruptions(1, 20_000);
}

#[test]
fn retained_messages_of_qos_2_come_exactly_once_through_disconnects_and_crashes() {
    survives_interruptions(2, 8_000);
}

#[test]
fn a_reader_that_does_not_read_loses_no_retained_message_of_qos_0() {
    const COUNT: u32 = 1_000;
    let broker = Broker::start();
    let payload = "x".repeat(40_000);
    fill(&broker, COUNT, 0, &payload);
    let mut other = Client::transient(&broker, Version::V5, "other");
    other.publish("elsewhere", "x", 1);
    let mut reader = Client::transient(&broker, Version::V5, "reader");
    reader.subscribe("r/#", 0);
    // More than sockets and the broker's buffer hold is on its way while nobody reads.
    for _ in 0..300 {
        other.publish_retained("elsewhere", "x", 1);
    }
    for number in 0..COUNT {
        let message = reader.message();
        assert_eq!((message.topic, message.retain), (topic(number), true));
    }
    reader.assert_nothing_waits();
}

#[test]
fn a_retained_message_of_qos_0_is_there_for_who_subscribes_right_after_it() {
    let broker = Broker::start();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    let mut reader = Client::transient(&broker, Version::V5, "reader");
    for number in 0..100 {
        let topic = topic(number);
        writer.publish_retained(&topic, "state", 0);
        // The answer to the ping says that it was read. Routed before the subscription or after, it comes.
        writer.assert_nothing_waits();
        reader.subscribe(&topic, 0);
        reader.expect("state");
    }
}
