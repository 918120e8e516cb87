//! Writes what the broker sends, straight into the bytes of a connection. No allocation besides the buffer's own.
//!
//! Owns: the encoding of every packet that a server sends, in all versions. Does not know: sockets, limits of buffers.
//!
//! What MQTT 3.1 cannot say: it has no failure in SUBACK. mosquitto grants what it refuses there, a lie that costs a
//! client its messages; 0x80 would be read as some QoS. So a refused filter ends a 3.1 connection, which is the only
//! "no" that version has ([`Unsent::Unsayable`]).

use std::num::NonZeroU16;

use outlive_actors::model::ids::{PacketId, Timestamp};
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{Delivery, Outbound, ProtocolVersion, Routed};
use outlive_actors::model::refusal::Refusal;

use super::properties::{self, put_variable_int, variable_int_len};
use super::terms::{Terms, Topic};
use super::{guard, reason};

mod ends;

pub(super) use ends::{Announce, connack, connack_refused, disconnect, put_last};

/// The most that a remaining length can say.
const REMAINING_MAX: usize = 0x0FFF_FFFF;

/// PINGRESP.
pub(super) fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}

/// A packet that exceeds what the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oversized;

/// PUBLISH, on `topic` as its client knows it. `now` says how much of the message expiry interval is left.
pub(super) fn publish(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    delivery: &Delivery,
    topic: &[u8],
    now: impl Fn() -> Timestamp,
    terms: Option<&mut Terms>,
) -> Result<(), Oversized> {
    let Some(terms) = terms else {
        return put_publish(out, version, delivery, (topic, None), now, u32::MAX);
    };
    let said = terms.topic(topic);
    let named = match said {
        Topic::Named => (topic, None),
        Topic::Sets(alias) => (topic, Some(alias)),
        Topic::Aliased(alias) => (&[][..], Some(alias)),
    };
    let bytes_max = terms.packet_bytes_max;
    let written = put_publish(out, version, delivery, named, &now, bytes_max);
    match said {
        Topic::Named | Topic::Aliased(_) => written,
        // It may fit without the alias.
        Topic::Sets(_) if written.is_err() => {
            put_publish(out, version, delivery, (topic, None), &now, bytes_max)
        }
        Topic::Sets(alias) => {
            terms.set(topic, alias);
            written
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "topics are at most 65,535 bytes"
)]
fn put_publish(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    delivery: &Delivery,
    (topic, alias): (&[u8], Option<NonZeroU16>),
    now: impl Fn() -> Timestamp,
    bytes_max: u32,
) -> Result<(), Oversized> {
    let message = &*delivery.message;
    let packet_id = delivery
        .packet_id
        .filter(|_| delivery.qos != QoS::AtMostOnce);
    let v5 = version == ProtocolVersion::V5;
    let block = if v5 {
        block_len(delivery, alias.is_some())
    } else {
        0
    };
    let mut remaining = 2 + topic.len() + message.payload().len();
    if packet_id.is_some() {
        remaining += 2;
    }
    if v5 {
        remaining += variable_int_len(block) + block;
    }
    let total = 1 + variable_int_len(remaining) + remaining;
    if remaining > REMAINING_MAX || total > bytes_max as usize {
        return Err(Oversized);
    }
    out.reserve(total);
    out.push(
        guard::PUBLISH << 4
            | u8::from(delivery.dup) << 3
            | delivery.qos.level() << 1
            | u8::from(delivery.retain),
    );
    put_variable_int(out, remaining);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic);
    if let Some(packet_id) = packet_id {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if v5 {
        put_variable_int(out, block);
        if let Some(expires_at) = message.expires_at {
            // Rounded up: a message that is still valid never looks expired.
            let seconds = expires_at.millis_since(now()).div_ceil(1000);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            out.push(properties::MESSAGE_EXPIRY);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        if let Some(alias) = alias {
            out.push(properties::TOPIC_ALIAS);
            out.extend_from_slice(&alias.get().to_be_bytes());
        }
        for &id in &delivery.subscription_ids {
            out.push(properties::SUBSCRIPTION_ID);
            put_variable_int(out, id as usize);
        }
        out.extend_from_slice(message.properties());
    }
    out.extend_from_slice(message.payload());
    Ok(())
}

/// The length of a delivery's property block.
fn block_len(delivery: &Delivery, aliased: bool) -> usize {
    let alias = if aliased { 3 } else { 0 };
    let expiry = if delivery.message.expires_at.is_some() {
        5
    } else {
        0
    };
    let ids: usize = delivery
        .subscription_ids
        .iter()
        .map(|&id| 1 + variable_int_len(id as usize))
        .sum();
    alias + expiry + ids + delivery.message.properties().len()
}

/// Why an answer is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// It exceeds what the client takes.
    Oversized,
    /// The version cannot say it, which ends the connection.
    Unsayable(Refusal),
}

impl From<Refusal> for Unsent {
    fn from(refusal: Refusal) -> Self {
        Self::Unsayable(refusal)
    }
}

/// Everything that a session answers with. PUBLISH, CONNACK and Close have their own functions and write nothing here.
pub(super) fn outbound(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet: &Outbound,
    terms: Option<&Terms>,
) -> Result<(), Unsent> {
    let (bytes_max, reasons) = terms.map_or((u32::MAX, true), |terms| {
        (terms.packet_bytes_max, terms.reasons)
    });
    let start = out.len();
    // Words may not make a packet too large ([MQTT-3.4.2-2] and its like).
    for words in [reasons, false] {
        put_outbound(out, version, packet, words)?;
        if out.len() - start <= bytes_max as usize {
            return Ok(());
        }
        out.truncate(start);
    }
    Err(Unsent::Oversized)
}

fn put_outbound(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet: &Outbound,
    words: bool,
) -> Result<(), Refusal> {
    let v5 = version == ProtocolVersion::V5;
    match packet {
        Outbound::PubAck { packet_id, result } => {
            put_answer(out, version, (0x40, *packet_id), *result, words)?;
        }
        Outbound::PubRec { packet_id, result } => {
            put_answer(out, version, (0x50, *packet_id), *result, words)?;
        }
        Outbound::PubRel { packet_id, known } => put_release(out, v5, 0x62, *packet_id, *known),
        Outbound::PubComp { packet_id, known } => put_release(out, v5, 0x70, *packet_id, *known),
        Outbound::SubAck { packet_id, results } => {
            suback(out, version, *packet_id, results, words)?;
        }
        Outbound::UnsubAck { packet_id, existed } => {
            unsuback(out, v5, *packet_id, existed);
        }
        Outbound::ConnAck { .. }
        | Outbound::Publish(_)
        | Outbound::AwaitRoom
        | Outbound::Close(_) => {}
    }
    Ok(())
}

/// PUBACK or PUBREC. 3.x has no failure there: what says that the message was not taken ends the connection, so that
/// the client sends it again.
fn put_answer(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    (first, packet_id): (u8, PacketId),
    result: Result<Routed, Refusal>,
    words: bool,
) -> Result<(), Refusal> {
    if version != ProtocolVersion::V5 {
        result?;
        put_ack(out, first, packet_id, reason::SUCCESS, None);
        return Ok(());
    }
    let why = match result {
        Err(why) | Ok(Routed::NotRetained(why)) => Some(why),
        Ok(Routed::Matched | Routed::NoSubscribers) => None,
    };
    let why = why.filter(|_| words);
    put_ack(out, first, packet_id, reason::puback_v5(result), why);
    Ok(())
}

fn put_release(out: &mut Vec<u8>, v5: bool, first: u8, packet_id: PacketId, known: bool) {
    let code = if known || !v5 {
        reason::SUCCESS
    } else {
        reason::PACKET_ID_NOT_FOUND
    };
    put_ack(out, first, packet_id, code, None);
}

/// Success needs no code in any version, unless words follow: `why`.
fn put_ack(out: &mut Vec<u8>, first: u8, packet_id: PacketId, code: u8, why: Option<Refusal>) {
    let [high, low] = packet_id.get().to_be_bytes();
    let block = why.map_or_else(Vec::new, reason_string);
    if code == reason::SUCCESS && block.is_empty() {
        out.extend_from_slice(&[first, 2, high, low]);
        return;
    }
    if block.is_empty() {
        out.extend_from_slice(&[first, 3, high, low, code]);
        return;
    }
    out.push(first);
    put_variable_int(out, 3 + variable_int_len(block.len()) + block.len());
    out.extend_from_slice(&[high, low, code]);
    put_variable_int(out, block.len());
    out.extend_from_slice(&block);
}

/// A property block that says `why` for people to read.
fn reason_string(why: Refusal) -> Vec<u8> {
    let mut block = vec![properties::REASON_STRING];
    put_prefixed(&mut block, why.to_string().as_bytes());
    block
}

fn suback(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet_id: PacketId,
    results: &[Result<QoS, Refusal>],
    words: bool,
) -> Result<(), Refusal> {
    let v5 = version == ProtocolVersion::V5;
    let refusal = results.iter().find_map(|result| result.err());
    if version == ProtocolVersion::V31
        && let Some(refusal) = refusal
    {
        return Err(refusal);
    }
    let why = refusal.filter(|_| words && v5);
    let block = why.map_or_else(Vec::new, reason_string);
    let properties = if v5 {
        variable_int_len(block.len()) + block.len()
    } else {
        0
    };
    out.push(0x90);
    put_variable_int(out, 2 + properties + results.len());
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    if v5 {
        put_variable_int(out, block.len());
        out.extend_from_slice(&block);
    }
    out.extend(results.iter().map(|result| match result {
        Ok(qos) => qos.level(),
        Err(refusal) if v5 => reason::suback_v5(*refusal),
        Err(_) => reason::SUBACK_FAILURE_V311,
    }));
    Ok(())
}

fn unsuback(out: &mut Vec<u8>, v5: bool, packet_id: PacketId, existed: &[bool]) {
    out.push(0xB0);
    put_variable_int(out, 2 + if v5 { 1 + existed.len() } else { 0 });
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    if v5 {
        out.push(0);
        out.extend(existed.iter().map(|existed| {
            if *existed {
                reason::SUCCESS
            } else {
                reason::NO_SUBSCRIPTION_EXISTED
            }
        }));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "client ids and reasons are at most 65,535 bytes"
)]
pub(super) fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
