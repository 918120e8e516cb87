//! CONNACK and DISCONNECT: the packets with which a connection begins and ends.

use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::ProtocolVersion;
use outlive_actors::model::refusal::Refusal;

use super::super::properties::{self, put_variable_int, variable_int_len};
use super::super::{auth, reason};
use super::{Oversized, put_prefixed, reason_string};

/// What the connection announces in a CONNACK of 5.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Announce<'a> {
    /// The session expiry in force, if it is not what the client asked for.
    pub(in super::super) expiry_seconds: Option<u32>,
    /// The broker's receive maximum.
    pub(in super::super) receive_max: u16,
    /// The highest QoS that the broker takes and grants, if it is not 2.
    pub(in super::super) qos_max: Option<QoS>,
    /// The largest packet that the broker takes.
    pub(in super::super) packet_bytes_max: u32,
    /// The broker's topic alias maximum.
    pub(in super::super) topic_alias_max: u16,
    /// The client id, if the broker assigned it.
    pub(in super::super) assigned_client_id: Option<&'a str>,
    /// The keep-alive in force, if it is not what the client asked for.
    pub(in super::super) keep_alive_seconds: Option<u16>,
    /// Method and last word of the exchange that let the client in.
    pub(in super::super) authentication: Option<(&'a str, &'a [u8])>,
    /// What response topics begin with, if the client asked for it.
    pub(in super::super) response_information: Option<&'a str>,
}

/// CONNACK with success, of at most `bytes_max` bytes.
pub(in super::super) fn connack(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    bytes_max: u32,
    session_present: bool,
    announce: &Announce<'_>,
) -> Result<(), Oversized> {
    // MQTT 3.1 reserves the byte in which later versions have the session-present bit.
    let present = u8::from(session_present && version != ProtocolVersion::V31);
    if version != ProtocolVersion::V5 {
        out.extend_from_slice(&[0x20, 2, present, reason::SUCCESS]);
        return Ok(());
    }
    let mut block = Vec::with_capacity(32);
    if let Some(seconds) = announce.expiry_seconds {
        block.push(properties::SESSION_EXPIRY);
        block.extend_from_slice(&seconds.to_be_bytes());
    }
    if announce.receive_max != u16::MAX {
        block.push(properties::RECEIVE_MAX);
        block.extend_from_slice(&announce.receive_max.to_be_bytes());
    }
    if let Some(qos) = announce.qos_max {
        block.extend_from_slice(&[properties::QOS_MAX, qos.level()]);
    }
    block.push(properties::PACKET_BYTES_MAX);
    block.extend_from_slice(&announce.packet_bytes_max.to_be_bytes());
    if let Some(client_id) = announce.assigned_client_id {
        block.push(properties::ASSIGNED_CLIENT_ID);
        put_prefixed(&mut block, client_id.as_bytes());
    }
    if announce.topic_alias_max > 0 {
        block.push(properties::TOPIC_ALIAS_MAX);
        block.extend_from_slice(&announce.topic_alias_max.to_be_bytes());
    }
    if let Some(seconds) = announce.keep_alive_seconds {
        block.push(properties::SERVER_KEEP_ALIVE);
        block.extend_from_slice(&seconds.to_be_bytes());
    }
    // [MQTT-4.12.0-5]
    if let Some((method, data)) = announce.authentication {
        auth::put_properties(&mut block, method, data);
    }
    if let Some(text) = announce.response_information {
        block.push(properties::RESPONSE_INFORMATION);
        put_prefixed(&mut block, text.as_bytes());
    }
    put_last(out, 0x20, &[present, reason::SUCCESS], &block, bytes_max)
}

/// CONNACK with a refusal; nothing where the version demands to close without one.
pub(in super::super) fn connack_refused(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    bytes_max: u32,
    refusal: Refusal,
) {
    match version {
        ProtocolVersion::V5 => {
            let head = [0, reason::connack_v5(refusal)];
            put_farewell(out, 0x20, &head, refusal, bytes_max);
        }
        ProtocolVersion::V31 | ProtocolVersion::V311 => {
            if let Some(code) = reason::connack_v3(refusal) {
                out.extend_from_slice(&[0x20, 2, 0, code]);
            }
        }
    }
}

/// DISCONNECT of 5.0; 3.x servers have none.
pub(in super::super) fn disconnect(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    bytes_max: u32,
    refusal: Refusal,
) {
    if version == ProtocolVersion::V5 {
        let head = [reason::disconnect_v5(refusal)];
        put_farewell(out, 0xE0, &head, refusal, bytes_max);
    }
}

/// The last packet of a connection, with its reason in words if they do not make it too large ([MQTT-3.2.2-19],
/// [MQTT-3.14.2-3]). A client that takes nothing so small goes without.
fn put_farewell(out: &mut Vec<u8>, first: u8, head: &[u8], refusal: Refusal, bytes_max: u32) {
    let words = reason_string(refusal);
    put_last(out, first, head, &words, bytes_max)
        .or_else(|Oversized| put_last(out, first, head, &[], bytes_max))
        .ok();
}

/// A 5.0 packet that ends with its properties.
pub(in super::super) fn put_last(
    out: &mut Vec<u8>,
    first: u8,
    head: &[u8],
    block: &[u8],
    bytes_max: u32,
) -> Result<(), Oversized> {
    let remaining = head.len() + variable_int_len(block.len()) + block.len();
    if 1 + variable_int_len(remaining) + remaining > bytes_max as usize {
        return Err(Oversized);
    }
    out.push(first);
    put_variable_int(out, remaining);
    out.extend_from_slice(head);
    put_variable_int(out, block.len());
    out.extend_from_slice(block);
    Ok(())
}
