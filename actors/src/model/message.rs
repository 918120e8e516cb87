//! Application messages: what a publication is from the door to the last acknowledgement.
//!
//! Owns: the one in-memory form of a publication, shared by routing, journal and every delivery. Does not know: wires
//! or protocol versions; the application properties are carried as one opaque block.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{SessionNumber, Timestamp};
use super::tenant::Tenant;

/// What it takes to share a value: the counts of an `Arc`.
pub(super) const SHARED_BYTES: usize = 2 * size_of::<usize>();

/// Quality of service (MQTT 5.0 section 4.3). Ordered: `AtMostOnce < AtLeastOnce < ExactlyOnce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// `None` above 2, which is malformed ([MQTT-3.3.1-4]).
    pub fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn level(self) -> u8 {
        self as u8
    }
}

/// The parts of a [`Message`], to build one.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts<'a> {
    /// Topic name: no wildcards, no U+0000, 1 to 65,535 bytes; checked at the door.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The application properties as one block in the encoding of MQTT 5.0 section 2.2.2.2, *without* the length in
    /// front: payload format indicator, content type, response topic, correlation data and user properties in the
    /// order in which they came. Never message expiry, topic alias or subscription identifiers. Validated at the
    /// door; empty for 3.x publications without any.
    pub properties: &'a [u8],
    /// QoS with which it was published.
    pub qos: QoS,
    /// The RETAIN flag with which it was published.
    pub retain: bool,
    /// When the broker received it.
    pub published_at: Timestamp,
    /// When it expires, from the message expiry interval; `None` never.
    pub expires_at: Option<Timestamp>,
    /// The session that published it (for no-local and ordering).
    pub publisher: SessionNumber,
}

/// One publication, immutable, shared by `Arc` between routing, journal and all deliveries.
///
/// Topic, properties and payload lie in one allocation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "MessageValue", from = "MessageValue")]
pub struct Message {
    bytes: Box<[u8]>,
    properties_at: u32,
    payload_at: u32,
    /// QoS with which it was published.
    pub qos: QoS,
    /// The RETAIN flag with which it was published.
    pub retain: bool,
    /// When the broker received it.
    pub published_at: Timestamp,
    /// When it expires; `None` never.
    pub expires_at: Option<Timestamp>,
    /// The session that published it.
    pub publisher: SessionNumber,
}

impl Message {
    /// Copies the parts into a message.
    ///
    /// # Panics
    /// If topic and properties together exceed `u32`; the wire's packet limit (256 MiB) keeps them far below.
    pub fn new(parts: MessageParts<'_>) -> Self {
        Self::below("", parts)
    }

    /// Copies the parts into a message whose topic is that of the parts with `prefix` in front: see
    /// [`Tenant::prefix_of`](super::tenant::Tenant::prefix_of).
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn below(prefix: &str, parts: MessageParts<'_>) -> Self {
        let properties_at = prefix.len() + parts.topic.len();
        let payload_at = properties_at + parts.properties.len();
        let mut bytes = Vec::with_capacity(payload_at + parts.payload.len());
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.extend_from_slice(parts.topic.as_bytes());
        bytes.extend_from_slice(parts.properties);
        bytes.extend_from_slice(parts.payload);
        Self {
            bytes: bytes.into_boxed_slice(),
            properties_at: u32::try_from(properties_at).expect("packets are below 256 MiB"),
            payload_at: u32::try_from(payload_at).expect("packets are below 256 MiB"),
            qos: parts.qos,
            retain: parts.retain,
            published_at: parts.published_at,
            expires_at: parts.expires_at,
            publisher: parts.publisher,
        }
    }

    /// This message on the topic of the same name of a tenant.
    #[must_use]
    pub fn of_tenant(&self, tenant: &Tenant) -> Self {
        let parts = MessageParts {
            topic: self.topic(),
            payload: self.payload(),
            properties: self.properties(),
            qos: self.qos,
            retain: self.retain,
            published_at: self.published_at,
            expires_at: self.expires_at,
            publisher: self.publisher,
        };
        Self::below(tenant.prefix_of(self.topic()), parts)
    }

    /// The topic name.
    pub fn topic(&self) -> &str {
        // Built from a `&str` of exactly this length.
        std::str::from_utf8(&self.bytes[..self.properties_at as usize]).unwrap_or_default()
    }

    /// The topic name's bytes, for the encoder.
    pub fn topic_bytes(&self) -> &[u8] {
        &self.bytes[..self.properties_at as usize]
    }

    /// The application properties (see [`MessageParts::properties`]).
    pub fn properties(&self) -> &[u8] {
        &self.bytes[self.properties_at as usize..self.payload_at as usize]
    }

    /// The application message.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload_at as usize..]
    }

    /// Bytes of topic, properties and payload, for limits and metrics.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The memory that it takes, however many share it, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>() + SHARED_BYTES
    }

    /// Whether the message expiry interval has passed at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl fmt::Debug for Message {
    /// Never prints payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// A will (MQTT 5.0 section 3.1.2.5): published when the connection ends without a clean DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    /// The will message; its `published_at` is set anew when it is published.
    pub message: Arc<Message>,
    /// Will delay interval in seconds; 0 for 3.x.
    pub delay_seconds: u32,
    /// Message expiry interval in seconds, counted from publication; `None` never.
    pub expiry_seconds: Option<u32>,
}

impl Will {
    /// The message to publish, now that the will is due.
    pub fn due(&self, now: Timestamp, publisher: SessionNumber) -> Arc<Message> {
        let mut message = Message::clone(&self.message);
        message.publisher = publisher;
        message.published_at = now;
        message.expires_at = self.expiry_seconds.map(|seconds| now.plus_seconds(seconds));
        Arc::new(message)
    }
}

/// How a message is written inside a durable value (a will in a snapshot).
#[derive(Serialize, Deserialize)]
struct MessageValue {
    topic: String,
    properties: Vec<u8>,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    published_at: Timestamp,
    expires_at: Option<Timestamp>,
    publisher: SessionNumber,
}

impl From<Message> for MessageValue {
    fn from(message: Message) -> Self {
        Self {
            topic: message.topic().to_owned(),
            properties: message.properties().to_vec(),
            payload: message.payload().to_vec(),
            qos: message.qos,
            retain: message.retain,
            published_at: message.published_at,
            expires_at: message.expires_at,
            publisher: message.publisher,
        }
    }
}

impl From<MessageValue> for Message {
    fn from(value: MessageValue) -> Self {
        Self::new(MessageParts {
            topic: &value.topic,
            payload: &value.payload,
            properties: &value.properties,
            qos: value.qos,
            retain: value.retain,
            published_at: value.published_at,
            expires_at: value.expires_at,
            publisher: value.publisher,
        })
    }
}
