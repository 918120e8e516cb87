//! A client behind a bad network: its whole conversation, cut and split at every byte, in both directions.
//!
//! The client does what the protocol asks of it: it keeps its side of the session, comes back after each cut, and sends
//! again what was not acknowledged. Then, wherever the cut was: what was acknowledged is not lost, QoS 1 came at least
//! once, QoS 2 exactly once, to itself and to a session that slept meanwhile.

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::client::Client;
use crate::harness::{Broker, PATIENCE};
use crate::proxy::{Fault, Proxy, Way};
use crate::wire::{self, Ack, Connect, Packet, Properties, Publish, Version};

/// Conversations at a time.
const ABREAST: usize = 8;

/// How far a publication of the client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    New,
    Sent,
    /// QoS 2: PUBREC came.
    Received,
    Done,
}

/// A client with its side of a kept session, which outlives its connections.
struct Device<'a> {
    version: Version,
    name: String,
    proxy: &'a Proxy,
    /// The connection of the moment.
    stream: Option<TcpStream>,
    arrived: VecDeque<u8>,
    /// The broker said something that only a session can mean: from now on it must be there.
    known: bool,
    subscribed: bool,
    unsubscribed: bool,
    steps: [Step; 3],
    /// QoS 2 identifiers not yet released.
    received: BTreeSet<u16>,
    /// Messages by QoS, as an application would have seen them.
    seen: [usize; 3],
    connections: usize,
}

const SUBSCRIBE_ID: u16 = 10;
const UNSUBSCRIBE_ID: u16 = 11;

impl<'a> Device<'a> {
    fn new(version: Version, name: &str, proxy: &'a Proxy) -> Self {
        Self {
            version,
            name: name.to_owned(),
            proxy,
            stream: None,
            arrived: VecDeque::new(),
            known: false,
            subscribed: false,
            unsubscribed: false,
            steps: [Step::New; 3],
            received: BTreeSet::new(),
            seen: [0; 3],
            connections: 0,
        }
    }

    fn topic(&self) -> String {
        format!("to/{}", self.name)
    }

    /// The whole conversation, over as many connections as it takes.
    fn run(&mut self) {
        while !self.try_run() {
            assert!(self.connections < 5, "{}: never done", self.name);
        }
    }

    /// On one connection; false if it broke.
    fn try_run(&mut self) -> bool {
        self.connect()
            && self.until(|device| device.subscribed)
            && self.publish()
            && self.until(|device| device.steps == [Step::Done; 3] && device.has_all())
            && self.leave()
    }

    fn has_all(&self) -> bool {
        self.seen[1] > 0 && self.seen[2] > 0 && self.received.is_empty()
    }

    fn connect(&mut self) -> bool {
        self.connections += 1;
        self.arrived.clear();
        let stream = TcpStream::connect(self.proxy.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.stream = Some(stream);
        if !self.send(&Connect::kept(self.version, &self.name).encode()) {
            return false;
        }
        let Some(packet) = self.read() else {
            return false;
        };
        let Packet::Connack { present, code, .. } = packet else {
            panic!("{}: {packet:?} instead of CONNACK", self.name);
        };
        if code != 0 {
            // The CONNECT of the connection that was cut came late, and took this one's place.
            assert!(matches!(code, 3 | 0x88), "{}: {code:#04x}", self.name);
            assert!(self.connections > 1, "{}", self.name);
            return false;
        }
        // MQTT 3.1 cannot say it.
        let says = self.version != Version::V31;
        assert!(
            present || !self.known || !says,
            "{}: the session is lost",
            self.name
        );
        self.known = true;
        if !self.subscribed {
            let topic = self.topic();
            return self.send(&wire::subscribe(self.version, SUBSCRIBE_ID, &topic, 2));
        }
        // [MQTT-4.4.0-1]: again, what was not acknowledged.
        (1..=2_u8).all(|qos| match self.steps[usize::from(qos)] {
            Step::Sent => self.send_message(qos, true),
            Step::Received => self.send(&wire::ack(Ack::Pubrel, u16::from(qos))),
            Step::New | Step::Done => true,
        })
    }

    fn publish(&mut self) -> bool {
        (0..=2_u8).all(|qos| {
            let step = &mut self.steps[usize::from(qos)];
            if *step != Step::New {
                return true;
            }
            // It may have left even if the connection breaks.
            *step = if qos == 0 { Step::Done } else { Step::Sent };
            self.send_message(qos, false)
        })
    }

    fn send_message(&mut self, qos: u8, duplicate: bool) -> bool {
        let message = Publish {
            topic: self.topic(),
            payload: vec![b'0' + qos],
            qos,
            retain: false,
            duplicate,
            id: u16::from(qos),
            properties: Properties::default(),
        };
        self.send(&wire::publish(self.version, &message))
    }

    fn leave(&mut self) -> bool {
        if !self.unsubscribed {
            let topic = self.topic();
            let bytes = wire::unsubscribe(self.version, UNSUBSCRIBE_ID, &topic);
            if !self.send(&bytes) || !self.until(|device| device.unsubscribed) {
                return false;
            }
        }
        // Whether the goodbye arrives makes no difference.
        self.send(&wire::disconnect(self.version, 0, None));
        while self.read().is_some() {}
        true
    }

    /// Reads and answers until it is so; false if the connection broke.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        while !done(self) {
            let Some(packet) = self.read() else {
                return false;
            };
            if !self.answer(&packet) {
                return false;
            }
        }
        true
    }

    fn answer(&mut self, packet: &Packet) -> bool {
        match packet {
            Packet::Suback { codes, .. } => {
                assert_eq!(codes, &[2], "{}", self.name);
                self.subscribed = true;
            }
            Packet::Unsuback { .. } => self.unsubscribed = true,
            Packet::Publish(message) => return self.take(message),
            Packet::Ack { kind, id, .. } => return self.acknowledged(*kind, *id),
            // The CONNECT of the connection that was cut came late, and took the session over.
            Packet::Disconnect { code: 0x8E, .. } if self.connections > 1 => return false,
            other => panic!("{}: {other:?}", self.name),
        }
        true
    }

    fn take(&mut self, message: &Publish) -> bool {
        let what = usize::from(message.payload[0] - b'0');
        assert_eq!(what, usize::from(message.qos), "{}", self.name);
        match message.qos {
            0 => self.seen[0] += 1,
            1 => {
                self.seen[1] += 1;
                return self.send(&wire::ack(Ack::Puback, message.id));
            }
            _ => {
                if self.received.insert(message.id) {
                    self.seen[2] += 1;
                }
                return self.send(&wire::ack(Ack::Pubrec, message.id));
            }
        }
        true
    }

    fn acknowledged(&mut self, kind: Ack, id: u16) -> bool {
        let step = &mut self.steps[usize::from(id).min(2)];
        match kind {
            Ack::Puback => *step = Step::Done,
            Ack::Pubrec => {
                *step = Step::Received;
                return self.send(&wire::ack(Ack::Pubrel, id));
            }
            Ack::Pubcomp => *step = Step::Done,
            Ack::Pubrel => {
                self.received.remove(&id);
                return self.send(&wire::ack(Ack::Pubcomp, id));
            }
        }
        true
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        let stream = self.stream.as_mut().expect("connected");
        stream.write_all(bytes).is_ok()
    }

    /// The next packet; `None` if the connection is over.
    fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = wire::take(self.version, &mut self.arrived) {
                return Some(packet);
            }
            let stream = self.stream.as_mut().expect("connected");
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.arrived.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("{}: nothing arrived", self.name)
                }
                Err(_) => return None,
            }
        }
    }
}

/// One conversation with one fault; gives how many bytes its first connection carried up and down.
fn converse(broker: &Broker, version: Version, name: &str, fault: Fault) -> (usize, usize) {
    // It sleeps through all of it.
    let sleeper = format!("s{name}");
    let mut witness = Client::kept(broker, version, &sleeper);
    witness.subscribe(&format!("to/{name}"), 2);
    witness.disconnect();
    let proxy = Proxy::start(broker.address(), fault);
    let mut device = Device::new(version, name, &proxy);
    device.run();
    let what = format!("{version:?} {fault:?}, {} connections", device.connections);
    let broken = matches!(fault, Fault::Cut(..));
    assert!(broken || device.connections == 1, "{what}");
    assert!(
        device.seen[0] <= 1,
        "QoS 0 came {} times: {what}",
        device.seen[0]
    );
    assert_eq!(device.seen[2], 1, "QoS 2 is exactly once: {what}");
    assert!(broken || device.seen == [1; 3], "{:?}: {what}", device.seen);

    let mut witness = Client::kept(broker, version, &sleeper);
    witness.publish(&format!("to/{name}"), "end", 1);
    let mut counts = [0; 3];
    loop {
        let message = witness.message();
        witness.acknowledge(&message);
        match message.text() {
            "end" => break,
            text => counts[text.parse::<usize>().unwrap()] += 1,
        }
    }
    assert_eq!(counts[0], 0, "{what}");
    assert!(counts[1] >= 1, "QoS 1 is at least once: {what}");
    assert!(broken || counts[1] == 1, "QoS 1 came twice: {what}");
    assert_eq!(counts[2], 1, "QoS 2 is exactly once: {what}");
    witness.disconnect();
    (proxy.passed(Way::Up), proxy.passed(Way::Down))
}

/// All faults, several at a time.
fn every(version: Version, faults: impl Fn(usize, usize) -> Vec<Fault>) {
    // What is at stake is the network, not the disk.
    let broker = Broker::start_with(&["log.durability=never"]);
    let (up, down) = converse(&broker, version, "whole", Fault::None);
    assert!(up > 100 && down > 60, "{up} up, {down} down");
    let faults = faults(up, down);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(fault) = faults.get(at) else {
                        return;
                    };
                    converse(&broker, version, &format!("d{at}"), *fault);
                }
            });
        }
    });
}

fn cuts(up: usize, down: usize) -> Vec<Fault> {
    let up = (0..=up).map(|at| Fault::Cut(Way::Up, at));
    up.chain((0..=down).map(|at| Fault::Cut(Way::Down, at)))
        .collect()
}

fn splits(up: usize, down: usize) -> Vec<Fault> {
    let up = (1..up).map(|at| Fault::Split(Way::Up, at));
    up.chain((1..down).map(|at| Fault::Split(Way::Down, at)))
        .chain([Fault::Drip])
        .collect()
}

#[test]
fn a_conversation_of_3_1_survives_a_cut_at_every_byte() {
    every(Version::V31, cuts);
}

#[test]
fn a_conversation_of_3_1_1_survives_a_cut_at_every_byte() {
    every(Version::V311, cuts);
}

#[test]
fn a_conversation_of_5_0_survives_a_cut_at_every_byte() {
    every(Version::V5, cuts);
}

#[test]
fn a_conversation_does_not_notice_where_its_bytes_are_split() {
    for version in [Version::V311, Version::V5] {
        every(version, splits);
    }
}
