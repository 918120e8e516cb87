//! Walks the property block of a 5.0 packet without allocating (MQTT 5.0 section 2.2.2).
//!
//! Owns: which property has which type, where one ends, which packet allows which, that none but user properties comes
//! twice, and that text has no U+0000, which the codec lets pass. Does not know: what a property is for.

use outlive_actors::model::refusal::Refusal;

pub(super) const PAYLOAD_FORMAT: u8 = 0x01;
pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
pub(super) const RESPONSE_TOPIC: u8 = 0x08;
pub(super) const SUBSCRIPTION_ID: u8 = 0x0B;
pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const AUTH_METHOD: u8 = 0x15;
pub(super) const AUTH_DATA: u8 = 0x16;
pub(super) const WILL_DELAY: u8 = 0x18;
pub(super) const RESPONSE_INFORMATION: u8 = 0x1A;
pub(super) const SERVER_REFERENCE: u8 = 0x1C;
pub(super) const REASON_STRING: u8 = 0x1F;
pub(super) const RECEIVE_MAX: u8 = 0x21;
pub(super) const TOPIC_ALIAS_MAX: u8 = 0x22;
pub(super) const TOPIC_ALIAS: u8 = 0x23;
pub(super) const USER_PROPERTY: u8 = 0x26;
pub(super) const QOS_MAX: u8 = 0x24;
pub(super) const PACKET_BYTES_MAX: u8 = 0x27;

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Property<'a> {
    /// Its identifier.
    pub(super) id: u8,
    /// Its value, without the length in front of text and binary data.
    pub(super) value: &'a [u8],
    /// Where it begins in the block.
    pub(super) start: usize,
    /// Where the value begins in the block.
    pub(super) value_at: usize,
    /// Where the next one begins.
    pub(super) end: usize,
}

impl Property<'_> {
    /// The value as a number; 0 if it is none.
    pub(super) fn number(&self) -> u32 {
        match *self.value {
            [a] => u32::from(a),
            [a, b] => u32::from(u16::from_be_bytes([a, b])),
            [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
            _ => 0,
        }
    }
}

/// How a property's value is encoded.
#[derive(Clone, Copy)]
enum Kind {
    Fixed(usize),
    VariableInt,
    Binary,
    Text,
    TextPair,
}

fn kind(id: u8) -> Option<Kind> {
    Some(match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Kind::Fixed(1),
        0x13 | 0x21 | 0x22 | 0x23 => Kind::Fixed(2),
        0x02 | 0x11 | 0x18 | 0x27 => Kind::Fixed(4),
        0x0B => Kind::VariableInt,
        0x09 | 0x16 => Kind::Binary,
        0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Kind::Text,
        0x26 => Kind::TextPair,
        _ => return None,
    })
}

/// Where a property block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Connect,
    Will,
    Publish,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    Ack,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

impl Place {
    /// Table 2-4. A subscription identifier in a PUBLISH is legal as such, but not from a client.
    fn allows(self, id: u8) -> bool {
        if id == USER_PROPERTY {
            return true;
        }
        match self {
            Self::Connect => matches!(id, 0x11 | 0x15 | 0x16 | 0x17 | 0x19 | 0x21 | 0x22 | 0x27),
            Self::Will => matches!(id, 0x01 | 0x02 | 0x03 | 0x08 | 0x09 | 0x18),
            Self::Publish => matches!(id, 0x01 | 0x02 | 0x03 | 0x08 | 0x09 | 0x0B | 0x23),
            Self::Ack => id == 0x1F,
            Self::Subscribe => id == SUBSCRIPTION_ID,
            Self::Unsubscribe => false,
            Self::Disconnect => matches!(id, 0x11 | 0x1C | 0x1F),
            Self::Auth => matches!(id, 0x15 | 0x16 | 0x1F),
        }
    }
}

/// Checks the properties of `block`, which stands at `place`, and calls `each` with every one, in order.
pub(super) fn check<'a>(
    place: Place,
    block: &'a [u8],
    mut each: impl FnMut(Property<'a>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut seen = 0_u64;
    walk(block, |property| {
        // Section 2.2.2.2.
        if !place.allows(property.id) {
            return Err(Refusal::Malformed);
        }
        let bit = 1 << property.id;
        if property.id != USER_PROPERTY && seen & bit != 0 {
            return Err(Refusal::Protocol);
        }
        seen |= bit;
        // Sections 3.1.2.11.6, 3.1.2.11.7 and 3.3.2.3.2: a byte that says yes or no.
        if matches!(kind(property.id), Some(Kind::Fixed(1))) && property.number() > 1 {
            return Err(Refusal::Protocol);
        }
        each(property)
    })
}

/// Calls `each` with every property of `block`, in order.
pub(super) fn walk<'a>(
    block: &'a [u8],
    mut each: impl FnMut(Property<'a>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut start = 0;
    while start < block.len() {
        let property = property_at(block, start)?;
        start = property.end;
        each(property)?;
    }
    Ok(())
}

fn property_at(block: &[u8], start: usize) -> Result<Property<'_>, Refusal> {
    let id = *block.get(start).ok_or(Refusal::Malformed)?;
    let at = start + 1;
    let (value_at, end) = match kind(id).ok_or(Refusal::Malformed)? {
        Kind::Fixed(length) => (at, at + length),
        Kind::VariableInt => {
            let tail = block.get(at..).ok_or(Refusal::Malformed)?;
            let (_, length) = shortest_int(tail)?;
            (at, at + length)
        }
        Kind::Binary => (at + 2, prefixed(block, at)?),
        Kind::Text => (at + 2, text(block, at)?),
        Kind::TextPair => {
            let middle = text(block, at)?;
            (at, text(block, middle)?)
        }
    };
    let value = block.get(value_at..end).ok_or(Refusal::Malformed)?;
    Ok(Property {
        id,
        value,
        start,
        value_at,
        end,
    })
}

/// Where the binary data or text that begins at `at` with its length ends.
pub(super) fn prefixed(bytes: &[u8], at: usize) -> Result<usize, Refusal> {
    match bytes.get(at..) {
        Some([high, low, rest @ ..]) => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if rest.len() < length {
                return Err(Refusal::Malformed);
            }
            Ok(at + 2 + length)
        }
        _ => Err(Refusal::Malformed),
    }
}

/// Like [`prefixed`], for text: U+0000 is malformed ([MQTT-1.5.4-2]). Whether it is UTF-8 the codec checks.
pub(super) fn text(bytes: &[u8], at: usize) -> Result<usize, Refusal> {
    let end = prefixed(bytes, at)?;
    if bytes[at + 2..end].contains(&0) {
        return Err(Refusal::Malformed);
    }
    Ok(end)
}

/// A variable byte integer and its length in bytes; `None` if it is not whole yet; malformed above four bytes.
pub(super) fn variable_int(bytes: &[u8]) -> Result<Option<(u32, usize)>, Refusal> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(Refusal::Malformed);
    }
    Ok(None)
}

/// A whole variable byte integer of 5.0, and its length in bytes: as few as possible ([MQTT-1.5.5-1]).
pub(super) fn shortest_int(bytes: &[u8]) -> Result<(u32, usize), Refusal> {
    let (value, length) = variable_int(bytes)?.ok_or(Refusal::Malformed)?;
    if length != variable_int_len(value as usize) {
        return Err(Refusal::Malformed);
    }
    Ok((value, length))
}

/// The bytes that `value` takes as a variable byte integer.
pub(super) fn variable_int_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends `value`, which is below 2^28, as a variable byte integer.
#[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
pub(super) fn put_variable_int(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
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
    fn variable_integers_round_trip_and_end_at_four_bytes() {
        // 5.0: [MQTT-1.5.5-1]
        for value in [
            0,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            268_435_455,
        ] {
            let mut out = Vec::new();
            put_variable_int(&mut out, value);
            assert_eq!(out.len(), variable_int_len(value));
            let (read, length) = variable_int(&out).unwrap().unwrap();
            assert_eq!((read as usize, length), (value, out.len()));
            assert_eq!(variable_int(&out[..out.len() - 1]).unwrap(), None);
        }
        assert_eq!(
            variable_int(&[0xFF, 0xFF, 0xFF, 0xFF]),
            Err(Refusal::Malformed)
        );
    }

    #[test]
    fn a_walk_names_every_property_in_order() {
        let block = b"\x01\x01\x02\x00\x00\x00\x09\x08\x00\x01r\x09\x00\x02\x00\x01\x26\x00\x01k\x00\x01v\x0b\x81\x01";
        let mut seen = Vec::new();
        walk(block, |property| {
            seen.push((property.id, property.value.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            seen,
            [
                (0x01, vec![1]),
                (0x02, vec![0, 0, 0, 9]),
                (0x08, b"r".to_vec()),
                (0x09, vec![0, 1]),
                (0x26, b"\x00\x01k\x00\x01v".to_vec()),
                (0x0B, vec![0x81, 0x01]),
            ]
        );
    }

    #[test]
    fn blocks_that_end_early_or_hold_nul_are_malformed() {
        for block in [
            &b"\x01"[..],
            b"\x02\x00\x00\x00",
            b"\x08\x00\x02r",
            b"\x26\x00\x01k\x00\x02v",
            b"\x08\x00\x01\x00",
            b"\x26\x00\x01k\x00\x01\x00",
            b"\x0b\x80",
            b"\x7f",
            b"\x00",
        ] {
            assert_eq!(
                walk(block, |_| Ok(())),
                Err(Refusal::Malformed),
                "{block:?}"
            );
        }
    }
}
