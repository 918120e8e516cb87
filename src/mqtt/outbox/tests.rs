use outlive_actors::clock::ManualClock;
use outlive_actors::model::ids::PacketId;
use outlive_actors::model::packet::Routed;

use super::super::tests::delivery;
use super::*;

const HIGH: usize = 100;
const MAX: usize = 1000;

struct Fixture {
    config: WireConfig,
    counters: WireCounters,
    clock: ManualClock,
}

impl Fixture {
    fn new() -> Self {
        Self {
            config: WireConfig {
                write_buffer_high_bytes: HIGH,
                write_buffer_max_bytes: MAX,
                ..WireConfig::default()
            },
            counters: WireCounters::new(),
            clock: ManualClock::default(),
        }
    }

    fn around(&self) -> Surroundings<'_> {
        Surroundings {
            version: ProtocolVersion::V311,
            config: &self.config,
            counters: &self.counters,
            clock: &self.clock,
            tenant: None,
        }
    }
}

fn publish(qos: QoS, number: u16) -> Outbound {
    Outbound::Publish(delivery(qos, number, &[7; 50]))
}

/// Writes everything, `step` bytes at a time.
fn drain(outbox: &mut Outbox, fixture: &Fixture, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = outbox.unwritten(fixture.around()).unwrap();
        if bytes.is_empty() {
            return all;
        }
        let count = bytes.len().min(step);
        all.extend_from_slice(&bytes[..count]);
        outbox.advance(count);
    }
}

#[test]
fn above_the_high_mark_few_packets_wait_then_qos_0_is_dropped_and_the_rest_keeps_its_order() {
    let mut fixture = Fixture::new();
    fixture.config.write_buffer_max_bytes = 10 * MAX;
    let mut outbox = Outbox::new(None);
    for number in 1..=40 {
        let qos = if number % 2 == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        outbox.push(publish(qos, number), fixture.around()).unwrap();
    }
    // Two are encoded (57 and 55 bytes), 16 wait, then only QoS 1 is taken.
    assert!(outbox.encoded() < HIGH + 60);
    let written = drain(&mut outbox, &fixture, 7);
    let frames = || written.chunk_by(|_, next| *next != 0x32 && *next != 0x30);
    let ids: Vec<u8> = frames()
        .filter(|frame| frame[0] == 0x32)
        .map(|frame| frame[6])
        .collect();
    assert_eq!(ids, (1..40).step_by(2).collect::<Vec<_>>());
    assert_eq!(frames().count() - ids.len(), 9);
    let dropped = fixture.counters.observe();
    assert_eq!(dropped.get(WireCounter::DroppedSlowReader), 11);
    assert!(outbox.is_empty());
}

#[test]
fn qos_0_is_dropped_where_other_packets_end_the_connection() {
    let fixture = Fixture::new();
    let mut outbox = Outbox::new(None);
    let large = |qos, number| Outbound::Publish(delivery(qos, number, &[7; 800]));
    for _ in 0..2 {
        outbox
            .push(large(QoS::AtMostOnce, 0), fixture.around())
            .unwrap();
    }
    let dropped = fixture.counters.observe();
    assert_eq!(dropped.get(WireCounter::DroppedSlowReader), 1);
    assert_eq!(
        outbox.push(large(QoS::AtLeastOnce, 1), fixture.around()),
        Err(Refusal::NotReading)
    );
}

#[test]
fn encoded_bytes_stay_bounded_whatever_waits() {
    let fixture = Fixture::new();
    let mut outbox = Outbox::new(None);
    let mut taken = 0;
    while outbox
        .push(publish(QoS::AtLeastOnce, taken + 1), fixture.around())
        .is_ok()
    {
        taken += 1;
        assert!(outbox.encoded() <= HIGH + 57);
        assert!(outbox.held() <= MAX);
    }
    assert!(taken > 2);
    assert_eq!(
        outbox.push(publish(QoS::AtLeastOnce, 99), fixture.around()),
        Err(Refusal::NotReading)
    );
    assert_eq!(
        drain(&mut outbox, &fixture, 64).len(),
        usize::from(taken) * 57
    );
}

#[test]
fn an_empty_outbox_holds_no_memory() {
    let fixture = Fixture::new();
    let mut outbox = Outbox::new(None);
    for number in 1..=5 {
        outbox
            .push(publish(QoS::AtLeastOnce, number), fixture.around())
            .unwrap();
    }
    drain(&mut outbox, &fixture, 1000);
    assert!(outbox.waiting.is_none());
    assert_eq!(outbox.held(), 0);
}

#[test]
fn each_packet_that_is_written_is_counted_once() {
    let fixture = Fixture::new();
    let mut outbox = Outbox::new(None);
    let packet_id = PacketId::FIRST;
    let result = Ok(Routed::Matched);
    let ack = Outbound::PubAck { packet_id, result };
    for number in 1..=5 {
        outbox
            .push(publish(QoS::AtLeastOnce, number), fixture.around())
            .unwrap();
        outbox.push(ack.clone(), fixture.around()).unwrap();
    }
    drain(&mut outbox, &fixture, 7);
    let counted = fixture.counters.observe();
    assert_eq!(counted.get(WireCounter::PacketsOut), 10);
    assert_eq!(counted.get(WireCounter::PublishesOut), 5);
}
