//! MQTT 3.1, 3.1.1 and 5.0 for a test client: written for the tests alone, so that a fault of the broker's codec cannot hide in its own mirror image.

use std::collections::VecDeque;

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];

    fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// Property identifiers of 5.0 that the tests use.
pub(crate) mod property {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u32),
    Bytes(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
}

/// The properties of a packet, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties(pub(crate) Vec<(u8, Value)>);

impl Properties {
    /// All values of a property that is a number.
    pub(crate) fn numbers(&self, id: u8) -> Vec<u32> {
        let found = self.0.iter().filter(|(found, _)| *found == id);
        found
            .filter_map(|(_, value)| match value {
                Value::Number(number) => Some(*number),
                _ => None,
            })
            .collect()
    }

    /// On the wire, without the length before them.
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (id, value) in &self.0 {
            body.push(*id);
            match (width(*id), value) {
                (Some(0), Value::Number(number)) => body.extend(variable(*number as usize)),
                (Some(bytes), Value::Number(number)) => {
                    body.extend(&number.to_be_bytes()[4 - bytes..]);
                }
                (None, Value::Bytes(bytes)) => body.extend(counted(bytes)),
                (None, Value::Pair(key, value)) => {
                    body.extend(counted(key));
                    body.extend(counted(value));
                }
                _ => panic!("{id:#04x} does not hold {value:?}"),
            }
        }
        body
    }

    /// The number that a property has.
    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Number(number) if *found == id => Some(*number),
            _ => None,
        })
    }

    /// The text that a property has.
    pub(crate) fn text(&self, id: u8) -> Option<&str> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Bytes(bytes) if *found == id => std::str::from_utf8(bytes).ok(),
            _ => None,
        })
    }
}

/// The bytes of a property that is a number; 0 for a variable byte integer.
fn width(id: u8) -> Option<usize> {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Some(1),
        0x13 | 0x21 | 0x22 | 0x23 => Some(2),
        0x02 | 0x11 | 0x18 | 0x27 => Some(4),
        0x0B => Some(0),
        _ => None,
    }
}

/// A message as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) duplicate: bool,
    pub(crate) id: u16,
    /// Of 5.0.
    pub(crate) properties: Properties,
}

impl Publish {
    /// The payload as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("tests send text")
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connack {
        present: bool,
        code: u8,
        properties: Properties,
    },
    Publish(Publish),
    Ack {
        kind: Ack,
        id: u16,
        code: u8,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
    },
    Pingresp,
    Auth {
        code: u8,
        properties: Properties,
    },
    Disconnect {
        code: u8,
        properties: Properties,
    },
}

// === writing

/// A whole packet.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(variable(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// A variable byte integer.
pub(crate) fn variable(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7F).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// Bytes with their length before them.
pub(crate) fn counted(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Properties that are four-byte numbers, and further ones, with their length before them.
fn block(numbers: &[(u8, u32)], further: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (id, number) in numbers {
        body.push(*id);
        body.extend(number.to_be_bytes());
    }
    body.extend_from_slice(further);
    let mut out = variable(body.len());
    out.extend(body);
    out
}

/// A will.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) delay_seconds: u32,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Further will properties, encoded.
    pub(crate) properties: Vec<u8>,
}

/// What a CONNECT says.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean: bool,
    /// The bit in the level by which 3.x bridges say what they are.
    pub(crate) bridge: bool,
    pub(crate) expiry_seconds: Option<u32>,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) will: Option<Will>,
    /// Further ones of 5.0.
    pub(crate) properties: Properties,
    /// More of them, encoded, whatever they are.
    pub(crate) raw_properties: Vec<u8>,
}

impl Connect {
    /// A clean start, nothing kept, no keep-alive.
    pub(crate) fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            clean: true,
            bridge: false,
            expiry_seconds: None,
            keep_alive_seconds: 0,
            will: None,
            properties: Properties::default(),
            raw_properties: Vec::new(),
        }
    }

    /// A session that is resumed and outlives the connection, said as the version says it.
    pub(crate) fn kept(version: Version, client_id: &str) -> Self {
        let connect = Self::new(version, client_id).clean(false);
        match version {
            Version::V31 | Version::V311 => connect,
            Version::V5 => connect.expiry(3600),
        }
    }

    pub(crate) fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }

    pub(crate) fn bridge(mut self) -> Self {
        self.bridge = true;
        self
    }

    pub(crate) fn expiry(mut self, seconds: u32) -> Self {
        self.expiry_seconds = Some(seconds);
        self
    }

    /// With one more property that is a number.
    pub(crate) fn property(mut self, id: u8, number: u32) -> Self {
        self.properties.0.push((id, Value::Number(number)));
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_seconds = seconds;
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str, delay_seconds: u32) -> Self {
        self.will = Some(Will {
            topic: topic.to_owned(),
            payload: payload.to_owned(),
            delay_seconds,
            qos: 1,
            retain: false,
            properties: Vec::new(),
        });
        self
    }

    /// The will of `will`, changed.
    pub(crate) fn with_will(mut self, change: impl FnOnce(&mut Will)) -> Self {
        change(self.will.as_mut().expect("there is a will"));
        self
    }

    /// Adds properties of 5.0, encoded.
    pub(crate) fn raw_properties(mut self, encoded: &[u8]) -> Self {
        self.raw_properties.extend_from_slice(encoded);
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let name: &[u8] = match self.version {
            Version::V31 => b"MQIsdp",
            Version::V311 | Version::V5 => b"MQTT",
        };
        let will_flags = self
            .will
            .as_ref()
            .map_or(0, |will| 0b100 | will.qos << 3 | u8::from(will.retain) << 5);
        let mut body = counted(name);
        body.push(self.version.level() | u8::from(self.bridge) << 7);
        body.push(u8::from(self.clean) << 1 | will_flags);
        body.extend(self.keep_alive_seconds.to_be_bytes());
        if self.version == Version::V5 {
            let mut properties = self.properties.clone();
            if let Some(seconds) = self.expiry_seconds {
                let expiry = (property::SESSION_EXPIRY, Value::Number(seconds));
                properties.0.push(expiry);
            }
            let mut block = properties.encode();
            block.extend_from_slice(&self.raw_properties);
            body.extend(variable(block.len()));
            body.extend(block);
        }
        body.extend(counted(self.client_id.as_bytes()));
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                let delay = [(property::WILL_DELAY, will.delay_seconds)];
                body.extend(block(&delay, &will.properties));
            }
            body.extend(counted(will.topic.as_bytes()));
            body.extend(counted(will.payload.as_bytes()));
        }
        packet(0x10, &body)
    }
}

/// PUBLISH.
pub(crate) fn publish(version: Version, message: &Publish) -> Vec<u8> {
    let mut body = counted(message.topic.as_bytes());
    if message.qos > 0 {
        body.extend(message.id.to_be_bytes());
    }
    if version == Version::V5 {
        let block = message.properties.encode();
        body.extend(variable(block.len()));
        body.extend(block);
    }
    body.extend_from_slice(&message.payload);
    let flags = u8::from(message.duplicate) << 3 | message.qos << 1 | u8::from(message.retain);
    packet(0x30 | flags, &body)
}

/// One of the four acknowledgements, with success.
pub(crate) fn ack(kind: Ack, id: u16) -> Vec<u8> {
    let first = match kind {
        Ack::Puback => 0x40,
        Ack::Pubrec => 0x50,
        Ack::Pubrel => 0x62,
        Ack::Pubcomp => 0x70,
    };
    packet(first, &id.to_be_bytes())
}

/// SUBSCRIBE to one filter.
pub(crate) fn subscribe(version: Version, id: u16, filter: &str, options: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(counted(filter.as_bytes()));
    body.push(options);
    packet(0x82, &body)
}

/// SUBSCRIBE of 5.0 to one filter under a subscription identifier.
pub(crate) fn subscribe_as(id: u16, filter: &str, options: u8, subscription: usize) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    let mut block = vec![property::SUBSCRIPTION_ID];
    block.extend(variable(subscription));
    body.extend(variable(block.len()));
    body.extend(block);
    body.extend(counted(filter.as_bytes()));
    body.push(options);
    packet(0x82, &body)
}

/// Authentication method and data, as properties.
pub(crate) fn authentication(method: &str, data: &[u8]) -> Vec<u8> {
    let mut encoded = vec![0x15];
    encoded.extend(counted(method.as_bytes()));
    encoded.push(0x16);
    encoded.extend(counted(data));
    encoded
}

/// AUTH.
pub(crate) fn auth(code: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![code];
    body.extend(block(&[], &authentication(method, data)));
    packet(0xF0, &body)
}

/// UNSUBSCRIBE from one filter.
pub(crate) fn unsubscribe(version: Version, id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(counted(filter.as_bytes()));
    packet(0xA2, &body)
}

/// DISCONNECT; reason and session expiry are of 5.0 only.
pub(crate) fn disconnect(version: Version, reason: u8, expiry_seconds: Option<u32>) -> Vec<u8> {
    if version != Version::V5 || (reason == 0 && expiry_seconds.is_none()) {
        return packet(0xE0, &[]);
    }
    let expiry = expiry_seconds.map(|secs| (property::SESSION_EXPIRY, secs));
    let mut body = vec![reason];
    body.extend(block(&Vec::from_iter(expiry), &[]));
    packet(0xE0, &body)
}

// === reading

/// Takes the first packet off the front, if it is complete.
pub(crate) fn take(version: Version, bytes: &mut VecDeque<u8>) -> Option<Packet> {
    let mut length = 0;
    let mut header = 1;
    loop {
        let byte = *bytes.get(header)?;
        length |= usize::from(byte & 0x7F) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
        assert!(header < 5, "the broker sent a length of more than 4 bytes");
    }
    if bytes.len() < header + length {
        return None;
    }
    let whole: Vec<u8> = bytes.drain(..header + length).collect();
    let mut body = Body(&whole[header..]);
    let packet = body.packet(version, whole[0]);
    assert!(body.0.is_empty(), "bytes left over in {whole:02x?}");
    Some(packet)
}

struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn packet(&mut self, version: Version, first: u8) -> Packet {
        let v5 = version == Version::V5;
        match (first >> 4, first & 15) {
            (2, 0) => Packet::Connack {
                present: self.byte() == 1,
                code: self.byte(),
                properties: self.properties(v5),
            },
            (3, flags) => Packet::Publish(self.publish(v5, flags)),
            (4, 0) => self.ack(Ack::Puback, v5),
            (5, 0) => self.ack(Ack::Pubrec, v5),
            (6, 2) => self.ack(Ack::Pubrel, v5),
            (7, 0) => self.ack(Ack::Pubcomp, v5),
            (9, 0) => {
                let id = self.word();
                self.properties(v5);
                Packet::Suback {
                    id,
                    codes: self.rest(),
                }
            }
            (11, 0) => {
                let id = self.word();
                self.properties(v5);
                let codes = self.rest();
                Packet::Unsuback { id, codes }
            }
            (13, 0) => Packet::Pingresp,
            (15, 0) if v5 => Packet::Auth {
                code: self.byte(),
                properties: self.properties(true),
            },
            (14, 0) if v5 => {
                let code = if self.0.is_empty() { 0 } else { self.byte() };
                let properties = self.properties(!self.0.is_empty());
                Packet::Disconnect { code, properties }
            }
            _ => panic!("the broker sent a packet that begins with {first:#04x}"),
        }
    }

    fn publish(&mut self, v5: bool, flags: u8) -> Publish {
        let topic = String::from_utf8(self.counted()).expect("topics are UTF-8");
        let qos = (flags >> 1) & 3;
        let id = if qos > 0 { self.word() } else { 0 };
        let properties = self.properties(v5);
        Publish {
            topic,
            payload: self.rest(),
            qos,
            retain: flags & 1 != 0,
            duplicate: flags & 8 != 0,
            id,
            properties,
        }
    }

    fn ack(&mut self, kind: Ack, v5: bool) -> Packet {
        let id = self.word();
        let code = if self.0.is_empty() { 0 } else { self.byte() };
        self.properties(v5 && !self.0.is_empty());
        Packet::Ack { kind, id, code }
    }

    fn properties(&mut self, there: bool) -> Properties {
        let mut properties = Properties::default();
        if !there {
            return properties;
        }
        let length = self.variable();
        let mut body = Body(self.slice(length as usize));
        while !body.0.is_empty() {
            let id = body.byte();
            let value = match width(id) {
                Some(0) => Value::Number(body.variable()),
                Some(bytes) => {
                    let bytes = body.slice(bytes).iter();
                    Value::Number(bytes.fold(0, |number, byte| number << 8 | u32::from(*byte)))
                }
                None if id == property::USER_PROPERTY => {
                    Value::Pair(body.counted(), body.counted())
                }
                None => Value::Bytes(body.counted()),
            };
            properties.0.push((id, value));
        }
        properties
    }

    fn variable(&mut self) -> u32 {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte();
            number |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn slice(&mut self, count: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(count);
        self.0 = rest;
        first
    }

    fn byte(&mut self) -> u8 {
        self.slice(1)[0]
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.slice(2).try_into().unwrap())
    }

    fn counted(&mut self) -> Vec<u8> {
        let count = self.word();
        self.slice(count.into()).to_vec()
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}
