//! From frames to the vocabulary of the model; with `connect` and `codec`, alone knows both versions of ntex's packets.
//!
//! Owns: the way through guard and codec, the tenant in front of topics and filters, the checks that need more than one frame's bytes. Does not know: sockets, actors, reason codes.

use std::sync::Arc;

use ntex_mqtt::{v3::codec as v3, v5::codec as v5};
use outlive_actors::model::ids::{PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::{
    Inbound, ProtocolVersion, RetainHandling, SubscriptionOptions,
};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;
use outlive_actors::model::topic::{Filter, is_topic_name};

use super::aliases::Aliases;
use super::codec::{Head, decode_v3, decode_v5, qos};
use super::guard::{self, Frame, PublishLayout};
use super::properties;

/// A packet of an open connection.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// Concerns the session.
    Session(Inbound),
    /// PINGREQ.
    Ping,
    /// AUTH, by its body.
    Auth(Box<[u8]>),
}

/// Turns the frames of one open connection into packets.
#[derive(Debug)]
pub(super) struct Decoder {
    version: ProtocolVersion,
    /// The client said in its CONNECT that it is a bridge.
    is_bridge: bool,
    topic_alias_max: u16,
    /// The session that publishes, once it is known.
    publisher: SessionNumber,
    /// From the first alias on.
    aliases: Option<Box<Aliases>>,
}

impl Decoder {
    /// For a connection of `version` that may set so many topic aliases.
    pub(super) fn new(version: ProtocolVersion, topic_alias_max: u16) -> Self {
        Self {
            version,
            is_bridge: false,
            topic_alias_max,
            publisher: SessionNumber(0),
            aliases: None,
        }
    }

    /// The same for a bridge: its subscriptions have the options that keep messages from going round in circles, which
    /// 3.x has no words for ([`SubscriptionOptions::of_bridge`]).
    pub(super) fn of_bridge(self, is_bridge: bool) -> Self {
        Self { is_bridge, ..self }
    }

    /// From now on publications are those of session `publisher`.
    pub(super) fn publish_as(&mut self, publisher: SessionNumber) {
        self.publisher = publisher;
    }

    /// The version.
    pub(super) fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Decodes `frame`, which [`guard::peek`] found at the start of `buf`, and which arrived at `now`, from a client of
    /// `tenant`.
    pub(super) fn decode(
        &mut self,
        frame: Frame,
        buf: &[u8],
        now: Timestamp,
        tenant: Option<&Tenant>,
    ) -> Result<Packet, Refusal> {
        let body = buf
            .get(frame.body_at..frame.end)
            .ok_or(Refusal::Malformed)?;
        match frame.kind() {
            guard::PUBLISH => {
                let message = self.publish(frame.first, body, now, tenant);
                return message.map(Packet::Session);
            }
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
            guard::AUTH => return Ok(Packet::Auth(body.into())),
            _ => return Err(Refusal::Protocol),
        }
        let bytes = &buf[..frame.end];
        match self.version {
            ProtocolVersion::V31 | ProtocolVersion::V311 => match decode_v3(bytes)? {
                v3::Decoded::Packet(packet, _) => from_v3(packet, self.is_bridge),
                v3::Decoded::Publish(..) | v3::Decoded::PayloadChunk(..) => Err(Refusal::Malformed),
            },
            ProtocolVersion::V5 => match decode_v5(bytes)? {
                v5::Decoded::Packet(packet, _) => from_v5(packet),
                v5::Decoded::Publish(..) | v5::Decoded::PayloadChunk(..) => Err(Refusal::Malformed),
            },
        }
        .map(|packet| Packet::Session(of_tenant(packet, tenant)))
    }

    fn publish(
        &mut self,
        first: u8,
        body: &[u8],
        now: Timestamp,
        tenant: Option<&Tenant>,
    ) -> Result<Inbound, Refusal> {
        let prefix_of = |own| tenant.map_or("", |tenant| tenant.prefix_of(own));
        let layout = guard::publish(self.version, first, body)?;
        let payload = body.get(layout.payload_at..).ok_or(Refusal::Malformed)?;
        match self.version {
            ProtocolVersion::V31 | ProtocolVersion::V311 => {
                let head = HeadV3::read(first, &body[..layout.payload_at])?;
                let parts = MessageParts {
                    topic: head.topic,
                    payload,
                    properties: &[],
                    qos: head.qos,
                    retain: first & 0x01 != 0,
                    published_at: now,
                    expires_at: None,
                    publisher: self.publisher,
                };
                Ok(Inbound::Publish {
                    message: Arc::new(Message::below(prefix_of(head.topic), parts)),
                    packet_id: head.packet_id,
                    dup: first & 0x08 != 0,
                })
            }
            ProtocolVersion::V5 => {
                let head = Head {
                    first,
                    body: &body[..layout.payload_at],
                    zero_expiry_at: layout.zero_expiry_at,
                };
                let packet = head.decode_v5()?;
                let resolved;
                let topic = match layout.alias {
                    Some(alias) => {
                        let aliases = self.aliases.get_or_insert_default();
                        resolved = aliases.resolve(alias, &packet.topic, self.topic_alias_max)?;
                        &*resolved
                    }
                    None => &packet.topic,
                };
                if !is_topic_name(topic) {
                    return Err(Refusal::TopicName);
                }
                let block = ApplicationBlock::of(body, &layout)?;
                let parts = MessageParts {
                    topic,
                    payload,
                    properties: block.bytes(),
                    qos: qos(packet.qos),
                    retain: packet.retain,
                    published_at: now,
                    expires_at: expires_at(&packet.properties, &layout, now),
                    publisher: self.publisher,
                };
                Ok(Inbound::Publish {
                    message: Arc::new(Message::below(prefix_of(topic), parts)),
                    packet_id: packet.packet_id.map(PacketId),
                    dup: packet.dup,
                })
            }
        }
    }
}

/// The packet with the filters by which the broker knows them.
fn of_tenant(mut packet: Inbound, tenant: Option<&Tenant>) -> Inbound {
    let Some(tenant) = tenant else {
        return packet;
    };
    let own: &mut dyn Iterator<Item = &mut Filter> = match &mut packet {
        Inbound::Subscribe { filters, .. } => &mut filters.iter_mut().map(|(filter, ..)| filter),
        Inbound::Unsubscribe { filters, .. } => &mut filters.iter_mut(),
        Inbound::Publish { .. }
        | Inbound::PubAck { .. }
        | Inbound::PubRec { .. }
        | Inbound::PubRel { .. }
        | Inbound::PubComp { .. }
        | Inbound::Disconnect { .. }
        | Inbound::Room => return packet,
    };
    own.for_each(|filter| *filter = tenant.filter(filter));
    packet
}

/// The header of a 3.x PUBLISH, which every publication of such a client begins with: three fields that the guard has
/// already measured, read in place instead of through the codec's buffer.
struct HeadV3<'a> {
    topic: &'a str,
    qos: QoS,
    packet_id: Option<PacketId>,
}

impl<'a> HeadV3<'a> {
    /// `body` ends where the payload begins.
    fn read(first: u8, body: &'a [u8]) -> Result<Self, Refusal> {
        let qos = QoS::from_level(first >> 1 & 0x03).ok_or(Refusal::Malformed)?;
        let (packet_id, topic) = match qos {
            QoS::AtMostOnce => (None, body.get(2..)),
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let (topic, id) = body.split_last_chunk().ok_or(Refusal::Malformed)?;
                let id = PacketId::new(u16::from_be_bytes(*id)); // [MQTT-2.3.1-1]
                (Some(id.ok_or(Refusal::Malformed)?), topic.get(2..))
            }
        };
        let topic = std::str::from_utf8(topic.ok_or(Refusal::Malformed)?)
            .map_err(|_| Refusal::Malformed)?;
        if !is_topic_name(topic) {
            return Err(Refusal::TopicName);
        }
        Ok(Self {
            topic,
            qos,
            packet_id,
        })
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

fn from_v3(packet: v3::Packet, is_bridge: bool) -> Result<Inbound, Refusal> {
    match packet {
        v3::Packet::Subscribe {
            packet_id,
            topic_filters,
        } => Ok(Inbound::Subscribe {
            packet_id: PacketId(packet_id),
            filters: topic_filters
                .iter()
                .map(|(text, level)| {
                    let filter = filter(text)?;
                    let options = match is_bridge {
                        true => SubscriptionOptions::of_bridge(qos(*level), &filter),
                        false => SubscriptionOptions::of_qos(qos(*level)),
                    };
                    Ok((filter, options, None))
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

#[cfg(test)]
mod tests;
