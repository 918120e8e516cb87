//! The limits of the wire. Every one has a unit in its name and an answer when it is reached; the defaults are those of
//! [`MqttConfig`].

use std::num::NonZeroU16;

use outlive_actors::model::ids::ClientId;
use outlive_actors::model::topic::is_topic_name;

use outlive_actors::model::message::QoS;

use crate::config::MqttConfig;

/// Limits of MQTT listeners and connections (the section `mqtt` of the configuration).
///
/// What one connection can make the broker hold: at most `packet_bytes_max` + 64 KiB of a packet that is still
/// arriving, at most 1 MiB and one packet on their way to the session, of all connections at most `inbound_bytes_max` and
/// what one of them has read, at most twice `write_buffer_high_bytes` + one packet for encoded bytes that wait for the socket, and
/// besides these only shared references to messages in its send window; all that waits is at most
/// `write_buffer_max_bytes`. Topic aliases of a 5.0 client add at most `topic_alias_max` topics
/// in each direction.
/// An idle connection holds no buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireConfig {
    /// The largest packet that a client may send, header included. Larger ones are refused from their header, before
    /// memory is taken (5.0: DISCONNECT 0x95).
    pub packet_bytes_max: u32,
    /// The largest CONNECT, which a client sends before anybody vouches for it. Larger ones end the connection.
    pub connect_bytes_max: u32,
    /// How long a client may take from accept to a whole CONNECT, how long authentication may take, and how long
    /// the session may take to answer. Then the connection ends.
    pub connect_timeout_millis: u64,
    /// The most connections that have not authenticated yet; what comes above is closed at once.
    pub unauthenticated_max: usize,
    /// The most connections that have authenticated; 0: no limit. Above, a CONNECT is refused (5.0: 0x89, 3.x: 3), even
    /// one that would take over a connection.
    pub connections_max: usize,
    /// CONNECTs per second, of all clients; 0: no limit. Above, a CONNECT is refused (5.0: 0x9F, 3.x: 3).
    pub connects_per_second_max: u32,
    /// The longest keep-alive of 5.0 clients, which are told (Server Keep Alive); 0: no limit. 3.x clients cannot be
    /// told and keep what they ask for.
    pub keep_alive_seconds_max: u16,
    /// What the response topics of 5.0 clients shall begin with, for those that ask; `{client_id}` stands for theirs.
    pub response_information: String,
    /// Topic aliases that a 5.0 client may set, and that the broker sets towards it if it allows so many; 0: none. Above,
    /// DISCONNECT 0x94.
    pub topic_alias_max: u16,
    /// The highest QoS that clients may publish with and are granted. Above, a PUBLISH ends the connection (5.0: 0x9B), a
    /// will is refused at CONNECT.
    pub qos_max: QoS,
    /// Whether a payload whose format indicator says UTF-8 must be UTF-8. If not, it is refused with 0x99.
    pub check_payload_format: bool,
    /// The most levels of a topic or filter. Above, a PUBLISH is refused with 0x90 in the acknowledgement of 5.0, or else ends
    /// the connection, a will is refused at CONNECT, a filter with 0x8F.
    pub topic_levels_max: u16,
    /// The most bytes of a topic, or of a filter with the name of its group. Above, as with `topic_levels_max`.
    pub topic_bytes_max: u16,
    /// The most bytes of a client id. Above, CONNECT is refused (5.0: 0x85, 3.x: 2).
    pub client_id_bytes_max: u16,
    /// Whether a client id of 3.1 with more than 23 characters is refused.
    pub strict_v31_client_ids: bool,
    /// Unacknowledged QoS 1 and 2 publications that a 5.0 client may have under way. Above, DISCONNECT 0x93.
    pub receive_max: NonZeroU16,
    /// What the packets of all connections may take in memory from when they are read until their sessions have dealt with
    /// them, in bytes. From there on nobody is read until they take half of it.
    pub inbound_bytes_max: u64,
    /// With so many bytes waiting for a client's socket, QoS 0 deliveries to it are dropped and its packets are no
    /// longer read, until it reads again.
    pub write_buffer_high_bytes: usize,
    /// With so many bytes waiting for a client, its connection is closed. Messages in its send window count, so keep
    /// it above the session's in-flight limit times the size of usual messages.
    pub write_buffer_max_bytes: usize,
    /// A connection whose client takes no byte for so long while bytes wait is closed.
    pub write_timeout_millis: u64,
}

impl WireConfig {
    /// What CONNACK tells a client that asks what response topics shall begin with.
    pub(super) fn response_information(&self, client_id: &ClientId) -> Option<String> {
        let text = &self.response_information;
        let text = text.replace("{client_id}", client_id.own());
        // A client id may hold what a topic may not.
        is_topic_name(&text).then_some(text)
    }
}

impl From<&MqttConfig> for WireConfig {
    fn from(mqtt: &MqttConfig) -> Self {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            packet_bytes_max: mqtt.packet_bytes_max,
            connect_bytes_max: mqtt.connect_bytes_max,
            connect_timeout_millis: u64::from(mqtt.connect_timeout_millis),
            unauthenticated_max: size(mqtt.unauthenticated_max),
            connections_max: size(mqtt.connections_max),
            connects_per_second_max: mqtt.connects_per_second_max,
            keep_alive_seconds_max: mqtt.keep_alive_seconds_max,
            response_information: mqtt.response_information.clone(),
            topic_alias_max: mqtt.topic_alias_max,
            qos_max: QoS::from_level(mqtt.qos_max).unwrap_or(QoS::ExactlyOnce),
            check_payload_format: mqtt.check_payload_format,
            topic_levels_max: mqtt.topic_levels_max,
            topic_bytes_max: mqtt.topic_bytes_max,
            client_id_bytes_max: mqtt.client_id_bytes_max,
            strict_v31_client_ids: mqtt.strict_v31_client_ids,
            // The configuration has been checked: it is not 0.
            receive_max: NonZeroU16::new(mqtt.receive_max).unwrap_or(NonZeroU16::MIN),
            inbound_bytes_max: mqtt.inbound_bytes_max,
            write_buffer_high_bytes: size(mqtt.write_buffer_high_bytes),
            write_buffer_max_bytes: size(mqtt.write_buffer_max_bytes),
            write_timeout_millis: u64::from(mqtt.write_timeout_millis),
        }
    }
}

#[cfg(test)]
impl Default for WireConfig {
    fn default() -> Self {
        Self::from(&MqttConfig::default())
    }
}
