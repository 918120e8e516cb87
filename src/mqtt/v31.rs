//! MQTT 3.1: its CONNECT differs from that of 3.1.1 in the protocol name and level only, so it is rewritten.
//!
//! What else differs is remembered as [`ProtocolVersion::V31`](outlive_actors::model::packet::ProtocolVersion::V31):
//! client ids have 1 to 23 characters, SUBACK has no failure code, CONNACK no session-present bit.

/// Protocol name and level of MQTT 3.1 at the start of a CONNECT's body.
const V31: &[u8] = b"\x00\x06MQIsdp\x03";
/// Those of MQTT 3.1.1.
const V311: &[u8] = b"\x00\x04MQTT\x04";

/// The most characters of a client id in MQTT 3.1.
pub(super) const CLIENT_ID_CHARS_MAX: usize = 23;

/// The body as a 3.1.1 client would have sent it; `None` if it is not of MQTT 3.1.
pub(super) fn rewrite(body: &[u8]) -> Option<Vec<u8>> {
    let rest = body.strip_prefix(V31)?;
    let mut rewritten = Vec::with_capacity(V311.len() + rest.len());
    rewritten.extend_from_slice(V311);
    rewritten.extend_from_slice(rest);
    Some(rewritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_name_and_level_change() {
        let body = b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a";
        assert_eq!(
            rewrite(body).unwrap(),
            b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
        );
    }

    #[test]
    fn other_versions_are_left_alone() {
        assert_eq!(rewrite(b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"), None);
        assert_eq!(rewrite(b"\x00\x06MQIsdp\x04\x02\x00\x3c\x00\x01a"), None);
        assert_eq!(rewrite(b""), None);
    }
}
