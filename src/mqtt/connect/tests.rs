use outlive_actors::model::packet::ProtocolVersion::{V5, V31, V311};
use proptest::prelude::*;

use super::super::guard::tests::CONNECT_HOLES;
use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn read(body: &[u8]) -> Result<ConnectPacket, Refused> {
    let bytes = frame_of(body);
    let frame = guard::peek(&bytes, None, 100_000).unwrap().unwrap();
    decode(&WireConfig::default(), frame, &bytes, NOW)
}

#[test]
fn no_hole_of_the_codec_is_open() {
    for (body, refusal, why) in CONNECT_HOLES {
        assert_eq!(
            read(body).map(drop).map_err(|refused| refused.refusal),
            Err(*refusal),
            "{why}"
        );
    }
}

#[test]
fn a_connect_of_3_1_is_read_as_one_of_3_1_1_and_remembered() {
    let packet = read(b"\x00\x06MQIsdp\x03\x00\x00\x3c\x00\x03abc").unwrap();
    assert_eq!(packet.version, V31);
    assert_eq!(&*packet.client_id, "abc");
    assert_eq!(packet.keep_alive_seconds, 60);
    assert!(!packet.clean_start);
    assert_eq!(packet.expiry_seconds, u32::MAX);
}

#[test]
fn a_3_1_client_may_announce_a_user_name_and_a_password_and_send_none() {
    let name = Some("u");
    let word = Some(&b"p"[..]);
    for (flags, fields, expected) in [
        (0x82, &b""[..], (None, None)),
        (0xC2, b"", (None, None)),
        (0xC2, b"\x00\x01u", (name, None)),
        (0xC2, b"\x00\x01u\x00\x01p", (name, word)),
    ] {
        let head = |start: &[u8]| [start, &[flags][..], b"\x00\x3c\x00\x01c", fields].concat();
        for start in [&b"\x00\x06MQIsdp\x03"[..], b"\x00\x06MQIsdp\x83"] {
            let packet = read(&head(start)).unwrap();
            let found = (packet.user_name.as_deref(), packet.password.as_deref());
            assert_eq!(found, expected, "{flags:#04x} {fields:02x?}");
        }
        let later = read(&head(b"\x00\x04MQTT\x04")).map(drop);
        let is_whole = fields.len() == 6;
        assert_eq!(later.is_ok(), is_whole, "{flags:#04x} {fields:02x?}");
    }
    for (flags, fields, why) in [
        (0x42, &b""[..], "no user name but a password"),
        (0x82, b"\x00", "half a length"),
        (0x82, b"\x00\x02u", "half a user name"),
        (0xC2, b"\x00\x01u\x00", "half a length of a password"),
        (0x82, b"\x00\x01u\x00\x01p", "a password without its flag"),
    ] {
        let head = b"\x00\x06MQIsdp\x03";
        let body = [&head[..], &[flags], b"\x00\x3c\x00\x01c", fields].concat();
        assert_eq!(
            read(&body).unwrap_err().refusal,
            Refusal::Malformed,
            "{why}"
        );
    }
}

#[test]
fn a_bridge_of_3_x_is_read_as_a_client_and_remembered() {
    for (start, version, is_bridge) in [
        (&b"\x00\x06MQIsdp\x03"[..], V31, false),
        (b"\x00\x06MQIsdp\x83", V31, true),
        (b"\x00\x04MQTT\x04", V311, false),
        (b"\x00\x04MQTT\x84", V311, true),
    ] {
        let packet = read(&[start, b"\x00\x00\x3c\x00\x03abc"].concat()).unwrap();
        assert_eq!((packet.version, packet.is_bridge), (version, is_bridge));
        assert_eq!(&*packet.client_id, "abc");
    }
}

#[test]
fn a_connect_of_3_1_1_with_everything_keeps_everything() {
    let packet =
        read(b"\x00\x04MQTT\x04\xf6\x00\x0a\x00\x01c\x00\x01w\x00\x03bye\x00\x01u\x00\x02\x00p")
            .unwrap();
    assert_eq!(packet.version, V311);
    assert!(packet.clean_start);
    assert_eq!(packet.expiry_seconds, 0);
    assert_eq!(packet.receive_max, 65_535);
    assert_eq!(packet.user_name.as_deref(), Some("u"));
    assert_eq!(packet.password.as_deref(), Some(&b"\x00p"[..]));
    let will = packet.will.unwrap();
    assert_eq!(will.message.topic(), "w");
    assert_eq!(will.message.payload(), b"bye");
    assert_eq!(will.message.qos, QoS::ExactlyOnce);
    assert!(will.message.retain);
    assert_eq!((will.delay_seconds, will.expiry_seconds), (0, None));
}

#[test]
fn a_connect_of_5_0_with_everything_keeps_everything() {
    // Session expiry 9, receive maximum 2, maximum packet size 256; will delay 3, user property, expiry 4.
    let body = b"\x00\x04MQTT\x05\x0c\x00\x0a\x0d\x11\x00\x00\x00\x09\x21\x00\x02\x27\x00\x00\x01\x00\x00\x01c\
        \x11\x18\x00\x00\x00\x03\x26\x00\x01k\x00\x01v\x02\x00\x00\x00\x04\x00\x01w\x00\x03bye";
    let packet = read(body).unwrap();
    assert_eq!(packet.version, V5);
    assert_eq!(packet.expiry_seconds, 9);
    assert_eq!(packet.receive_max, 2);
    assert_eq!(packet.terms.packet_bytes_max, 256);
    let will = packet.will.unwrap();
    assert_eq!(will.message.properties(), b"\x26\x00\x01k\x00\x01v");
    assert_eq!(will.message.qos, QoS::AtLeastOnce);
    assert_eq!((will.delay_seconds, will.expiry_seconds), (3, Some(4)));
}

#[test]
fn a_will_may_expire_at_once() {
    let body =
        b"\x00\x04MQTT\x05\x04\x00\x0a\x00\x00\x01c\x05\x02\x00\x00\x00\x00\x00\x01w\x00\x00";
    assert_eq!(read(body).unwrap().will.unwrap().expiry_seconds, Some(0));
}

#[test]
fn a_5_0_client_may_send_a_password_without_a_user_name() {
    let packet = read(b"\x00\x04MQTT\x05\x42\x00\x0a\x00\x00\x01c\x00\x01p").unwrap();
    assert_eq!(packet.user_name, None);
    assert_eq!(packet.password.as_deref(), Some(&b"p"[..]));
}

#[test]
fn client_ids_follow_the_rules_of_their_version() {
    // MQTT 3.1: 1 to 23 characters.
    let strict = WireConfig {
        strict_v31_client_ids: true,
        ..WireConfig::default()
    };
    for (body, expected) in [
        // 3.1: 1 to 23 characters, whatever the clean session flag says.
        (&b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"[..], Some(V31)),
        (
            b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x17aaaaaaaaaaaaaaaaaaaaaaa",
            None,
        ),
        (
            b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x18aaaaaaaaaaaaaaaaaaaaaaaa",
            Some(V31),
        ),
        // 3.1.1: empty only with clean session.
        (b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00", None),
        (b"\x00\x04MQTT\x04\x00\x00\x00\x00\x00", Some(V311)),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x18aaaaaaaaaaaaaaaaaaaaaaaa",
            None,
        ),
        // 5.0: the broker assigns one.
        (b"\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00", None),
    ] {
        let bytes = frame_of(body);
        let frame = guard::peek(&bytes, None, 100_000).unwrap().unwrap();
        let found = decode(&strict, frame, &bytes, NOW).err().map(|refused| {
            assert_eq!(refused.refusal, Refusal::ClientId);
            refused.answer.unwrap()
        });
        assert_eq!(found, expected, "{body:02x?}");
        // Too long is none unless that is asked for.
        let is_too_long = body[0..8] == *b"\x00\x06MQIsdp" && body.len() > 14;
        let expected = expected.filter(|_| !is_too_long);
        assert_eq!(
            read(body).err().and_then(|refused| refused.answer),
            expected
        );
    }
}

#[test]
fn unknown_versions_are_answered_as_their_authors_understand() {
    for (body, answer) in [
        (&b"\x00\x04MQTT\x06\x02\x00\x00\x00\x00"[..], Some(V5)),
        (b"\x00\x04MQTT\x03\x02\x00\x00\x00\x00", Some(V311)),
        (b"\x00\x04MQTT\x85\x02\x00\x00\x00\x00", Some(V311)),
        (b"\x00\x06MQIsdp\x05\x02\x00\x00\x00\x00", Some(V311)),
        (b"\x00\x04SMTP\x04\x02\x00\x00\x00\x00", None),
    ] {
        assert_eq!(
            read(body).map(drop),
            Err(Refused {
                refusal: Refusal::Version,
                answer
            }),
            "{body:02x?}"
        );
    }
}

#[test]
fn a_will_needs_a_topic_without_wildcards() {
    let refused = read(b"\x00\x04MQTT\x04\x06\x00\x0a\x00\x01c\x00\x01#\x00\x00").unwrap_err();
    assert_eq!(refused.refusal, Refusal::TopicName);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(read(&body));
    }

    #[test]
    fn no_bytes_behind_a_valid_name_make_it_panic(
        level in 3_u8..6,
        tail in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..100),
    ) {
        let name: &[u8] = if level == 3 { b"\x00\x06MQIsdp" } else { b"\x00\x04MQTT" };
        drop(read(&[name, &[level], &tail].concat()));
    }
}
