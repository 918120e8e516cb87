//! Section `mqtt`: listeners and the limits of one connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Listeners and what a connection may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Addresses and ports to listen on; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// The largest packet a client may send, header included.
    pub packet_bytes_max: u32,
    /// The largest CONNECT, which a client sends before anybody vouches for it.
    pub connect_bytes_max: u32,
    /// From accept to a complete, authenticated CONNECT.
    pub connect_timeout_millis: u32,
    /// The longest keep-alive of 5.0 clients; 0 = whatever the client asks for, none included.
    pub keep_alive_seconds_max: u16,
    /// What response topics shall begin with, for 5.0 clients that ask; `""` = nothing.
    pub response_information: String,
    /// Topic aliases per connection and direction, for 5.0 clients; 0 = none.
    pub topic_alias_max: u16,
    /// The highest QoS that clients may publish with and are granted.
    pub qos_max: u8,
    /// Whether payloads that say they are UTF-8 are checked.
    pub check_payload_format: bool,
    /// Levels of a topic or filter.
    pub topic_levels_max: u16,
    /// Bytes of a topic or filter.
    pub topic_bytes_max: u16,
    /// Bytes of a client id.
    pub client_id_bytes_max: u16,
    /// Whether a client id of 3.1 with more than 23 characters is refused.
    pub strict_v31_client_ids: bool,
    /// Unacknowledged QoS 1 and 2 publications that a client may have under way to the broker.
    pub receive_max: u16,
    /// Memory of packets that were read and not dealt with, of all clients.
    pub inbound_bytes_max: u64,
    /// Bytes waiting for a client to read, above which its QoS 0 deliveries are dropped and it is not read.
    pub write_buffer_high_bytes: u32,
    /// Bytes waiting for a client to read, above which its connection is closed.
    pub write_buffer_max_bytes: u32,
    /// How long a client may take no byte while bytes wait for it.
    pub write_timeout_millis: u32,
    /// Connections that have not completed CONNECT yet.
    pub unauthenticated_max: u32,
    /// Connections that have completed CONNECT; 0 = none.
    pub connections_max: u32,
    /// CONNECTs per second; 0 = none.
    pub connects_per_second_max: u32,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            listen: vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 1883),
            ],
            packet_bytes_max: 16_777_216,
            connect_bytes_max: 262_144,
            connect_timeout_millis: 10_000,
            keep_alive_seconds_max: 0,
            response_information: String::new(),
            topic_alias_max: 64,
            qos_max: 2,
            check_payload_format: false,
            topic_levels_max: 128,
            topic_bytes_max: 4096,
            client_id_bytes_max: 1024,
            strict_v31_client_ids: false,
            receive_max: 1024,
            inbound_bytes_max: 67_108_864,
            write_buffer_high_bytes: 262_144,
            write_buffer_max_bytes: 134_217_728,
            write_timeout_millis: 30_000,
            unauthenticated_max: 10_000,
            connections_max: 0,
            connects_per_second_max: 0,
        }
    }
}
