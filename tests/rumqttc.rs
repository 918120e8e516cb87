//! rumqttc, versions 3.1.1 and 5.0, against the real program: a kept session, QoS 1 and 2, the connection cut, the broker killed with -9.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::harness::{Broker, PATIENCE};

#[expect(
    dead_code,
    clippy::print_stdout,
    reason = "shared with tests/broker, which uses all of it"
)]
#[path = "broker/harness.rs"]
mod harness;

const MESSAGES: u32 = 200;
const AGAIN: Duration = Duration::from_millis(20);

/// What a client has seen; its thread writes, the test waits.
#[derive(Debug, Default)]
struct Seen {
    connects: u32,
    subscribed: bool,
    acknowledged: u32,
    /// Arrivals by QoS and payload, retransmissions not counted.
    fresh: BTreeMap<(u8, u32), u32>,
    /// The same with retransmissions.
    all: BTreeMap<(u8, u32), u32>,
}

impl Seen {
    fn arrived(&mut self, qos: u8, payload: &[u8], duplicate: bool) {
        let number = std::str::from_utf8(payload).unwrap().parse().unwrap();
        *self.all.entry((qos, number)).or_default() += 1;
        if !duplicate {
            *self.fresh.entry((qos, number)).or_default() += 1;
        }
    }

    fn complete(&self, qos: u8) -> bool {
        (0..MESSAGES).all(|number| self.all.contains_key(&(qos, number)))
    }

    fn assert_once(&self) {
        let twice = self.fresh.iter().filter(|(_, count)| **count > 1);
        let twice: Vec<_> = twice.collect();
        assert!(twice.is_empty(), "twice and not marked as such: {twice:?}");
    }
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<(Mutex<Seen>, Condvar)>);

impl Shared {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn wait(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let seen = self.0.0.lock().unwrap();
        let (seen, _) = self
            .0
            .1
            .wait_timeout_while(seen, PATIENCE, |seen| !holds(seen))
            .unwrap();
        assert!(holds(&seen), "never: {what}: {seen:?}");
    }
}

/// The same client for both versions: rumqttc has two sets of equally named types.
macro_rules! client {
    ($name:ident, $rumqttc:path, $configure:expr, $qos:path) => {
        mod $name {
            use std::ops::Range;
            use std::thread;

            use $qos as QoS;
            use $rumqttc as mqtt;

            use super::{AGAIN, Shared};
            use crate::harness::Broker;

            pub(super) struct Client {
                client: mqtt::Client,
                pub(super) seen: Shared,
            }

            impl Client {
                /// Connects and keeps coming back, as rumqttc does while it is polled.
                pub(super) fn connect(broker: &Broker, id: &str) -> Self {
                    let address = broker.address();
                    let mut options =
                        mqtt::MqttOptions::new(id, address.ip().to_string(), address.port());
                    let configure: fn(&mut mqtt::MqttOptions) = $configure;
                    configure(&mut options);
                    let (client, mut connection) = mqtt::Client::new(options, 1000);
                    let seen = Shared::default();
                    let noted = seen.clone();
                    thread::spawn(move || {
                        for event in connection.iter() {
                            match event {
                                Ok(mqtt::Event::Incoming(packet)) => note(&noted, &packet),
                                Ok(mqtt::Event::Outgoing(rumqttc::Outgoing::Disconnect)) => break,
                                Ok(mqtt::Event::Outgoing(_)) => {}
                                Err(_) => thread::park_timeout(AGAIN),
                            }
                        }
                    });
                    seen.wait("connected", |seen| seen.connects > 0);
                    Self { client, seen }
                }

                pub(super) fn subscribe(&self) {
                    self.client.subscribe("t", QoS::ExactlyOnce).unwrap();
                    self.seen.wait("subscribed", |seen| seen.subscribed);
                }

                pub(super) fn publish(&self, qos: u8, numbers: Range<u32>) {
                    let qos = if qos == 1 {
                        QoS::AtLeastOnce
                    } else {
                        QoS::ExactlyOnce
                    };
                    for number in numbers {
                        let payload = number.to_string();
                        self.client.publish("t", qos, false, payload).unwrap();
                    }
                }

                pub(super) fn leave(&self) {
                    self.client.disconnect().unwrap();
                }
            }

            fn note(seen: &Shared, packet: &mqtt::Incoming) {
                seen.note(|seen| match packet {
                    mqtt::Incoming::ConnAck(_) => seen.connects += 1,
                    mqtt::Incoming::SubAck(_) => seen.subscribed = true,
                    mqtt::Incoming::PubAck(_) | mqtt::Incoming::PubComp(_) => {
                        seen.acknowledged += 1
                    }
                    mqtt::Incoming::Publish(publish) => {
                        seen.arrived(publish.qos as u8, &publish.payload, publish.dup);
                    }
                    _ => {}
                });
            }
        }
    };
}

client!(
    v4,
    rumqttc,
    |options| {
        options.set_clean_session(false);
    },
    rumqttc::QoS
);
client!(
    v5,
    rumqttc::v5,
    |options| {
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(3600));
    },
    rumqttc::v5::mqttbytes::QoS
);

/// Cuts the reader's connection: for a moment another one, of 3.1.1, takes its session over.
fn cut(broker: &Broker) {
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream
        .write_all(b"\x10\x12\0\x04MQTT\x04\0\0\0\0\x06reader")
        .unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 1, 0], "CONNACK, session present");
}

macro_rules! scenario {
    ($name:ident, $version:ident) => {
        #[test]
        fn $name() {
            let mut broker = Broker::start();
            let reader = $version::Client::connect(&broker, "reader");
            reader.subscribe();
            reader.leave();

            let writer = $version::Client::connect(&broker, "writer");
            writer.publish(1, 0..MESSAGES / 2);
            writer.seen.wait("half of QoS 1 is acknowledged", |seen| {
                seen.acknowledged == MESSAGES / 2
            });
            broker.crash();
            writer
                .seen
                .wait("the writer is back", |seen| seen.connects == 2);
            writer.publish(1, MESSAGES / 2..MESSAGES);
            writer.seen.wait("QoS 1 is acknowledged", |seen| {
                seen.acknowledged == MESSAGES
            });
            let reader = $version::Client::connect(&broker, "reader");
            reader.seen.wait("some arrive", |seen| seen.all.len() > 20);
            cut(&broker);
            reader
                .seen
                .wait("the reader is back", |seen| seen.connects > 1);
            broker.crash();
            reader.seen.wait("QoS 1 arrives", |seen| seen.complete(1));
            reader.leave();

            // rumqttc 0.25 forgets the QoS 2 messages it received when its connection breaks, and then takes their PUBREL
            // for an error each time it comes back. So its connection is not broken while it receives QoS 2.
            writer
                .seen
                .wait("the writer is back", |seen| seen.connects == 3);
            writer.publish(2, 0..MESSAGES);
            writer.seen.wait("QoS 2 is acknowledged", |seen| {
                seen.acknowledged == 2 * MESSAGES
            });
            broker.crash();
            let reader = $version::Client::connect(&broker, "reader");
            reader.seen.wait("QoS 2 arrives", |seen| seen.complete(2));
            reader.seen.note(|seen| seen.assert_once());
            reader.leave();
            writer.leave();
        }
    };
}

scenario!(
    rumqttc_3_1_1_misses_nothing_across_crashes_of_the_broker,
    v4
);
scenario!(rumqttc_5_0_misses_nothing_across_crashes_of_the_broker, v5);
