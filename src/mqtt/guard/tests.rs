use outlive_actors::model::packet::ProtocolVersion::{V5, V31, V311};

use super::*;

/// What the codec accepts, reads past or refuses with a panic: version, frame, expected refusal, why.
pub(in super::super) const HOLES: &[(ProtocolVersion, &[u8], Refusal, &str)] = &[
    // PUBLISH
    (
        V311,
        b"\x30\x03\x00\x05a",
        Refusal::Malformed,
        "topic longer than the packet",
    ),
    (
        V5,
        b"\x30\x03\x00\x05a",
        Refusal::Malformed,
        "topic longer than the packet",
    ),
    (
        V311,
        b"\x32\x04\x00\x01a\x00",
        Refusal::Malformed,
        "no room for the packet id",
    ),
    (
        V5,
        b"\x32\x05\x00\x01a\x00\x01",
        Refusal::Malformed,
        "no room for the property length",
    ),
    (
        V5,
        b"\x30\x05\x00\x01a\x05\x01",
        Refusal::Malformed,
        "properties longer than the packet",
    ),
    (V311, b"\x30\x00", Refusal::Malformed, "no topic at all"),
    (
        V311,
        b"\x30\x04\x00\x02a\x00",
        Refusal::Malformed,
        "U+0000 in a topic",
    ),
    (
        V5,
        b"\x30\x05\x00\x02a\x00\x00",
        Refusal::Malformed,
        "U+0000 in a topic",
    ),
    (
        V31,
        b"\x38\x03\x00\x01a",
        Refusal::Malformed,
        "DUP with QoS 0",
    ),
    (
        V5,
        b"\x38\x04\x00\x01a\x00",
        Refusal::Malformed,
        "DUP with QoS 0",
    ),
    (
        V311,
        b"\x36\x05\x00\x01a\x00\x01",
        Refusal::Malformed,
        "QoS 3",
    ),
    (
        V311,
        b"\x32\x05\x00\x01a\x00\x00",
        Refusal::Malformed,
        "packet id 0",
    ),
    (V311, b"\x30\x02\x00\x00", Refusal::TopicName, "empty topic"),
    (
        V5,
        b"\x30\x03\x00\x00\x00",
        Refusal::Protocol,
        "empty topic without alias",
    ),
    (
        V311,
        b"\x30\x05\x00\x03a/+",
        Refusal::TopicName,
        "wildcard in a topic",
    ),
    (
        V5,
        b"\x30\x06\x00\x03a/#\x00",
        Refusal::TopicName,
        "wildcard in a topic",
    ),
    (
        V5,
        b"\x30\x06\x00\x01a\x02\x0b\x01",
        Refusal::Protocol,
        "subscription id from a client",
    ),
    (
        V5,
        b"\x30\x08\x00\x01a\x04\x08\x00\x01+",
        Refusal::Protocol,
        "wildcard in a response topic",
    ),
    (
        V5,
        b"\x30\x08\x00\x01a\x04\x08\x00\x01#",
        Refusal::Protocol,
        "wildcard in a response topic",
    ),
    (
        V5,
        b"\x30\x08\x00\x01a\x04\x08\x00\x01\x00",
        Refusal::Malformed,
        "U+0000 in a property",
    ),
    (
        V5,
        b"\x30\x0b\x00\x01a\x07\x26\x00\x01k\x00\x01\x00",
        Refusal::Malformed,
        "U+0000 in a user property",
    ),
    (
        V5,
        b"\x30\x07\x00\x01a\x03\x23\x00\x00",
        Refusal::TopicAlias,
        "alias 0",
    ),
    (
        V5,
        b"\x30\x07\x00\x01a\x03\x23\x00\x05",
        Refusal::TopicAlias,
        "alias above the maximum",
    ),
    (
        V5,
        b"\x30\x06\x00\x00\x03\x23\x00\x01",
        Refusal::Protocol,
        "alias that was never set",
    ),
    (
        V5,
        b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00",
        Refusal::Protocol,
        "a property twice",
    ),
    (
        V5,
        b"\x30\x06\x00\x01a\x02\x11\x00",
        Refusal::Malformed,
        "a property of another packet",
    ),
    (
        V311,
        b"\x30\x04\x00\x02\xff\xfe",
        Refusal::Malformed,
        "a topic that is no UTF-8",
    ),
    // Acknowledgements
    (
        V311,
        b"\x40\x03\x00\x01\x00",
        Refusal::Malformed,
        "PUBACK of three bytes in 3.x",
    ),
    (
        V311,
        b"\x40\x02\x00\x00",
        Refusal::Malformed,
        "PUBACK with packet id 0",
    ),
    (
        V5,
        b"\x40\x01\x00",
        Refusal::Malformed,
        "PUBACK of one byte",
    ),
    (
        V5,
        b"\x40\x03\x00\x01\x01",
        Refusal::Malformed,
        "PUBACK with an unknown code",
    ),
    (
        V5,
        b"\x40\x08\x00\x01\x00\x04\x1f\x00\x01\x00",
        Refusal::Malformed,
        "U+0000 in a reason string",
    ),
    (
        V5,
        b"\x40\x05\x00\x01\x00\x05\x1f",
        Refusal::Malformed,
        "properties longer than the packet",
    ),
    (
        V311,
        b"\x60\x02\x00\x01",
        Refusal::Malformed,
        "PUBREL with wrong flags",
    ),
    (
        V311,
        b"\x41\x02\x00\x01",
        Refusal::Malformed,
        "PUBACK with flags",
    ),
    // SUBSCRIBE and UNSUBSCRIBE
    (
        V311,
        b"\x80\x06\x00\x01\x00\x01a\x00",
        Refusal::Malformed,
        "SUBSCRIBE with wrong flags",
    ),
    (
        V311,
        b"\x82\x02\x00\x01",
        Refusal::Protocol,
        "SUBSCRIBE without filters",
    ),
    (
        V5,
        b"\x82\x03\x00\x01\x00",
        Refusal::Protocol,
        "SUBSCRIBE without filters",
    ),
    (
        V311,
        b"\x82\x01\x00",
        Refusal::Malformed,
        "SUBSCRIBE without packet id",
    ),
    (
        V311,
        b"\x82\x06\x00\x00\x00\x01a\x00",
        Refusal::Malformed,
        "SUBSCRIBE with packet id 0",
    ),
    (
        V311,
        b"\x82\x06\x00\x01\x00\x01a\x04",
        Refusal::Malformed,
        "reserved option bits in 3.x",
    ),
    (
        V311,
        b"\x82\x06\x00\x01\x00\x01a\x03",
        Refusal::Malformed,
        "QoS 3",
    ),
    (
        V5,
        b"\x82\x07\x00\x01\x00\x00\x01a\x40",
        Refusal::Malformed,
        "reserved option bits",
    ),
    (
        V5,
        b"\x82\x07\x00\x01\x00\x00\x01a\x80",
        Refusal::Malformed,
        "reserved option bits",
    ),
    (
        V5,
        b"\x82\x07\x00\x01\x00\x00\x01a\x30",
        Refusal::Protocol,
        "retain handling 3",
    ),
    (
        V5,
        b"\x82\x07\x00\x01\x00\x00\x01a\x03",
        Refusal::Protocol,
        "QoS 3",
    ),
    (
        V5,
        b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x04",
        Refusal::Protocol,
        "no-local on a shared subscription",
    ),
    (
        V5,
        b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01a\x00",
        Refusal::Protocol,
        "subscription id 0",
    ),
    (
        V311,
        b"\x82\x05\x00\x01\x00\x01a",
        Refusal::Malformed,
        "filter without options",
    ),
    (
        V311,
        b"\x82\x06\x00\x01\x00\x01\x00\x00",
        Refusal::Malformed,
        "U+0000 in a filter",
    ),
    (
        V311,
        b"\x82\x07\x00\x01\x00\x02a#\x00",
        Refusal::TopicFilter,
        "a filter that is none",
    ),
    (
        V311,
        b"\x82\x05\x00\x01\x00\x00\x00",
        Refusal::TopicFilter,
        "an empty filter",
    ),
    (
        V311,
        b"\xa2\x02\x00\x01",
        Refusal::Protocol,
        "UNSUBSCRIBE without filters",
    ),
    (
        V5,
        b"\xa2\x03\x00\x01\x00",
        Refusal::Protocol,
        "UNSUBSCRIBE without filters",
    ),
    (
        V311,
        b"\xa2\x05\x00\x01\x00\x01\x00",
        Refusal::Malformed,
        "U+0000 in a filter",
    ),
    (
        V311,
        b"\xa2\x05\x00\x01\x00\x02a",
        Refusal::Malformed,
        "filter longer than the packet",
    ),
    // The rest
    (
        V311,
        b"\xc0\x01\x00",
        Refusal::Malformed,
        "PINGREQ with a body",
    ),
    (
        V5,
        b"\xc0\x01\x00",
        Refusal::Malformed,
        "PINGREQ with a body",
    ),
    (
        V311,
        b"\xe0\x01\x00",
        Refusal::Malformed,
        "DISCONNECT with a body in 3.x",
    ),
    (
        V5,
        b"\xe0\x01\x8b",
        Refusal::Protocol,
        "DISCONNECT with a code of servers",
    ),
    (
        V5,
        b"\xe0\x06\x00\x04\x1c\x00\x01s",
        Refusal::Protocol,
        "DISCONNECT with a server reference",
    ),
    (
        V5,
        b"\xe0\x06\x00\x04\x1f\x00\x01\x00",
        Refusal::Malformed,
        "U+0000 in a reason string",
    ),
    (V311, b"\xf0\x00", Refusal::Malformed, "AUTH in 3.x"),
    (V311, b"\x00\x00", Refusal::Malformed, "packet type 0"),
    (V311, b"\x10\x00", Refusal::Protocol, "a second CONNECT"),
    (V5, b"\x20\x00", Refusal::Protocol, "CONNACK from a client"),
    (V5, b"\x90\x00", Refusal::Protocol, "SUBACK from a client"),
    (V5, b"\xb0\x00", Refusal::Protocol, "UNSUBACK from a client"),
    (V5, b"\xd0\x00", Refusal::Protocol, "PINGRESP from a client"),
    (
        V5,
        b"\xc0\x80\x00",
        Refusal::Malformed,
        "a length that is not minimal",
    ),
    (
        V311,
        b"\x30\xff\xff\xff\xff",
        Refusal::Malformed,
        "a length of more than four bytes",
    ),
    (
        V311,
        b"\x30\xff\xff\xff\x7f",
        Refusal::PacketTooLarge,
        "a length above the limit",
    ),
];

/// Packets of every kind that are right: version and frame.
pub(in super::super) const VALID: &[(ProtocolVersion, &[u8])] = &[
    (V31, b"\x30\x08\x00\x03a/bpay"),
    (V311, b"\x30\x03\x00\x01a"),
    (V311, b"\x3b\x08\x00\x01a\x00\x07pay"),
    (V311, b"\x34\x08\x00\x01a\x00\x07pay"),
    (V5, b"\x30\x07\x00\x01a\x00pay"),
    (V5, b"\x32\x0b\x00\x01a\x00\x07\x02\x01\x01pay"),
    (V5, b"\x30\x0c\x00\x01a\x05\x02\x00\x00\x00\x00pay"),
    (V5, b"\x30\x0a\x00\x01a\x03\x23\x00\x02pay"),
    (V311, b"\x40\x02\x00\x01"),
    (V5, b"\x40\x03\x00\x01\x87"),
    (V5, b"\x50\x08\x00\x01\x80\x04\x1f\x00\x01r"),
    (V311, b"\x50\x02\x00\x01"),
    (V311, b"\x62\x02\x00\x01"),
    (V311, b"\x70\x02\x00\x01"),
    (V5, b"\x62\x03\x00\x01\x92"),
    (V311, b"\x82\x0a\x00\x01\x00\x01a\x01\x00\x01#\x02"),
    (V5, b"\x82\x09\x00\x01\x02\x0b\x05\x00\x01a\x2d"),
    (V5, b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x01"),
    (V311, b"\xa2\x05\x00\x01\x00\x01a"),
    (V5, b"\xa2\x06\x00\x01\x00\x00\x01a"),
    (V311, b"\xc0\x00"),
    (V5, b"\xc0\x00"),
    (V311, b"\xe0\x00"),
    (V5, b"\xe0\x00"),
    (V5, b"\xe0\x01\x04"),
    (V5, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x09"),
];

#[test]
fn a_header_is_refused_before_its_packet_has_come() {
    for (bytes, refusal) in [
        (&b"\x30\xff\xff\x7f"[..], Refusal::PacketTooLarge),
        (b"\x60", Refusal::Malformed),
        (b"\x10", Refusal::Protocol),
        (b"\x38", Refusal::Malformed),
    ] {
        assert_eq!(peek(bytes, Some(V5), 1024), Err(refusal), "{bytes:02x?}");
    }
}

#[test]
fn the_limit_counts_the_header() {
    let frame = b"\x30\x03\x00\x01a";
    assert_eq!(
        peek(frame, Some(V311), 5),
        Ok(Some(Frame {
            first: 0x30,
            body_at: 2,
            end: 5
        }))
    );
    assert_eq!(peek(frame, Some(V311), 4), Err(Refusal::PacketTooLarge));
}

#[test]
fn only_a_connect_may_come_first() {
    for first in 0..=u8::MAX {
        let expected = if first == 0x10 {
            Ok(None)
        } else {
            Err(Refusal::Malformed)
        };
        assert_eq!(peek(&[first], None, 1024), expected, "{first:02x}");
    }
}

#[test]
fn a_frame_that_has_not_come_whole_is_waited_for() {
    for (version, frame) in VALID {
        for length in 0..frame.len() {
            assert_eq!(peek(&frame[..length], Some(*version), 1024), Ok(None));
        }
        let whole = peek(frame, Some(*version), 1024).unwrap().unwrap();
        assert_eq!(whole.end, frame.len());
    }
}

#[test]
fn headers_with_wrong_flags_or_types_are_refused_in_every_version() {
    // 5.0: [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1].
    // 3.1.1: [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1].
    let good = |version: ProtocolVersion, first: u8| match first >> 4 {
        3 => !matches!(first & 0x06, 0x06) && (first & 0x06 != 0 || first & 0x08 == 0),
        4 | 5 | 7 | 12 | 14 => first & 0x0F == 0,
        6 | 8 | 10 if version == V31 => first & 0x07 == 2,
        6 | 8 | 10 => first & 0x0F == 2,
        15 => version == V5 && first == 0xF0,
        _ => false,
    };
    for version in [V31, V311, V5] {
        for first in 0..=u8::MAX {
            assert_eq!(
                peek(&[first, 0], Some(version), 1024).is_ok(),
                good(version, first),
                "{version:?} {first:02x}"
            );
        }
    }
}

/// CONNECT bodies that the codec takes wrongly.
pub(in super::super) const CONNECT_HOLES: &[(&[u8], Refusal, &str)] = &[
    (
        b"\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a",
        Refusal::Malformed,
        "reserved flag",
    ),
    (
        b"\x00\x04MQTT\x04\x0a\x00\x3c\x00\x01a",
        Refusal::Malformed,
        "will QoS without will",
    ),
    (
        b"\x00\x04MQTT\x04\x22\x00\x3c\x00\x01a",
        Refusal::Malformed,
        "will retain without will",
    ),
    (
        b"\x00\x04MQTT\x05\x22\x00\x3c\x00\x00\x01a",
        Refusal::Malformed,
        "will retain without will",
    ),
    (
        b"\x00\x04MQTT\x04\x1e\x00\x3c\x00\x01a\x00\x01w\x00\x00",
        Refusal::Malformed,
        "will QoS 3",
    ),
    (
        b"\x00\x04MQTT\x04\x42\x00\x3c\x00\x01a\x00\x01p",
        Refusal::Malformed,
        "password without user name in 3.x",
    ),
    (
        b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01ax",
        Refusal::Malformed,
        "bytes behind the end",
    ),
    (
        b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01ax",
        Refusal::Malformed,
        "bytes behind the end",
    ),
    (
        b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01ax",
        Refusal::Malformed,
        "bytes behind the end",
    ),
    (
        b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x02a\x00",
        Refusal::Malformed,
        "U+0000 in the client id",
    ),
    (
        b"\x00\x04MQTT\x04\x82\x00\x3c\x00\x01a\x00\x01\x00",
        Refusal::Malformed,
        "U+0000 in the user name",
    ),
    (
        b"\x00\x04MQTT\x04\x06\x00\x3c\x00\x01a\x00\x01\x00\x00\x00",
        Refusal::Malformed,
        "U+0000 in the will topic",
    ),
    (
        b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x02a",
        Refusal::Malformed,
        "client id longer than the packet",
    ),
    (b"\x00\x04MQTT\x04\x02\x00", Refusal::Malformed, "cut off"),
    (
        b"\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00\x00\x01a",
        Refusal::Protocol,
        "receive maximum 0",
    ),
    (
        b"\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\x00\x00\x00\x00\x00\x01a",
        Refusal::Protocol,
        "maximum packet size 0",
    ),
    (
        b"\x00\x04MQTT\x05\x02\x00\x3c\x04\x16\x00\x01d\x00\x01a",
        Refusal::Protocol,
        "auth data without method",
    ),
    (
        b"\x00\x04MQTT\x05\x02\x00\x3c\x04\x15\x00\x01\x00\x00\x01a",
        Refusal::Malformed,
        "U+0000 in the auth method",
    ),
    (
        b"\x00\x04MQTT\x05\x06\x00\x3c\x00\x00\x01a\x04\x08\x00\x01+\x00\x01w\x00\x00",
        Refusal::Protocol,
        "wildcard in the will's response topic",
    ),
    (
        b"\x00\x04MQTT\x05\x02\x00\x3c\x09\x00\x01a",
        Refusal::Malformed,
        "properties longer than the packet",
    ),
];

#[test]
fn a_bad_connect_is_refused() {
    for (body, refusal, why) in CONNECT_HOLES {
        let version = version(body).unwrap();
        assert_eq!(connect(version, body), Err(*refusal), "{why}");
    }
}

#[test]
fn names_and_levels_say_how_to_answer() {
    for (body, expected) in [
        (&b"\x00\x06MQIsdp\x03"[..], Ok(V31)),
        (b"\x00\x04MQTT\x04", Ok(V311)),
        (b"\x00\x04MQTT\x05", Ok(V5)),
        (b"\x00\x06MQIsdp\x04", Err(UnknownVersion::Old)),
        (b"\x00\x04MQTT\x03", Err(UnknownVersion::Old)),
        (b"\x00\x06MQIsdp\x83", Ok(V31)),
        (b"\x00\x04MQTT\x84", Ok(V311)),
        (b"\x00\x06MQIsdp\x84", Err(UnknownVersion::Old)),
        (b"\x00\x04MQTT\x83", Err(UnknownVersion::Old)),
        (b"\x00\x04MQTT\x85", Err(UnknownVersion::Old)),
        (b"\x00\x04MQTT\x06", Err(UnknownVersion::New)),
        (b"\x00\x04HTTP\x04", Err(UnknownVersion::Foreign)),
        (b"\x00\x04MQTT", Err(UnknownVersion::Foreign)),
        (b"", Err(UnknownVersion::Foreign)),
    ] {
        assert_eq!(version(body), expected, "{body:02x?}");
    }
}
