//! A long backlog for a session that is away, with the broker killed three times on the way.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::{Ack, Packet, Properties, Publish, Version};

const WINDOW: u32 = 400;

/// `OUTLIVE_TEST_MESSAGES` changes how many messages there are.
fn message_count() -> u32 {
    std::env::var("OUTLIVE_TEST_MESSAGES")
        .ok()
        .map_or(100_000, |text| text.parse().expect("a number"))
}

/// A publisher that keeps many messages on their way and repeats, after a crash, what was not acknowledged.
struct Writer {
    client: Client,
    qos: u8,
    next: u32,
    /// Sent and not done, oldest first: the message, and whether PUBREC came.
    open: VecDeque<(Publish, bool)>,
}

impl Writer {
    fn connect(broker: &Broker, qos: u8) -> Self {
        Self {
            client: Client::kept(broker, Version::V311, "writer"),
            qos,
            next: 0,
            open: VecDeque::new(),
        }
    }

    /// Publishes until so many are sent, and lets the last window be unanswered.
    fn write_until(&mut self, end: u32) {
        while self.next < end {
            while self.next < end && self.open.len() < WINDOW as usize {
                let message = Publish {
                    topic: "t".to_owned(),
                    payload: self.next.to_string().into_bytes(),
                    qos: self.qos,
                    retain: false,
                    duplicate: false,
                    id: u16::try_from(self.next % 60_000 + 1).unwrap(),
                    properties: Properties::default(),
                };
                self.client.send_message(&message);
                self.open.push_back((message, false));
                self.next += 1;
            }
            if self.next < end {
                self.answer();
            }
        }
    }

    fn finish(&mut self) {
        while !self.open.is_empty() {
            self.answer();
        }
    }

    fn answer(&mut self) {
        let Packet::Ack { kind, id, .. } = self.client.receive() else {
            panic!("the writer subscribes to nothing");
        };
        let at = self.open.iter().position(|(message, _)| message.id == id);
        let at = at.unwrap_or_else(|| panic!("{kind:?} for {id}, which is not open"));
        if kind == Ack::Pubrec {
            self.open[at].1 = true;
            self.client.send_ack(Ack::Pubrel, id);
        } else {
            self.open.remove(at);
        }
    }

    /// Comes back after a crash. [MQTT-4.4.0-1]
    fn return_to(&mut self, broker: &Broker) {
        self.client = Client::kept(broker, Version::V311, "writer");
        assert!(self.client.connack.present);
        for (message, received) in &mut self.open {
            if *received {
                self.client.send_ack(Ack::Pubrel, message.id);
            } else {
                message.duplicate = true;
                self.client.send_message(message);
            }
        }
    }
}

/// What tells a lost message from one that comes late, twice or from elsewhere: the packet, the rest of the window, what
/// this process of the broker counted (a delivery that it did not make is not its own), and what lies on the disk.
fn evidence(broker: &Broker, message: &Publish, reader: &mut Client) -> String {
    let Publish {
        id, qos, duplicate, ..
    } = message;
    let mut said = format!("id {id}, qos {qos}, dup {duplicate}\nbehind it:");
    for packet in reader.rest_of_the_window() {
        match packet {
            Packet::Publish(message) => write!(said, " {}", message.text()).unwrap(),
            other => write!(said, " {other:?}").unwrap(),
        }
    }
    let metrics = broker.admin_get("/metrics").map(|(_, body)| body);
    let metrics = metrics.unwrap_or_else(|| "no metrics".to_owned());
    let counted = metrics.lines().filter(|line| !line.starts_with('#'));
    for line in counted.filter(|line| !line.ends_with(" 0.0")) {
        write!(said, "\n{line}").unwrap();
    }
    for entry in fs::read_dir(broker.data_dir().join("journal")).unwrap() {
        let entry = entry.unwrap();
        let bytes = entry.metadata().unwrap().len();
        write!(said, "\n{}: {bytes} bytes", entry.path().display()).unwrap();
    }
    said
}

/// Only so many clients were there since the start. One that dials the port of a broker that is gone, and by its name
/// takes the reader's session over, looks like a loss.
fn assert_no_stranger(broker: &Broker, clients: u32) {
    let opened = broker.metric("outlive_connections_opened_total");
    let delivered = broker.metric("outlive_messages_delivered_total");
    assert!(opened <= f64::from(clients), "{opened} connections opened");
    assert_eq!(delivered, 0.0, "deliveries, while the reader was away");
}

fn survives_three_crashes(qos: u8, count: u32) {
    let mut broker = Broker::start();
    let mut reader = Client::kept(&broker, Version::V311, "reader");
    reader.subscribe("t", qos);
    reader.disconnect();
    let mut writer = Writer::connect(&broker, qos);
    for part in 1..=3 {
        let end = count * part / 4;
        // Before the last window: asking takes time, in which it would be answered.
        writer.write_until(end.saturating_sub(WINDOW));
        assert_no_stranger(&broker, if part == 1 { 2 } else { 1 });
        writer.write_until(end);
        broker.crash();
        writer.return_to(&broker);
    }
    writer.write_until(count);
    writer.finish();
    assert_no_stranger(&broker, 1);

    let mut reader = Client::kept(&broker, Version::V311, "reader");
    assert!(reader.connack.present);
    let mut next = 0;
    while next < count {
        match reader.receive() {
            Packet::Publish(message) => {
                let number: u32 = message.text().parse().unwrap();
                // QoS 1: what was under way at a crash may have been published twice.
                assert!(
                    number == next || (qos == 1 && number < next),
                    "{number}, expected {next}; {}",
                    evidence(&broker, &message, &mut reader)
                );
                next = next.max(number + 1);
                let kind = if qos == 1 { Ack::Puback } else { Ack::Pubrec };
                reader.send_ack(kind, message.id);
            }
            Packet::Ack {
                kind: Ack::Pubrel,
                id,
                ..
            } => reader.send_ack(Ack::Pubcomp, id),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_session_away_gets_every_acknowledged_qos_1_message_in_order_after_three_crashes() {
    survives_three_crashes(1, message_count() / 2);
}

#[test]
fn a_session_away_gets_every_qos_2_message_exactly_once_after_three_crashes() {
    survives_three_crashes(2, message_count() / 2);
}

#[test]
fn a_reader_that_is_interrupted_again_and_again_misses_nothing() {
    const COUNT: u32 = 2_000;
    let mut broker = Broker::start();
    let mut reader = Client::kept(&broker, Version::V5, "reader");
    reader.subscribe("t", 1);
    reader.disconnect();
    let mut writer = Client::transient(&broker, Version::V5, "writer");
    for number in 0..COUNT {
        writer.send_publish("t", &number.to_string(), 1, false);
        if number % 100 == 99 {
            writer.publish("elsewhere", "x", 1);
        }
    }
    let mut next = 0;
    let mut turn = 0;
    while next < COUNT {
        let mut reader = Client::kept(&broker, Version::V5, "reader");
        for _ in 0..300 {
            let message = reader.message();
            let number: u32 = message.text().parse().unwrap();
            assert!(number <= next, "{number}, expected {next} at most");
            next = next.max(number + 1);
            reader.acknowledge(&message);
            if next == COUNT {
                break;
            }
        }
        turn += 1;
        match turn % 3 {
            0 => reader.disconnect(),
            1 => reader.vanish(),
            _ => broker.crash(),
        }
    }
}
