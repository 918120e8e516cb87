//! From frames to the vocabulary of the model; alone knows both versions of ntex's packets.
//!
//! Owns: the way through guard and codec, topic aliases of one connection, the checks that need more than one frame's
//! bytes. Does not know: sockets, actors, reason codes.
//!
//! Invariants:
//! - The codec only sees whole frames that passed the guard, one at a time, through a buffer of the thread: nothing
//!   decoded keeps a piece of it, and a connection keeps no codec state.
//! - Of a PUBLISH the codec sees the header only; the payload is copied once, into the message.

use std::cell::RefCell;
use std::num::NonZeroU16;
use std::sync::Arc;

use ntex_bytes::BytesMut;
use ntex_codec::Decoder as _;
use ntex_mqtt::error::DecodeError;
use ntex_mqtt::{QoS as CodecQoS, v3::codec as v3, v5::codec as v5};
use outlive_actors::model::ids::{PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::{
    Inbound, ProtocolVersion, RetainHandling, SubscriptionOptions,
};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::topic::{Filter, is_topic_name};

use super::guard::{self, Frame, PublishLayout};
use super::properties;

/// A packet of an open connection.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// Concerns the session.
    Session(Inbound),
    /// PINGREQ.
    Ping,
}

/// Turns the frames of one open connection into packets.
#[derive(Debug)]
pub(super) struct Decoder {
    version: ProtocolVersion,
    topic_alias_max: u16,
    /// Topic of alias n at n - 1. Grows as aliases are set.
    aliases: Vec<Option<Arc<str>>>,
}

impl Decoder {
    /// For a connection of `version` that may set so many topic aliases.
    pub(super) fn new(version: ProtocolVersion, topic_alias_max: u16) -> Self {
        Self {
            version,
            topic_alias_max,
            aliases: Vec::new(),
        }
    }

    /// The version.
    pub(super) fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Decodes `frame`, which [`guard::peek`] found at the start of `buf`, and which arrived at `now`.
    pub(super) fn decode(
        &mut self,
        frame: Frame,
        buf: &[u8],
        now: Timestamp,
    ) -> Result<Packet, Refusal> {
        let body = buf
            .get(frame.body_at..frame.end)
            .ok_or(Refusal::Malformed)?;
        match frame.kind() {
            guard::PUBLISH => return self.publish(frame.first, body, now).map(Packet::Session),
            guard::PINGREQ => return guard::ping(body).map(|()| Packet::Ping),
            guard::PUBACK | guard::PUBREC | guard::PUBREL | guard::PUBCOMP => {
                // Two bytes mean success in every version: by far the most frequent frame after PUBLISH.
                if let &[high, low] = body {
                    let packet_id = PacketId::new(u16::from_be_bytes([high, low]));
                    return short_ack(frame.kind(), packet_id.ok_or(Refusal::Malformed)?)
                        .map(Packet::Session);
                }
                guard::ack(self.version, body)?;
            }
            guard::SUBSCRIBE => guard::subscribe(self.version, body)?,
            guard::UNSUBSCRIBE => guard::unsubscribe(self.version, body)?,
            guard::DISCONNECT => guard::disconnect(self.version, body)?,
            // No authentication was begun, so there is none to go on with ([MQTT-4.12.0-6] and section 4.12.1).
            _ => return Err(Refusal::Protocol),
        }
        let bytes = &buf[..frame.end];
        match self.version {
            ProtocolVersion::V31 | ProtocolVersion::V311 => match decode_v3(bytes)? {
                v3::Decoded::Packet(packet, _) => from_v3(packet),
                v3::Decoded::Publish(..) | v3::Decoded::PayloadChunk(..) => Err(Refusal::Malformed),
            },
            ProtocolVersion::V5 => match decode_v5(bytes)? {
                v5::Decoded::Packet(packet, _) => from_v5(packet),
                v5::Decoded::Publish(..) | v5::Decoded::PayloadChunk(..) => Err(Refusal::Malformed),
            },
        }
        .map(Packet::Session)
    }

    fn publish(&mut self, first: u8, body: &[u8], now: Timestamp) -> Result<Inbound, Refusal> {
        let layout = guard::publish(self.version, first, body)?;
        let payload = body.get(layout.payload_at..).ok_or(Refusal::Malformed)?;
        let head = Head {
            first,
            body: &body[..layout.payload_at],
            zero_expiry_at: layout.zero_expiry_at,
        };
        match self.version {
            ProtocolVersion::V31 | ProtocolVersion::V311 => {
                let packet = head.decode_v3()?;
                if !is_topic_name(&packet.topic) {
                    return Err(Refusal::TopicName);
                }
                Ok(Inbound::Publish {
                    message: Arc::new(Message::new(MessageParts {
                        topic: &packet.topic,
                        payload,
                        properties: &[],
                        qos: qos(packet.qos),
                        retain: packet.retain,
                        published_at: now,
                        expires_at: None,
                        publisher: SessionNumber(0),
                    })),
                    packet_id: packet.packet_id.map(PacketId),
                    dup: packet.dup,
                })
            }
            ProtocolVersion::V5 => {
                let packet = head.decode_v5()?;
                let resolved;
                let topic = match layout.alias {
                    Some(alias) => {
                        resolved = self.resolve(alias, &packet.topic)?;
                        &*resolved
                    }
                    None => &packet.topic,
                };
                if !is_topic_name(topic) {
                    return Err(Refusal::TopicName);
                }
                let block = ApplicationBlock::of(body, &layout)?;
                Ok(Inbound::Publish {
                    message: Arc::new(Message::new(MessageParts {
                        topic,
                        payload,
                        properties: block.bytes(),
                        qos: qos(packet.qos),
                        retain: packet.retain,
                        published_at: now,
                        expires_at: expires_at(&packet.properties, &layout, now),
                        publisher: SessionNumber(0),
                    })),
                    packet_id: packet.packet_id.map(PacketId),
                    dup: packet.dup,
                })
            }
        }
    }

    /// The topic that `alias` stands for, after setting it to `topic` unless that is empty.
    fn resolve(&mut self, alias: u16, topic: &str) -> Result<Arc<str>, Refusal> {
        // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
        if alias == 0 || alias > self.topic_alias_max {
            return Err(Refusal::TopicAlias);
        }
        let at = usize::from(alias) - 1;
        if topic.is_empty() {
            return self
                .aliases
                .get(at)
                .cloned()
                .flatten()
                .ok_or(Refusal::Protocol);
        }
        if self.aliases.len() <= at {
            self.aliases.resize(at + 1, None);
        }
        let slot = &mut self.aliases[at];
        match slot {
            Some(known) if &**known == topic => Ok(Arc::clone(known)),
            _ => Ok(Arc::clone(slot.insert(Arc::from(topic)))),
        }
    }
}

fn expires_at(
    properties: &v5::PublishProperties,
    layout: &PublishLayout,
    now: Timestamp,
) -> Option<Timestamp> {
    match layout.zero_expiry_at {
        Some(_) => Some(now),
        None => properties
            .message_expiry_interval
            .map(|seconds| now.plus_seconds(seconds.get())),
    }
}

fn short_ack(kind: u8, packet_id: PacketId) -> Result<Inbound, Refusal> {
    let failed = false;
    match kind {
        guard::PUBACK => Ok(Inbound::PubAck { packet_id, failed }),
        guard::PUBREC => Ok(Inbound::PubRec { packet_id, failed }),
        guard::PUBREL => Ok(Inbound::PubRel { packet_id }),
        guard::PUBCOMP => Ok(Inbound::PubComp { packet_id }),
        _ => Err(Refusal::Malformed),
    }
}

fn from_v3(packet: v3::Packet) -> Result<Inbound, Refusal> {
    match packet {
        v3::Packet::Subscribe {
            packet_id,
            topic_filters,
        } => Ok(Inbound::Subscribe {
            packet_id: PacketId(packet_id),
            filters: topic_filters
                .iter()
                .map(|(text, level)| {
                    let options = SubscriptionOptions::of_qos(qos(*level));
                    Ok((filter(text)?, options, None))
                })
                .collect::<Result<_, Refusal>>()?,
        }),
        v3::Packet::Unsubscribe {
            packet_id,
            topic_filters,
        } => Ok(Inbound::Unsubscribe {
            packet_id: PacketId(packet_id),
            filters: topic_filters
                .iter()
                .map(|text| filter(text))
                .collect::<Result<_, Refusal>>()?,
        }),
        v3::Packet::Disconnect => Ok(Inbound::Disconnect {
            with_will: false,
            expiry_seconds: None,
        }),
        // Acknowledgements have two bytes in 3.x and were read before.
        v3::Packet::PublishAck { .. }
        | v3::Packet::PublishReceived { .. }
        | v3::Packet::PublishRelease { .. }
        | v3::Packet::PublishComplete { .. }
        | v3::Packet::PingRequest => Err(Refusal::Malformed),
        v3::Packet::Connect(_)
        | v3::Packet::ConnectAck(_)
        | v3::Packet::SubscribeAck { .. }
        | v3::Packet::UnsubscribeAck { .. }
        | v3::Packet::PingResponse => Err(Refusal::Protocol),
    }
}

fn from_v5(packet: v5::Packet) -> Result<Inbound, Refusal> {
    match packet {
        v5::Packet::PublishAck(ack) => Ok(Inbound::PubAck {
            packet_id: PacketId(ack.packet_id),
            failed: u8::from(ack.reason_code) >= 0x80,
        }),
        v5::Packet::PublishReceived(ack) => Ok(Inbound::PubRec {
            packet_id: PacketId(ack.packet_id),
            failed: u8::from(ack.reason_code) >= 0x80,
        }),
        v5::Packet::PublishRelease(ack) => Ok(Inbound::PubRel {
            packet_id: PacketId(ack.packet_id),
        }),
        v5::Packet::PublishComplete(ack) => Ok(Inbound::PubComp {
            packet_id: PacketId(ack.packet_id),
        }),
        v5::Packet::Subscribe(subscribe) => from_subscribe(&subscribe),
        v5::Packet::Unsubscribe(unsubscribe) => Ok(Inbound::Unsubscribe {
            packet_id: PacketId(unsubscribe.packet_id),
            filters: unsubscribe
                .topic_filters
                .iter()
                .map(|text| filter(text))
                .collect::<Result<_, Refusal>>()?,
        }),
        v5::Packet::Disconnect(disconnect) => Ok(Inbound::Disconnect {
            // Every code but 0x00 means that something is wrong or that the will is wanted ([MQTT-3.14.4-3]).
            with_will: disconnect.reason_code != v5::DisconnectReasonCode::NormalDisconnection,
            expiry_seconds: disconnect.session_expiry_interval_secs,
        }),
        v5::Packet::PingRequest => Err(Refusal::Malformed),
        v5::Packet::Connect(_)
        | v5::Packet::ConnectAck(_)
        | v5::Packet::SubscribeAck(_)
        | v5::Packet::UnsubscribeAck(_)
        | v5::Packet::PingResponse
        | v5::Packet::Auth(_) => Err(Refusal::Protocol),
    }
}

fn from_subscribe(subscribe: &v5::Subscribe) -> Result<Inbound, Refusal> {
    let id = subscribe.id.map(std::num::NonZeroU32::get);
    let filters = subscribe
        .topic_filters
        .iter()
        .map(|(text, options)| {
            let options = SubscriptionOptions {
                qos: qos(options.qos),
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: match options.retain_handling {
                    v5::RetainHandling::AtSubscribe => RetainHandling::AtSubscribe,
                    v5::RetainHandling::AtSubscribeNew => RetainHandling::IfNew,
                    v5::RetainHandling::NoAtSubscribe => RetainHandling::Never,
                },
                id,
            };
            Ok((filter(text)?, options, None))
        })
        .collect::<Result<_, Refusal>>()?;
    Ok(Inbound::Subscribe {
        packet_id: PacketId(subscribe.packet_id),
        filters,
    })
}

/// A filter that is none ends the connection: the vocabulary of the model has no invalid filters, and clients check
/// theirs before they send them.
fn filter(text: &str) -> Result<Filter, Refusal> {
    Filter::new(text).ok_or(Refusal::TopicFilter)
}

pub(super) fn qos(level: CodecQoS) -> QoS {
    match level {
        CodecQoS::AtMostOnce => QoS::AtMostOnce,
        CodecQoS::AtLeastOnce => QoS::AtLeastOnce,
        CodecQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// The application properties of a PUBLISH or a will, as the message keeps them: verbatim, in order, without those
/// that are the broker's own business.
pub(super) enum ApplicationBlock<'a> {
    /// A piece of the packet.
    Clean(&'a [u8]),
    /// What remains after something was left out.
    Filtered(Vec<u8>),
}

impl<'a> ApplicationBlock<'a> {
    fn of(body: &'a [u8], layout: &PublishLayout) -> Result<Self, Refusal> {
        let block = body
            .get(layout.properties.clone())
            .ok_or(Refusal::Malformed)?;
        if layout.block_is_clean {
            return Ok(Self::Clean(block));
        }
        Self::filter(block)
    }

    /// `block` without message expiry, topic alias, subscription identifiers and will delay.
    pub(super) fn filter(block: &'a [u8]) -> Result<Self, Refusal> {
        let mut kept = Vec::new();
        properties::walk(block, |property| {
            if !matches!(
                property.id,
                properties::MESSAGE_EXPIRY
                    | properties::TOPIC_ALIAS
                    | properties::SUBSCRIPTION_ID
                    | properties::WILL_DELAY
            ) {
                kept.extend_from_slice(&block[property.start..property.end]);
            }
            Ok(())
        })?;
        Ok(Self::Filtered(kept))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Clean(block) => block,
            Self::Filtered(block) => block,
        }
    }
}

thread_local! {
    /// What the codec reads from. Empty between frames, and nothing decoded outlives its frame, so its memory is
    /// used again and again.
    static FRAME: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(4096));
}

/// More than this is not kept by a thread for the next frame.
const FRAME_BYTES_KEPT: usize = 64 * 1024;

/// Runs `decode` on `parts` put together. Whatever it leaves is dropped.
fn with_frame<T>(parts: &[&[u8]], decode: impl FnOnce(&mut BytesMut) -> T) -> T {
    FRAME.with_borrow_mut(|frame| {
        frame.clear();
        for part in parts {
            frame.extend_from_slice(part);
        }
        let decoded = decode(frame);
        if frame.capacity() > FRAME_BYTES_KEPT {
            *frame = BytesMut::with_capacity(4096);
        }
        decoded
    })
}

/// Decodes one whole frame of 3.1.1.
pub(super) fn decode_v3(frame: &[u8]) -> Result<v3::Decoded, Refusal> {
    with_frame(&[frame], |bytes| {
        let decoded = v3::Codec::new().decode(bytes).map_err(refusal)?;
        decoded.ok_or(Refusal::Malformed)
    })
}

/// Decodes one whole frame of 5.0.
pub(super) fn decode_v5(frame: &[u8]) -> Result<v5::Decoded, Refusal> {
    with_frame(&[frame], |bytes| {
        let decoded = v5::Codec::new().decode(bytes).map_err(refusal)?;
        decoded.ok_or(Refusal::Malformed)
    })
}

/// A PUBLISH up to its payload.
struct Head<'a> {
    first: u8,
    body: &'a [u8],
    zero_expiry_at: Option<usize>,
}

impl Head<'_> {
    /// The fixed header of a PUBLISH with this head and no payload.
    fn fixed_header(&self) -> ([u8; 5], usize) {
        let mut header = [0; 5];
        header[0] = self.first;
        let mut length = self.body.len();
        let mut at = 1;
        loop {
            let byte = u8::try_from(length & 0x7F).unwrap_or_default();
            length >>= 7;
            if length == 0 || at == 4 {
                header[at] = byte;
                return (header, at + 1);
            }
            header[at] = byte | 0x80;
            at += 1;
        }
    }

    fn decode_v3(&self) -> Result<v3::Publish, Refusal> {
        let (header, length) = self.fixed_header();
        with_frame(
            &[&header[..length], self.body],
            |bytes| match v3::Codec::new().decode(bytes).map_err(refusal)? {
                Some(v3::Decoded::Publish(publish, _, _)) => Ok(publish),
                _ => Err(Refusal::Malformed),
            },
        )
    }

    fn decode_v5(&self) -> Result<v5::Publish, Refusal> {
        let (header, length) = self.fixed_header();
        with_frame(&[&header[..length], self.body], |bytes| {
            if let Some(at) = self.zero_expiry_at {
                one_second(bytes, length + at)?;
            }
            match v5::Codec::new().decode(bytes).map_err(refusal)? {
                Some(v5::Decoded::Publish(publish, _, _)) => Ok(publish),
                _ => Err(Refusal::Malformed),
            }
        })
    }
}

/// Makes a message expiry interval of zero, which is legal, one that the codec takes. The guard remembers the zero.
pub(super) fn one_second(bytes: &mut [u8], at: usize) -> Result<(), Refusal> {
    let interval = bytes.get_mut(at..at + 4).ok_or(Refusal::Malformed)?;
    interval.copy_from_slice(&1_u32.to_be_bytes());
    Ok(())
}

pub(super) fn refusal(error: DecodeError) -> Refusal {
    match error {
        DecodeError::UnsupportedProtocolLevel | DecodeError::InvalidProtocol => Refusal::Version,
        DecodeError::InvalidClientId => Refusal::ClientId,
        DecodeError::MaxSizeExceeded { .. } => Refusal::PacketTooLarge,
        DecodeError::InvalidLength
        | DecodeError::MalformedPacket
        | DecodeError::ConnectReservedFlagSet
        | DecodeError::ConnAckReservedFlagSet
        | DecodeError::UnsupportedPacketType
        | DecodeError::PacketIdRequired
        | DecodeError::Utf8Error
        | DecodeError::UnexpectedPayload => Refusal::Malformed,
    }
}

/// A receive maximum that was not sent.
pub(super) const RECEIVE_MAX_DEFAULT: NonZeroU16 = NonZeroU16::MAX;

#[cfg(test)]
mod tests;
