//! A blocking MQTT client of three versions that does nothing by itself: no reconnect, no acknowledgement that the test did not ask for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::harness::{Broker, PATIENCE};
use crate::wire::{self, Ack, Connect, Packet, Properties, Publish, Version, property};

/// What the broker answered to CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Connack {
    pub(crate) present: bool,
    pub(crate) code: u8,
    pub(crate) properties: Properties,
}

impl Connack {
    /// The session expiry interval that the broker put in force, if it said one.
    pub(crate) fn expiry(&self) -> Option<u32> {
        self.properties.number(property::SESSION_EXPIRY)
    }
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    version: Version,
    name: String,
    arrived: VecDeque<u8>,
    /// Packets that arrived while another one was waited for.
    aside: VecDeque<Packet>,
    next_id: u16,
    pub(crate) connack: Connack,
}

impl Client {
    /// Connects; the broker must accept.
    pub(crate) fn connect(broker: &Broker, connect: &Connect) -> Self {
        let client = Self::try_connect(broker, connect);
        assert_eq!(client.connack.code, 0, "CONNECT of {} refused", client.name);
        client
    }

    /// Connects a client that cleans up after itself.
    pub(crate) fn transient(broker: &Broker, version: Version, client_id: &str) -> Self {
        Self::connect(broker, &Connect::new(version, client_id))
    }

    /// Connects a client whose session is kept.
    pub(crate) fn kept(broker: &Broker, version: Version, client_id: &str) -> Self {
        Self::connect(broker, &Connect::kept(version, client_id))
    }

    /// Connects; the answer is in `connack`.
    pub(crate) fn try_connect(broker: &Broker, connect: &Connect) -> Self {
        Self::try_connect_to(broker.address(), connect)
    }

    /// Connects to one of several listeners; the answer is in `connack`.
    pub(crate) fn try_connect_to(address: SocketAddr, connect: &Connect) -> Self {
        let mut client = Self::open(address, connect.version, &connect.client_id);
        client.send(&connect.encode());
        let Packet::Connack {
            present,
            code,
            properties,
        } = client.receive()
        else {
            panic!("{}: the first packet is no CONNACK", client.name);
        };
        client.connack = Connack {
            present,
            code,
            properties,
        };
        client
    }

    /// Opens a socket and sends `bytes`, whatever they are; answers are read as those of `version`.
    pub(crate) fn raw(broker: &Broker, version: Version, bytes: &[u8]) -> Self {
        let mut client = Self::open(broker.address(), version, "raw");
        client.send(bytes);
        client
    }

    fn open(address: SocketAddr, version: Version, client_id: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            version,
            name: format!("{client_id} ({version:?})"),
            arrived: VecDeque::new(),
            aside: VecDeque::new(),
            next_id: 1,
            connack: Connack {
                present: false,
                code: 0xFF,
                properties: Properties::default(),
            },
        }
    }

    // === packets

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let sent = self.stream.write_all(bytes);
        assert!(sent.is_ok(), "{}: cannot send: {sent:?}", self.name);
    }

    /// The next packet.
    pub(crate) fn receive(&mut self) -> Packet {
        match self.aside.pop_front() {
            Some(packet) => packet,
            None => self
                .read()
                .unwrap_or_else(|| panic!("{}: closed", self.name)),
        }
    }

    /// The next packet on the wire; `None` at the end.
    fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = wire::take(self.version, &mut self.arrived) {
                return Some(packet);
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.arrived.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                // Whoever stopped this process lets it go on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{}: nothing arrived: {error}", self.name),
            }
        }
    }

    /// The first packet that fits; what comes before it is kept for later.
    fn wait_for<T>(&mut self, what: &str, mut fits: impl FnMut(&Packet) -> Option<T>) -> T {
        if let Some((at, found)) = self
            .aside
            .iter()
            .enumerate()
            .find_map(|(at, packet)| Some((at, fits(packet)?)))
        {
            self.aside.remove(at);
            return found;
        }
        loop {
            let Some(packet) = self.read() else {
                panic!("{}: closed while waiting for {what}", self.name);
            };
            match fits(&packet) {
                Some(found) => return found,
                None => self.aside.push_back(packet),
            }
        }
    }

    /// Reads until the broker closes the connection; each message is shown.
    pub(crate) fn drain(&mut self, mut message: impl FnMut(&Publish)) {
        while let Some(packet) = self.read() {
            if let Packet::Publish(arrived) = &packet {
                message(arrived);
            }
        }
    }

    /// What else the broker has sent on its own: all that comes before the answer to a ping.
    pub(crate) fn rest_of_the_window(&mut self) -> Vec<Packet> {
        self.send(&wire::packet(0xC0, &[]));
        let mut packets: Vec<_> = self.aside.drain(..).collect();
        while let Some(packet) = self.read().filter(|packet| *packet != Packet::Pingresp) {
            packets.push(packet);
        }
        packets
    }

    /// The broker closes the connection; the reason it gave (5.0), messages before it are skipped.
    pub(crate) fn closed(&mut self) -> Option<u8> {
        self.goodbye().map(|(code, _)| code)
    }

    /// As `closed`, with the properties of the DISCONNECT.
    pub(crate) fn goodbye(&mut self) -> Option<(u8, Properties)> {
        let mut goodbye = None;
        self.aside.clear();
        while let Some(packet) = self.read() {
            assert_eq!(goodbye, None, "{}: a packet behind DISCONNECT", self.name);
            if let Packet::Disconnect { code, properties } = packet {
                goodbye = Some((code, properties));
            }
        }
        goodbye
    }

    /// The broker closes the connection without a word.
    pub(crate) fn assert_closed_silently(&mut self) {
        let said = self.aside.pop_front().or_else(|| self.read());
        assert_eq!(said, None, "{}", self.name);
    }

    /// Nothing but what was read so far has been sent to this client: the answer to a ping comes next.
    pub(crate) fn assert_nothing_waits(&mut self) {
        self.send(&wire::packet(0xC0, &[]));
        let next = self.receive();
        assert_eq!(next, Packet::Pingresp, "{}", self.name);
    }

    // === subscriptions

    /// Subscribes; the code that SUBACK has for it.
    pub(crate) fn try_subscribe(&mut self, filter: &str, options: u8) -> u8 {
        let id = self.fresh_id();
        self.send(&wire::subscribe(self.version, id, filter, options));
        let codes = self.wait_for("SUBACK", |packet| match packet {
            Packet::Suback { id: found, codes } if *found == id => Some(codes.clone()),
            _ => None,
        });
        assert_eq!(codes.len(), 1, "{}", self.name);
        codes[0]
    }

    /// Subscribes; the broker must grant what is asked for.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        let granted = self.try_subscribe(filter, qos);
        assert_eq!(granted, qos, "{}: {filter}", self.name);
    }

    /// Unsubscribes; the codes of UNSUBACK.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&wire::unsubscribe(self.version, id, filter));
        self.wait_for("UNSUBACK", |packet| match packet {
            Packet::Unsuback { id: found, codes } if *found == id => Some(codes.clone()),
            _ => None,
        })
    }

    /// Subscribes under a subscription identifier (5.0).
    pub(crate) fn subscribe_as(&mut self, filter: &str, options: u8, subscription: usize) {
        let id = self.fresh_id();
        self.send(&wire::subscribe_as(id, filter, options, subscription));
        self.wait_for("SUBACK", |packet| {
            matches!(packet, Packet::Suback { id: found, .. } if *found == id).then_some(())
        });
    }

    // === publishing

    /// Publishes and goes through the whole handshake.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: u8) {
        let id = self.send_publish(topic, payload, qos, false);
        self.finish_publish(id, qos);
    }

    /// Publishes with the retain flag.
    pub(crate) fn publish_retained(&mut self, topic: &str, payload: &str, qos: u8) {
        let id = self.send_publish(topic, payload, qos, true);
        self.finish_publish(id, qos);
    }

    fn finish_publish(&mut self, id: u16, qos: u8) {
        match qos {
            0 => {}
            1 => self.wait_ack(Ack::Puback, id),
            _ => {
                self.wait_ack(Ack::Pubrec, id);
                self.send_ack(Ack::Pubrel, id);
                self.wait_ack(Ack::Pubcomp, id);
            }
        }
    }

    /// Sends a PUBLISH and waits for nothing; its packet id.
    pub(crate) fn send_publish(
        &mut self,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
    ) -> u16 {
        let id = if qos > 0 { self.fresh_id() } else { 0 };
        self.send_message(&Publish {
            topic: topic.to_owned(),
            payload: payload.as_bytes().to_vec(),
            qos,
            retain,
            id,
            ..Publish::default()
        });
        id
    }

    /// Sends a PUBLISH as it is.
    pub(crate) fn send_message(&mut self, message: &Publish) {
        self.send(&wire::publish(self.version, message));
    }

    /// Sends an acknowledgement.
    pub(crate) fn send_ack(&mut self, kind: Ack, id: u16) {
        self.send(&wire::ack(kind, id));
    }

    /// Waits for an acknowledgement of success (or "no subscribers").
    pub(crate) fn wait_ack(&mut self, kind: Ack, id: u16) {
        let code = self.wait_ack_code(kind, id);
        assert!(code < 0x80, "{}: {kind:?} {code:#04x}", self.name);
    }

    /// Waits for an acknowledgement; its code.
    pub(crate) fn wait_ack_code(&mut self, kind: Ack, id: u16) -> u8 {
        self.wait_for(&format!("{kind:?} {id}"), |packet| match packet {
            Packet::Ack {
                kind: found,
                id: of,
                code,
            } if *found == kind && *of == id => Some(*code),
            _ => None,
        })
    }

    // === receiving

    /// The next packet, which must be a message; not acknowledged.
    pub(crate) fn message(&mut self) -> Publish {
        match self.receive() {
            Packet::Publish(message) => message,
            other => panic!("{}: expected a message, got {other:?}", self.name),
        }
    }

    /// Goes through the handshake for a message that arrived.
    pub(crate) fn acknowledge(&mut self, message: &Publish) {
        match message.qos {
            0 => {}
            1 => self.send_ack(Ack::Puback, message.id),
            _ => {
                self.send_ack(Ack::Pubrec, message.id);
                self.wait_ack(Ack::Pubrel, message.id);
                self.send_ack(Ack::Pubcomp, message.id);
            }
        }
    }

    /// The next message, acknowledged; it must have this payload.
    pub(crate) fn expect(&mut self, payload: &str) -> Publish {
        let message = self.message();
        assert_eq!(message.text(), payload, "{}", self.name);
        self.acknowledge(&message);
        message
    }

    /// The next message, acknowledged; it must have one of these payloads.
    pub(crate) fn expect_one_of(&mut self, payloads: &[&str]) -> Publish {
        let message = self.message();
        assert!(
            payloads.contains(&message.text()),
            "{}: {message:?}",
            self.name
        );
        self.acknowledge(&message);
        message
    }

    // === leaving

    /// DISCONNECT, and waits until the broker has seen it.
    pub(crate) fn disconnect(mut self) {
        let bytes = wire::disconnect(self.version, 0, None);
        self.leave(&bytes);
    }

    /// DISCONNECT of 5.0 with a reason or another expiry.
    pub(crate) fn disconnect_with(mut self, reason: u8, expiry_seconds: Option<u32>) {
        let bytes = wire::disconnect(self.version, reason, expiry_seconds);
        self.leave(&bytes);
    }

    fn leave(&mut self, bytes: &[u8]) {
        self.send(bytes);
        self.stream.shutdown(Shutdown::Write).unwrap();
        let reason = self.closed();
        assert_eq!(reason, None, "{}: DISCONNECT answered", self.name);
    }

    /// The connection breaks, without a word; returns when the broker has closed its side.
    pub(crate) fn vanish(mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self.closed();
    }

    fn fresh_id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
