//! MQTT 3.1.1 as a client needs it, by hand: nothing is allocated or copied to read a packet.

/// A packet from the broker; borrows the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Connack {
        present: bool,
        code: u8,
    },
    Publish {
        qos: u8,
        duplicate: bool,
        id: u16,
        payload: &'a [u8],
    },
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    Suback {
        codes: &'a [u8],
    },
    Pingresp,
}

/// What the bytes at hand hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// A packet and its length.
    Packet(Packet<'a>, usize),
    /// Not all of it is here yet.
    Partial,
    /// No packet a client may get.
    Malformed,
}

/// Reads the first packet.
pub(crate) fn read(bytes: &[u8]) -> Read<'_> {
    let Some(&first) = bytes.first() else {
        return Read::Partial;
    };
    let mut length = 0_usize;
    let mut at = 1;
    loop {
        let Some(&byte) = bytes.get(at) else {
            return Read::Partial;
        };
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            return Read::Malformed;
        }
    }
    let Some(body) = bytes.get(at..at + length) else {
        return Read::Partial;
    };
    match body_of(first, body) {
        Some(packet) => Read::Packet(packet, at + length),
        None => Read::Malformed,
    }
}

fn body_of(first: u8, body: &[u8]) -> Option<Packet<'_>> {
    Some(match first >> 4 {
        3 => return publish(first, body),
        2 => Packet::Connack {
            present: *body.first()? & 1 == 1,
            code: *body.get(1)?,
        },
        4 => Packet::Puback(word(body)?),
        5 => Packet::Pubrec(word(body)?),
        6 => Packet::Pubrel(word(body)?),
        7 => Packet::Pubcomp(word(body)?),
        9 => Packet::Suback {
            codes: body.get(2..)?,
        },
        13 => Packet::Pingresp,
        _ => return None,
    })
}

fn publish(first: u8, body: &[u8]) -> Option<Packet<'_>> {
    let qos = (first >> 1) & 3;
    let rest = body.get(2 + usize::from(word(body)?)..)?;
    let (id, payload) = if qos == 0 {
        (0, rest)
    } else {
        (word(rest)?, rest.get(2..)?)
    };
    Some(Packet::Publish {
        qos,
        duplicate: first & 8 != 0,
        id,
        payload,
    })
}

fn word(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
}

/// PUBACK.
pub(crate) const PUBACK: u8 = 0x40;
/// PUBREC.
pub(crate) const PUBREC: u8 = 0x50;
/// PUBREL.
pub(crate) const PUBREL: u8 = 0x62;
/// PUBCOMP.
pub(crate) const PUBCOMP: u8 = 0x70;
/// A whole DISCONNECT.
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Appends one of the four acknowledgements.
pub(crate) fn acknowledge(out: &mut Vec<u8>, kind: u8, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[kind, 2, high, low]);
}

/// Appends a CONNECT without keep-alive limit worth mentioning (18 hours).
pub(crate) fn connect(out: &mut Vec<u8>, client_id: &str, clean: bool) {
    out.push(0x10);
    length(out, 10 + 2 + client_id.len());
    string(out, "MQTT");
    out.extend_from_slice(&[4, u8::from(clean) << 1, 0xFF, 0xFF]);
    string(out, client_id);
}

/// Appends a SUBSCRIBE for some filters.
pub(crate) fn subscribe(out: &mut Vec<u8>, id: u16, qos: u8, filters: &[String]) {
    out.push(0x82);
    length(
        out,
        2 + filters.iter().map(|filter| 3 + filter.len()).sum::<usize>(),
    );
    out.extend_from_slice(&id.to_be_bytes());
    for filter in filters {
        string(out, filter);
        out.push(qos);
    }
}

/// A PUBLISH that is copied and patched for each message.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    topic_at: usize,
    id_at: Option<usize>,
    payload_at: usize,
}

impl Template {
    /// Encodes once.
    pub(crate) fn new(topic: &str, qos: u8, payload_bytes: usize) -> Self {
        let mut bytes = vec![0x30 | qos << 1];
        let id_bytes = if qos == 0 { 0 } else { 2 };
        length(&mut bytes, 2 + topic.len() + id_bytes + payload_bytes);
        let topic_at = bytes.len() + 2;
        string(&mut bytes, topic);
        let id_at = (qos > 0).then_some(bytes.len());
        bytes.resize(bytes.len() + id_bytes, 0);
        let payload_at = bytes.len();
        bytes.resize(payload_at + payload_bytes, b'.');
        Self {
            bytes,
            topic_at,
            id_at,
            payload_at,
        }
    }

    /// The topic, to be patched in place.
    pub(crate) fn topic(&mut self, from: usize, count: usize) -> &mut [u8] {
        let start = self.topic_at + from;
        &mut self.bytes[start..start + count]
    }

    /// Appends the message with this packet id and account.
    pub(crate) fn write(&self, out: &mut Vec<u8>, id: u16, account: Account) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let copy = &mut out[start..];
        if let Some(at) = self.id_at {
            copy[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        account.write(&mut copy[self.payload_at..]);
    }
}

/// What each payload begins with, so that every message can be accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Who sent it.
    pub(crate) publisher: u32,
    /// Which of its messages it is, from 0.
    pub(crate) sequence: u64,
    /// When.
    pub(crate) nanos: u64,
}

impl Account {
    /// Bytes that an account takes.
    pub(crate) const BYTES: usize = 20;

    fn write(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.publisher.to_be_bytes());
        payload[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        payload[12..20].copy_from_slice(&self.nanos.to_be_bytes());
    }

    /// Reads it back.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let account = payload.get(..Self::BYTES)?;
        Some(Self {
            publisher: u32::from_be_bytes(account[..4].try_into().ok()?),
            sequence: u64::from_be_bytes(account[4..12].try_into().ok()?),
            nanos: u64::from_be_bytes(account[12..20].try_into().ok()?),
        })
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = u16::try_from(text.len()).expect("ids and topics made here are short");
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = u8::try_from(length & 0x7F).expect("seven bits");
        length >>= 7;
        if length == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_read_back_as_the_message_that_was_written() {
        let account = Account {
            publisher: 7,
            sequence: 1 << 40,
            nanos: 99,
        };
        let mut out = Vec::new();
        Template::new("a/b", 1, 300).write(&mut out, 513, account);
        let Read::Packet(
            Packet::Publish {
                qos, id, payload, ..
            },
            used,
        ) = read(&out)
        else {
            panic!("not a publish: {out:?}");
        };
        assert_eq!((qos, id, payload.len(), used), (1, 513, 300, out.len()));
        assert_eq!(Account::read(payload), Some(account));
    }

    #[test]
    fn every_prefix_of_a_packet_is_partial() {
        let mut out = Vec::new();
        Template::new("a/b", 2, 200).write(
            &mut out,
            1,
            Account {
                publisher: 0,
                sequence: 0,
                nanos: 0,
            },
        );
        for end in 0..out.len() {
            assert_eq!(read(&out[..end]), Read::Partial, "{end}");
        }
    }

    #[test]
    fn bytes_that_are_no_packet_are_malformed() {
        assert_eq!(read(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Read::Malformed);
        assert_eq!(read(&[0x30, 2, 0, 9]), Read::Malformed);
        assert_eq!(read(&[0xF0, 0]), Read::Malformed);
    }
}
