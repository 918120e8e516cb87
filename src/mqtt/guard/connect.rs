//! What the codec lets pass in a CONNECT (MQTT 5.0 section 3.1).

use std::ops::Range;

use outlive_actors::model::packet::ProtocolVersion;
use outlive_actors::model::refusal::Refusal;

use super::super::properties::{self, Place, prefixed, text, variable_int};
use super::{block, response_topic};

/// Where the parts of a CONNECT lie in its body, and what the codec cannot say about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ConnectLayout {
    /// The protocol version.
    pub(in super::super) version: ProtocolVersion,
    /// The client says that it is a bridge.
    pub(in super::super) is_bridge: bool,
    /// The flags, without those of fields that a 3.1 client announces and does not send.
    pub(in super::super) flags: u8,
    /// The client id is empty.
    pub(in super::super) client_id_is_empty: bool,
    /// Clean start or clean session.
    pub(in super::super) clean_start: bool,
    /// The properties of the will, without their length.
    pub(in super::super) will_properties: Range<usize>,
    /// Where in the body the will's message expiry interval lies, if it is zero, which the codec refuses.
    pub(in super::super) zero_expiry_at: Option<usize>,
}

/// Set in the level, it says that a client of 3.x is a bridge: a private bit of mosquitto that others took over.
pub(in super::super) const BRIDGE: u8 = 0x80;

/// Which version a CONNECT's body asks for. `Err` says how its author can be answered, if at all.
pub(in super::super) fn version(body: &[u8]) -> Result<ProtocolVersion, UnknownVersion> {
    match body {
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => match level & !BRIDGE {
            3 => Ok(ProtocolVersion::V31),
            _ => Err(UnknownVersion::Old),
        },
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] => match level {
            4 | 0x84 => Ok(ProtocolVersion::V311),
            5 => Ok(ProtocolVersion::V5),
            0..=3 | 0x80.. => Err(UnknownVersion::Old),
            _ => Err(UnknownVersion::New),
        },
        _ => Err(UnknownVersion::Foreign),
    }
}

/// The version of a CONNECT that has not come whole, if it shows already.
pub(in super::super) fn announced(buf: &[u8]) -> Option<ProtocolVersion> {
    let (_, length) = variable_int(buf.get(1..)?).ok()??;
    version(buf.get(1 + length..)?).ok()
}

/// A protocol name or level that the broker does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum UnknownVersion {
    /// Below 5.0, or a bridge of something else: CONNACK of 3.x with 0x01.
    Old,
    /// Above 5.0: CONNACK of 5.0 with 0x84.
    New,
    /// Another protocol: no answer.
    Foreign,
}

/// Checks a CONNECT (section 3.1) of a known version.
pub(in super::super) fn connect(
    version: ProtocolVersion,
    body: &[u8],
) -> Result<ConnectLayout, Refusal> {
    let v5 = version == ProtocolVersion::V5;
    let level_at = prefixed(body, 0)?;
    let level = *body.get(level_at).ok_or(Refusal::Malformed)?;
    let flags_at = level_at + 1;
    let mut flags = *body.get(flags_at).ok_or(Refusal::Malformed)?;
    check_connect_flags(v5, flags)?;
    let mut at = flags_at + 3;
    if v5 {
        let range = block(body, at)?;
        connect_properties(&body[range.clone()])?;
        at = range.end;
    }
    let client_id_is_empty = body.get(at..at + 2) == Some(&[0, 0]);
    at = text(body, at)?;
    let mut layout = ConnectLayout {
        version,
        is_bridge: level & BRIDGE != 0,
        flags,
        client_id_is_empty,
        clean_start: flags & CLEAN_START != 0,
        will_properties: at..at,
        zero_expiry_at: None,
    };
    if flags & WILL != 0 {
        if v5 {
            let range = block(body, at)?;
            layout.zero_expiry_at =
                will_properties(&body[range.clone()])?.map(|at| range.start + at);
            at = range.end;
            layout.will_properties = range;
        }
        at = text(body, at)?;
        at = prefixed(body, at)?;
    }
    for (flag, skip) in [
        (USER_NAME, text as fn(&[u8], usize) -> _),
        (PASSWORD, prefixed),
    ] {
        // MQTT 3.1 section 3.1: the remaining length takes precedence over these two flags, as in what came before it.
        if version == ProtocolVersion::V31 && at == body.len() {
            flags &= !flag;
        }
        if flags & flag != 0 {
            at = skip(body, at)?;
        }
    }
    layout.flags = flags;
    // The codec ignores what follows.
    if at != body.len() {
        return Err(Refusal::Malformed);
    }
    Ok(layout)
}

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

fn check_connect_flags(v5: bool, flags: u8) -> Result<(), Refusal> {
    let reserved = flags & 0x01 != 0; // [MQTT-3.1.2-3]
    let will_bits_alone = flags & WILL == 0 && flags & 0x38 != 0; // [MQTT-3.1.2-11], [-13]
    let will_qos_3 = flags & 0x18 == 0x18; // [MQTT-3.1.2-12]
    let password_alone = !v5 && flags & PASSWORD != 0 && flags & USER_NAME == 0; // 3.1.1: [MQTT-3.1.2-22]
    if reserved || will_bits_alone || will_qos_3 || password_alone {
        return Err(Refusal::Malformed);
    }
    Ok(())
}

fn connect_properties(block: &[u8]) -> Result<(), Refusal> {
    let (mut method, mut data) = (false, false);
    properties::check(Place::Connect, block, |property| {
        match property.id {
            properties::AUTH_METHOD => method = true,
            properties::AUTH_DATA => data = true,
            // Zero is a protocol error (sections 3.1.2.11.3 and 3.1.2.11.4).
            properties::RECEIVE_MAX | properties::PACKET_BYTES_MAX if property.number() == 0 => {
                return Err(Refusal::Protocol);
            }
            _ => {}
        }
        Ok(())
    })?;
    // Section 3.1.2.11.10: data without a method.
    if data && !method {
        return Err(Refusal::Protocol);
    }
    Ok(())
}

/// Where a message expiry interval of zero lies, if there is one.
fn will_properties(block: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut zero_expiry_at = None;
    properties::check(Place::Will, block, |property| {
        match property.id {
            properties::MESSAGE_EXPIRY if property.number() == 0 => {
                zero_expiry_at = Some(property.value_at);
            }
            properties::RESPONSE_TOPIC => response_topic(property.value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(zero_expiry_at)
}
