//! MQTT 3.1, and bridges of 3.x: their CONNECT differs from that of a 3.1.1 client in the protocol name and level only, so
//! it is rewritten. A 3.1 client may also say that there is a user name or password and send none; then the flag goes.
//!
//! What else differs of 3.1 is remembered as [`ProtocolVersion::V31`](outlive_actors::model::packet::ProtocolVersion::V31):
//! client ids have 1 to 23 characters, SUBACK has no failure code, CONNACK no session-present bit.

/// Protocol name and level at the start of a CONNECT's body that have to be rewritten: MQTT 3.1, and bridges of 3.x.
const REWRITTEN: [&[u8]; 3] = [
    b"\x00\x06MQIsdp\x03",
    b"\x00\x06MQIsdp\x83",
    b"\x00\x04MQTT\x84",
];
/// Those of MQTT 3.1.1.
const V311: &[u8] = b"\x00\x04MQTT\x04";

/// The most characters of a client id in MQTT 3.1.
pub(super) const CLIENT_ID_CHARS_MAX: usize = 23;

/// The body as a 3.1.1 client would have sent it, with these flags; `None` if one has, or if it is of 5.0.
pub(super) fn rewrite(body: &[u8], flags: u8) -> Option<Vec<u8>> {
    let rest = REWRITTEN
        .iter()
        .find_map(|start| body.strip_prefix(*start))?;
    let (_, rest) = rest.split_first()?;
    let mut rewritten = Vec::with_capacity(V311.len() + 1 + rest.len());
    rewritten.extend_from_slice(V311);
    rewritten.push(flags);
    rewritten.extend_from_slice(rest);
    Some(rewritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_level_and_flags_change() {
        for start in REWRITTEN {
            let body = [start, b"\x02\x00\x3c\x00\x01a"].concat();
            assert_eq!(
                rewrite(&body, 2).unwrap(),
                b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
            );
        }
    }

    #[test]
    fn other_versions_are_left_alone() {
        assert_eq!(rewrite(b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a", 2), None);
        assert_eq!(rewrite(b"\x00\x06MQIsdp\x04\x02\x00\x3c\x00\x01a", 2), None);
        assert_eq!(rewrite(b"\x00\x06MQIsdp\x03", 2), None);
        assert_eq!(rewrite(b"", 2), None);
    }
}
