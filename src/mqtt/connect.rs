//! CONNECT of each version, turned into one neutral value.
//!
//! Owns: the way of a CONNECT through guard, 3.1 rewriting and codec; the rules for client ids. Does not know: sockets,
//! who the client is.

use std::fmt;
use std::sync::Arc;

use ntex_mqtt::{v3::codec as v3, v5::codec as v5};
use outlive_actors::model::ids::{ClientId, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS, Will};
use outlive_actors::model::packet::ProtocolVersion;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;
use outlive_actors::model::topic::is_topic_name;

use super::auth::Asked;
use super::codec::{decode_v3, decode_v5, one_second, qos};
use super::config::WireConfig;
use super::convert::ApplicationBlock;
use super::guard::{self, ConnectLayout, Frame, UnknownVersion};
use super::terms::Terms;
use super::{properties, v31};

/// A CONNECT, free of versions.
pub(super) struct ConnectPacket {
    pub(super) version: ProtocolVersion,
    /// The client says that it is a bridge.
    pub(super) is_bridge: bool,
    /// Empty if the broker shall assign one.
    pub(super) client_id: Box<str>,
    pub(super) clean_start: bool,
    /// 0: none.
    pub(super) keep_alive_seconds: u16,
    /// As [`Connect::expiry_seconds`](outlive_actors::model::packet::Connect::expiry_seconds).
    pub(super) expiry_seconds: u32,
    /// The client's receive maximum.
    pub(super) receive_max: u16,
    /// What the client may be sent.
    pub(super) terms: Terms,
    /// The client wants to know what response topics shall begin with.
    pub(super) wants_response_information: bool,
    pub(super) user_name: Option<Box<str>>,
    pub(super) password: Option<Box<[u8]>>,
    /// The client asked for an authentication exchange.
    pub(super) auth: Option<Asked>,
    pub(super) will: Option<Box<Will>>,
}

impl ConnectPacket {
    /// What the broker knows the client by whose own id is `own`; its will is put below the same tenant.
    pub(super) fn know(&mut self, own: ClientId, tenant: Option<&Tenant>) -> ClientId {
        let Some(tenant) = tenant else {
            return own;
        };
        if let Some(will) = &mut self.will {
            will.message = Arc::new(will.message.of_tenant(tenant));
        }
        tenant.client_id(own.as_str())
    }
}

impl fmt::Debug for ConnectPacket {
    /// Never prints passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectPacket")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_seconds", &self.keep_alive_seconds)
            .field("expiry_seconds", &self.expiry_seconds)
            .field("receive_max", &self.receive_max)
            .field("terms", &self.terms)
            .field("user_name", &self.user_name)
            .field("will", &self.will)
            .finish_non_exhaustive()
    }
}

/// How the author of a CONNECT that is refused can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Why.
    pub(super) refusal: Refusal,
    /// In which version a CONNACK can be written; `None`: not at all.
    pub(super) answer: Option<ProtocolVersion>,
}

impl Refused {
    /// A refusal that the client understands in `version`.
    pub(super) fn to(version: ProtocolVersion, refusal: Refusal) -> Self {
        Self {
            refusal,
            answer: Some(version),
        }
    }
}

/// Decodes `frame`, which [`guard::peek`] found at the start of `buf`, and which arrived at `now`.
pub(super) fn decode(
    config: &WireConfig,
    frame: Frame,
    buf: &[u8],
    now: Timestamp,
) -> Result<ConnectPacket, Refused> {
    let body = &buf[frame.body_at..frame.end];
    let version = guard::version(body).map_err(|unknown| Refused {
        refusal: Refusal::Version,
        answer: match unknown {
            UnknownVersion::Old => Some(ProtocolVersion::V311),
            UnknownVersion::New => Some(ProtocolVersion::V5),
            UnknownVersion::Foreign => None,
        },
    })?;
    decode_known(config, version, body, now).map_err(|refusal| Refused::to(version, refusal))
}

fn decode_known(
    config: &WireConfig,
    version: ProtocolVersion,
    body: &[u8],
    now: Timestamp,
) -> Result<ConnectPacket, Refusal> {
    let layout = guard::connect(version, body)?;
    // [MQTT-3.1.3-8] of 3.1.1: only a clean session may leave the id to the broker. Before the codec, whose error
    // does not tell.
    if layout.client_id_is_empty && !layout.clean_start && version != ProtocolVersion::V5 {
        return Err(Refusal::ClientId);
    }
    let rewritten = v31::rewrite(body, layout.flags);
    let mut frame = frame_of(rewritten.as_deref().unwrap_or(body));
    let packet = if version == ProtocolVersion::V5 {
        if let Some(at) = layout.zero_expiry_at {
            let body_at = frame.len() - body.len();
            one_second(&mut frame, body_at + at)?;
        }
        let v5::Decoded::Packet(v5::Packet::Connect(connect), _) = decode_v5(&frame)? else {
            return Err(Refusal::Malformed);
        };
        from_v5(&connect, &layout, body, now)?
    } else {
        let v3::Decoded::Packet(v3::Packet::Connect(connect), _) = decode_v3(&frame)? else {
            return Err(Refusal::Malformed);
        };
        from_v3(&layout, &connect, now)?
    };
    check_client_id(config, &packet)?;
    Ok(packet)
}

/// A CONNECT frame with this body.
fn frame_of(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(5 + body.len());
    frame.push(guard::CONNECT << 4);
    properties::put_variable_int(&mut frame, body.len());
    frame.extend_from_slice(body);
    frame
}

/// MQTT 3.1 wants 1 to 23 characters. Its devices send longer ids, too, which other brokers take.
fn check_client_id(config: &WireConfig, packet: &ConnectPacket) -> Result<(), Refusal> {
    if packet.client_id.len() > usize::from(config.client_id_bytes_max) {
        return Err(Refusal::ClientId);
    }
    if packet.version != ProtocolVersion::V31 {
        return Ok(());
    }
    let is_too_long =
        config.strict_v31_client_ids && packet.client_id.chars().count() > v31::CLIENT_ID_CHARS_MAX;
    if packet.client_id.is_empty() || is_too_long {
        return Err(Refusal::ClientId);
    }
    Ok(())
}

fn from_v3(
    layout: &ConnectLayout,
    connect: &v3::Connect,
    now: Timestamp,
) -> Result<ConnectPacket, Refusal> {
    let will = connect.last_will.as_ref().map(|will| {
        will_of(WillParts {
            topic: &will.topic,
            payload: &will.message,
            properties: &[],
            qos: qos(will.qos),
            retain: will.retain,
            delay_seconds: 0,
            expiry_seconds: None,
            now,
        })
    });
    Ok(ConnectPacket {
        version: layout.version,
        is_bridge: layout.is_bridge,
        client_id: Box::from(&*connect.client_id),
        clean_start: connect.clean_session,
        keep_alive_seconds: connect.keep_alive,
        expiry_seconds: if connect.clean_session { 0 } else { u32::MAX },
        receive_max: u16::MAX,
        terms: Terms::default(),
        wants_response_information: false,
        user_name: connect.username.as_ref().map(|name| Box::from(&**name)),
        password: connect.password.as_ref().map(|word| Box::from(&word[..])),
        auth: None,
        will: will.transpose()?,
    })
}

fn from_v5(
    connect: &v5::Connect,
    layout: &ConnectLayout,
    body: &[u8],
    now: Timestamp,
) -> Result<ConnectPacket, Refusal> {
    let will = connect.last_will.as_ref().map(|will| {
        let raw = body
            .get(layout.will_properties.clone())
            .ok_or(Refusal::Malformed)?;
        let block = ApplicationBlock::filter(raw)?;
        will_of(WillParts {
            topic: &will.topic,
            payload: &will.message,
            properties: block.bytes(),
            qos: qos(will.qos),
            retain: will.retain,
            delay_seconds: will.will_delay_interval_sec.unwrap_or(0),
            expiry_seconds: match layout.zero_expiry_at {
                Some(_) => Some(0),
                None => will.message_expiry_interval.map(std::num::NonZero::get),
            },
            now,
        })
    });
    Ok(ConnectPacket {
        version: ProtocolVersion::V5,
        is_bridge: false,
        client_id: Box::from(&*connect.client_id),
        clean_start: connect.clean_start,
        keep_alive_seconds: connect.keep_alive,
        expiry_seconds: connect.session_expiry_interval_secs,
        receive_max: connect.receive_max.map_or(u16::MAX, std::num::NonZero::get),
        terms: Terms::new(
            connect
                .max_packet_size
                .map_or(u32::MAX, std::num::NonZero::get),
            connect.request_problem_info,
            connect.topic_alias_max,
        ),
        wants_response_information: connect.request_response_info,
        user_name: connect.username.as_ref().map(|name| Box::from(&**name)),
        password: connect.password.as_ref().map(|word| Box::from(&word[..])),
        auth: connect.auth_method.as_ref().map(|method| Asked {
            method: Box::from(&**method),
            data: connect.auth_data.as_deref().unwrap_or_default().into(),
        }),
        will: will.transpose()?,
    })
}

struct WillParts<'a> {
    topic: &'a str,
    payload: &'a [u8],
    properties: &'a [u8],
    qos: QoS,
    retain: bool,
    delay_seconds: u32,
    expiry_seconds: Option<u32>,
    now: Timestamp,
}

fn will_of(parts: WillParts<'_>) -> Result<Box<Will>, Refusal> {
    if !is_topic_name(parts.topic) {
        return Err(Refusal::TopicName);
    }
    Ok(Box::new(Will {
        message: Arc::new(Message::new(MessageParts {
            topic: parts.topic,
            payload: parts.payload,
            properties: parts.properties,
            qos: parts.qos,
            retain: parts.retain,
            published_at: parts.now,
            expires_at: None,
            publisher: SessionNumber(0),
        })),
        delay_seconds: parts.delay_seconds,
        expiry_seconds: parts.expiry_seconds,
    }))
}

#[cfg(test)]
mod tests;
