//! Looks at every frame before the codec does, and closes the holes that the codec leaves open.
//!
//! Owns: where a frame ends, the size limit (from the header, before anything is reserved), header flags, and what the
//! codec accepts wrongly, reads past or refuses wrongly. Does not know: what a packet means.
//!
//! Invariants:
//! - A frame that passed can be given to the codec: no length in it points outside it.
//! - Nothing here panics, whatever the bytes; nothing allocates.

use std::ops::Range;

use outlive_actors::model::packet::ProtocolVersion;
use outlive_actors::model::refusal::Refusal;

use super::properties::{self, Place, text, variable_int, variable_int_len};

mod connect;

pub(super) use connect::{ConnectLayout, UnknownVersion, announced, connect, version};

pub(super) const CONNECT: u8 = 1;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
pub(super) const SUBSCRIBE: u8 = 8;
pub(super) const UNSUBSCRIBE: u8 = 10;
pub(super) const PINGREQ: u8 = 12;
pub(super) const DISCONNECT: u8 = 14;
pub(super) const AUTH: u8 = 15;

/// The flag of a packet that was sent before.
pub(super) const DUP: u8 = 0x08;

/// A whole frame at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The first byte: packet type and flags.
    pub(super) first: u8,
    /// Where what the remaining length counts begins.
    pub(super) body_at: usize,
    /// Where the next frame begins.
    pub(super) end: usize,
}

impl Frame {
    /// The packet type.
    pub(super) fn kind(self) -> u8 {
        self.first >> 4
    }
}

/// The frame at the start of `buf`; `None` if it is not whole yet. A bad header is refused from its first bytes.
/// `version` is `None` until the CONNECT has come.
pub(super) fn peek(
    buf: &[u8],
    version: Option<ProtocolVersion>,
    bytes_max: u32,
) -> Result<Option<Frame>, Refusal> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(None);
    };
    check_first(first, version)?;
    let Some((remaining, length)) = variable_int(rest)? else {
        return Ok(None);
    };
    let remaining = remaining as usize;
    // [MQTT-1.5.5-1]: as few bytes as possible; older versions do not say so.
    if version == Some(ProtocolVersion::V5) && length != variable_int_len(remaining) {
        return Err(Refusal::Malformed);
    }
    let body_at = 1 + length;
    let end = body_at + remaining;
    if end > bytes_max as usize {
        return Err(Refusal::PacketTooLarge);
    }
    Ok((buf.len() >= end).then_some(Frame {
        first,
        body_at,
        end,
    }))
}

/// Packet type and flags (MQTT 5.0 sections 2.1.2 and 2.1.3).
fn check_first(first: u8, version: Option<ProtocolVersion>) -> Result<(), Refusal> {
    let (kind, flags) = (first >> 4, first & 0x0F);
    let Some(version) = version else {
        // [MQTT-3.1.0-1]: the first packet is a CONNECT.
        return (first == CONNECT << 4)
            .then_some(())
            .ok_or(Refusal::Malformed);
    };
    let flags_valid = match kind {
        PUBLISH => {
            let qos = (flags >> 1) & 3;
            // [MQTT-3.3.1-2] DUP with QoS 0, [MQTT-3.3.1-4] QoS 3.
            qos != 3 && (qos != 0 || flags & DUP == 0)
        }
        // In 3.1 these three have QoS 1 and may be sent again with DUP.
        PUBREL | SUBSCRIBE | UNSUBSCRIBE if version == ProtocolVersion::V31 => flags & !DUP == 2,
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => flags == 2,
        _ => flags == 0,
    };
    if !flags_valid {
        return Err(Refusal::Malformed);
    }
    match kind {
        PUBLISH | PUBACK | PUBREC | PUBREL | PUBCOMP | SUBSCRIBE | UNSUBSCRIBE | PINGREQ
        | DISCONNECT => Ok(()),
        AUTH if version == ProtocolVersion::V5 => Ok(()),
        0 | AUTH => Err(Refusal::Malformed),
        // [MQTT-3.1.0-2] a second CONNECT; the rest only a server sends.
        _ => Err(Refusal::Protocol),
    }
}

/// Where the parts of a PUBLISH lie in its body, and what the codec cannot say about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PublishLayout {
    /// The properties, without their length.
    pub(super) properties: Range<usize>,
    /// Where the payload begins.
    pub(super) payload_at: usize,
    /// Where in the body the message expiry interval lies, if it is zero, which the codec refuses.
    pub(super) zero_expiry_at: Option<usize>,
    /// The topic alias.
    pub(super) alias: Option<u16>,
    /// The properties hold nothing but application properties.
    pub(super) block_is_clean: bool,
}

/// Checks a PUBLISH (section 3.3).
pub(super) fn publish(
    version: ProtocolVersion,
    first: u8,
    body: &[u8],
) -> Result<PublishLayout, Refusal> {
    // A topic longer than the packet makes the codec compute a payload size below zero.
    let mut at = text(body, 0)?;
    if first & 0x06 != 0 {
        at += 2;
    }
    if at > body.len() {
        return Err(Refusal::Malformed);
    }
    if version != ProtocolVersion::V5 {
        return Ok(PublishLayout {
            properties: at..at,
            payload_at: at,
            block_is_clean: true,
            ..PublishLayout::default()
        });
    }
    let range = block(body, at)?;
    let mut layout = PublishLayout {
        payload_at: range.end,
        block_is_clean: true,
        ..PublishLayout::default()
    };
    properties::check(Place::Publish, &body[range.clone()], |property| {
        match property.id {
            properties::MESSAGE_EXPIRY => {
                layout.block_is_clean = false;
                if property.number() == 0 {
                    layout.zero_expiry_at = Some(range.start + property.value_at);
                }
            }
            // [MQTT-3.3.2-8]
            properties::TOPIC_ALIAS if property.number() == 0 => return Err(Refusal::TopicAlias),
            properties::TOPIC_ALIAS => {
                layout.block_is_clean = false;
                layout.alias = u16::try_from(property.number()).ok();
            }
            // [MQTT-3.3.4-6]
            properties::SUBSCRIPTION_ID => return Err(Refusal::Protocol),
            properties::RESPONSE_TOPIC => response_topic(property.value)?,
            _ => {}
        }
        Ok(())
    })?;
    layout.properties = range;
    // Section 3.3.2.1: an empty topic needs an alias.
    if body.starts_with(&[0, 0]) && layout.alias.is_none() {
        return Err(Refusal::Protocol);
    }
    Ok(layout)
}

/// A response topic is a topic name ([MQTT-3.3.2-14]); the specification names no code, and a message that cannot be
/// answered is of no use.
fn response_topic(value: &[u8]) -> Result<(), Refusal> {
    if value.is_empty() || value.iter().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(Refusal::Protocol);
    }
    Ok(())
}

/// Checks the properties of PUBACK, PUBREC, PUBREL and PUBCOMP.
pub(super) fn ack(version: ProtocolVersion, body: &[u8]) -> Result<(), Refusal> {
    if version != ProtocolVersion::V5 {
        return (body.len() == 2).then_some(()).ok_or(Refusal::Malformed);
    }
    if body.len() > 3 {
        let range = block(body, 3)?;
        // The codec ignores what follows.
        if range.end != body.len() {
            return Err(Refusal::Malformed);
        }
        properties::check(Place::Ack, &body[range], |_| Ok(()))?;
    }
    Ok(())
}

/// Checks a SUBSCRIBE (section 3.8).
pub(super) fn subscribe(version: ProtocolVersion, body: &[u8]) -> Result<(), Refusal> {
    let v5 = version == ProtocolVersion::V5;
    let mut at = filters_at(v5.then_some(Place::Subscribe), body)?;
    while at < body.len() {
        let end = text(body, at)?;
        let options = *body.get(end).ok_or(Refusal::Malformed)?;
        // [MQTT-3.8.3-4] of 3.1.1, [MQTT-3.8.3-5] of 5.0: reserved bits.
        if options & (if v5 { 0xC0 } else { 0xFC }) != 0 {
            return Err(Refusal::Malformed);
        }
        // Section 3.8.3.1: QoS 3 and retain handling 3.
        if v5 && (options & 0x03 == 0x03 || options & 0x30 == 0x30) {
            return Err(Refusal::Protocol);
        }
        // [MQTT-3.8.3-4] of 5.0: no-local on a shared subscription.
        if v5 && options & 0x04 != 0 && body[at + 2..end].starts_with(b"$share/") {
            return Err(Refusal::Protocol);
        }
        at = end + 1;
    }
    Ok(())
}

/// Checks an UNSUBSCRIBE (section 3.10).
pub(super) fn unsubscribe(version: ProtocolVersion, body: &[u8]) -> Result<(), Refusal> {
    let v5 = version == ProtocolVersion::V5;
    let mut at = filters_at(v5.then_some(Place::Unsubscribe), body)?;
    while at < body.len() {
        at = text(body, at)?;
    }
    Ok(())
}

/// Where the filters begin, of which there must be one ([MQTT-3.8.3-2], [MQTT-3.10.3-2]).
/// `place` is `None` in the versions without properties.
fn filters_at(place: Option<Place>, body: &[u8]) -> Result<usize, Refusal> {
    let at = if let Some(place) = place {
        let range = block(body, 2)?;
        properties::check(place, &body[range.clone()], |property| {
            // Section 3.8.2.1.2: 0 is no identifier.
            if property.id == properties::SUBSCRIPTION_ID && property.value == [0] {
                return Err(Refusal::Protocol);
            }
            Ok(())
        })?;
        range.end
    } else {
        2
    };
    if at > body.len() {
        return Err(Refusal::Malformed);
    }
    if at == body.len() {
        return Err(Refusal::Protocol);
    }
    Ok(at)
}

/// Checks a PINGREQ: it has no body.
pub(super) fn ping(body: &[u8]) -> Result<(), Refusal> {
    body.is_empty().then_some(()).ok_or(Refusal::Malformed)
}

/// Checks a DISCONNECT: in 3.x it has no body; in 5.0 a client may not send what only a server may.
pub(super) fn disconnect(version: ProtocolVersion, body: &[u8]) -> Result<(), Refusal> {
    if version != ProtocolVersion::V5 {
        return ping(body);
    }
    if matches!(
        body.first(),
        Some(0x87 | 0x89 | 0x8B | 0x8D | 0x8E | 0x8F | 0x9A..=0xA2)
    ) {
        return Err(Refusal::Protocol);
    }
    if body.len() > 1 {
        let range = block(body, 1)?;
        // The codec ignores what follows.
        if range.end != body.len() {
            return Err(Refusal::Malformed);
        }
        properties::check(Place::Disconnect, &body[range], |property| {
            if property.id == properties::SERVER_REFERENCE {
                return Err(Refusal::Protocol);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The property block whose length stands at `at`.
pub(super) fn block(body: &[u8], at: usize) -> Result<Range<usize>, Refusal> {
    let tail = body.get(at..).ok_or(Refusal::Malformed)?;
    let (length, bytes) = properties::shortest_int(tail)?;
    let start = at + bytes;
    let end = start + length as usize;
    if end > body.len() {
        return Err(Refusal::Malformed);
    }
    Ok(start..end)
}

#[cfg(test)]
pub(super) mod tests;
